#!/bin/bash
# Checks of the sources themselves: layout, lengths, white space, layers, static analysis.
#   tools/check.sh BUILD_DIR
set -u
cd "$(dirname "$0")/.."
build=${1:?BUILD_DIR}
passed=0 failed=0 skipped=0

verdict() { # name, lines found (empty = good)
    if [ -z "$2" ]; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        echo "  FAIL check/$1:"
        echo "$2" | head -n 30 | sed 's/^/    /'
    fi
}
sources() { git ls-files '*.c' '*.h'; }
texts() { git ls-files '*.c' '*.h' '*.sh' '*.mk' '*.py' '*.md' '*.js' '*.css' '*.html' Makefile; }

# Other versions lay out a few constructs differently: version 14 (Debian 12) decides.
if [ "$(clang-format --version | grep -oE 'version [0-9]+')" = "version 14" ]; then
    verdict format "$(sources | xargs clang-format --dry-run --Werror 2>&1 | grep 'error:')"
else
    skipped=$((skipped + 1))
    echo "  skip check/format: needs clang-format 14, here is $(clang-format --version)"
fi
verdict length "$(sources | xargs wc -l | awk '$2 != "total" && $1 > 600 { print $2 ": " $1 " lines, at most 600" }')"
verdict white-space "$(texts | xargs grep -nE '[[:space:]]+$' 2>/dev/null | grep -v '\.md:')"
verdict tabs "$(sources | xargs grep -nP '\t')"
verdict unfinished "$(sources | xargs grep -nE '\b(TODO|FIXME|XXX)\b|^ *#if 0')"
verdict layers "$(tests/layers/run.sh "$build" | grep -A 20 FAIL)"
verdict cppcheck "$(nice cppcheck -q -j 2 --std=c11 --enable=warning,portability --inline-suppr -I. \
    --suppress=missingIncludeSystem --suppress=preprocessorErrorDirective \
    --suppressions-list=tools/cppcheck.txt --template='{file}:{line}: {id}: {message}' \
    core api server cli 2>&1)"

echo "check: $passed passed, $failed failed, $skipped skipped"
[ $failed -eq 0 ]
