#!/bin/sh
# Makes the pictures of README.md anew: docs/images/sheet.png by `diffscm demo`, docs/images/page.png
# by a browser that asks the page for all values of the seven (needs chromium and chromedriver, and a
# service for itself). Both show the program at its defaults.
set -eu
cd "$(dirname "$0")/.."
[ -x build/diffscm ] || { echo "build/diffscm is not there: make first" >&2; exit 1; }
build/diffscm demo --out docs/images/sheet.png
python3 tests/browser/run.py build/diffscm --picture docs/images/page.png
