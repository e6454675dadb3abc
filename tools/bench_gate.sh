#!/bin/bash
# Fails when a ratio to the machine's own peak is worse than 1.5 times the recorded one.
#   tools/bench_gate.sh PROGRAM            compare, in about a minute
#   tools/bench_gate.sh PROGRAM --record   write this machine's ratios into bench/recorded.json
set -eu
cd "$(dirname "$0")/.."
exec python3 tools/bench_gate.py "$@"
