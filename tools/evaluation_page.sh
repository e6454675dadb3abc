#!/bin/sh
# Puts a report of `diffscm evaluate` into a page of the documentation: everything below the page's
# marker line is replaced, charts go into a folder named like the page.
#
# usage: tools/evaluation_page.sh [--sheets] REPORT_DIR docs/PAGE.md
#   --sheets  the pictures of items too (only where the data's licence allows showing them)
set -eu
sheets=
[ "${1:-}" != --sheets ] || { sheets=1; shift; }
[ $# -eq 2 ] || { sed -n '5,6s/^# \{0,1\}//p' "$0" >&2; exit 2; }
report=$1 page=$2
folder=${page%.md}
marker='<!-- Below: the report as written by the program. -->'
grep -qxF "$marker" "$page" || { echo "$page: has no line $marker" >&2; exit 1; }
mkdir -p "$folder"
for chart in curve frontier composition; do
    [ ! -e "$report/$chart.svg" ] || cp "$report/$chart.svg" "$folder/"
done
[ -z "$sheets" ] || cp "$report"/sheet-*.png "$folder/"
new=$(mktemp)
{
    sed "/^$marker\$/q" "$page"
    # Without the title; folders of one machine become names.
    awk -v sheets="$sheets" '
        NR == 1 { next }
        /^## Sheets/ { hide = !sheets }
        /^## What was measured/ { hide = 0 }
        !hide' "$report/report.md" |
        sed -e "s#](\([a-z]*[-.]\)#](${folder##*/}/\1#" -e 's#--data [^ ]*#--data DATA_DIR#' \
            -e 's#--report [^ ]*#--report REPORT_DIR#' -e 's#--model [^ ]*/\([^ /]*\)#--model \1#'
} >"$new"
cat "$new" >"$page"
rm -f "$new"
