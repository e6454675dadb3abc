#!/bin/sh
# The end of `make run`: the service, which prints its address when it answers. PORT, or DIFFSCM_PORT,
# chooses its port; log lines below warnings are left out unless V is set.
set -eu
program=${1:?PROGRAM}
[ -n "${V:-}" ] || export DIFFSCM_LOG_LEVEL="${DIFFSCM_LOG_LEVEL:-warn}"
exec "$program" serve ${PORT:+--port "$PORT"}
