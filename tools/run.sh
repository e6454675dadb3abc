#!/bin/sh
# The end of `make run`: starts the service and prints its page; without a service in the program,
# writes the demo sheet.
set -eu
program=${1:?PROGRAM}
port=${PORT:-8080}
if "$program" serve --help >/dev/null 2>&1; then
    echo "diffscm: the page is at http://localhost:$port/   (Ctrl-C stops the service)"
    exec "$program" serve --port "$port"
fi
exec "$program" demo --out build/demo.png
