#!/bin/sh
# One stage of a make target: a line before and after it, and what it printed only when it fails.
#
#   tools/stage.sh NAME COMMAND...       V=1: everything is shown as it comes
set -u
name=$1
shift
[ -z "${V:-}" ] || exec "$@"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
trap 'exit 130' INT TERM
printf '%s ... ' "$name"
start=$(date +%s)
if "$@" >"$log" 2>&1; then
    echo "done ($(($(date +%s) - start)) s)"
else
    status=$?
    echo "failed"
    cat "$log" >&2
    exit $status
fi
