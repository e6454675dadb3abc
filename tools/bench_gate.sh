#!/bin/bash
# Fails when a ratio to the machine's own peak is worse than 1.5 times the recorded one.
#   tools/bench_gate.sh PROGRAM
set -eu
cd "$(dirname "$0")/.."
program=${1:?PROGRAM}
if [ ! -f bench/recorded.json ]; then
    echo "bench gate: bench/recorded.json does not exist; nothing to compare with"
    exit 0
fi
now=$(mktemp)
trap 'rm -f "$now"' EXIT
"$program" bench --quick --json >"$now"
python3 - bench/recorded.json "$now" <<'PYTHON'
import json, sys

def ratios(node, path=""):
    """Every "ratio" of the report by the names on the way to it."""
    if isinstance(node, dict):
        name = " ".join(str(node[k]) for k in ("name", "pass", "batch", "threads") if k in node)
        for key, value in node.items():
            if key == "ratio" and isinstance(value, (int, float)):
                yield f"{path}/{name}", value
            else:
                yield from ratios(value, f"{path}/{name or key}")
    elif isinstance(node, list):
        for item in node:
            yield from ratios(item, path)

recorded, now = (dict(ratios(json.load(open(path)))) for path in sys.argv[1:3])
compared = [(name, now[name] / recorded[name]) for name in recorded if name in now]
worse = [(name, factor) for name, factor in compared if factor > 1.5]
for name, factor in worse:
    print(f"bench gate: {name}: {factor:.2f} times the recorded ratio, at most 1.5")
print(f"bench gate: {len(compared)} ratios compared, {len(worse)} worse")
sys.exit(1 if worse or not compared else 0)
PYTHON
