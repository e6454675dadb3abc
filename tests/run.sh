#!/bin/bash
# Runs the tests of one build and sums up their summary lines.
#
#   tests/run.sh [--unit] BUILD_DIR [NAME]     --unit: C programs that need no server; NAME, a regular expression, filters them
#
# C programs run as many at a time as there are processors (TEST_JOBS), the suites in Python one after another.
# TEST_RUN is put before each C program, such as an emulator of another processor.
# Every suite prints "<name> N passed, N failed, N skipped" last; one that does not (a crash, a
# time-out) counts as a failure. The last line is the sum; exit status 0 only when nothing failed.
set -u
cd "$(dirname "$0")/.."

unit=
[ "${1:-}" = --unit ] && { unit=1; shift; }
build=${1:?BUILD_DIR}
only=${2:-}
here=$PWD

export ASAN_OPTIONS="${ASAN_OPTIONS:-detect_leaks=1:allocator_may_return_null=1}"
export LSAN_OPTIONS="${LSAN_OPTIONS:-suppressions=$here/tests/suppressions/lsan.txt:print_suppressions=0}"
export TSAN_OPTIONS="${TSAN_OPTIONS:-suppressions=$here/tests/suppressions/tsan.txt:halt_on_error=1}"
export UBSAN_OPTIONS="${UBSAN_OPTIONS:-print_stacktrace=1}"

passed=0 failed=0 skipped=0
folder=$(mktemp -d)
output=$folder/output
trap 'rm -rf "$folder"' EXIT

suite() { # name, command...
    local name=$1 start=$SECONDS status
    shift
    timeout -k 10 900 "$@" >"$output" 2>&1
    status=$?
    account "$name" $status $((SECONDS - start)) "$output"
}

account() { # name, exit status, seconds, file of what it printed
    local name=$1 status=$2 output=$4 line
    [ "$3" -lt 30 ] || echo "  ($name took $3 s)"
    line=$(grep -aE '[0-9]+ passed, [0-9]+ failed' "$output" | tail -n 1)
    if [[ $line =~ ([0-9]+)\ passed,\ ([0-9]+)\ failed(,\ ([0-9]+)\ skipped)? ]]; then
        passed=$((passed + BASH_REMATCH[1]))
        failed=$((failed + BASH_REMATCH[2]))
        skipped=$((skipped + ${BASH_REMATCH[4]:-0}))
        if [ $status -ne 0 ] && [ "${BASH_REMATCH[2]}" -eq 0 ]; then
            failed=$((failed + 1))
            echo "FAIL $name: exit status $status after its summary"
            tail -n 40 "$output"
        else
            grep -a -v '^ *ok ' "$output" | tail -n 200
        fi
    else
        failed=$((failed + 1))
        echo "FAIL $name: no summary, exit status $status"
        tail -n 40 "$output"
    fi
}

programs=()
for program in $(find "$build/tests" -name 'test_*' -type f -perm -u+x | sort); do
    case $unit$program in 1*/tests/http/*) continue ;; esac
    [[ $program =~ $only ]] && programs+=("$program")
done
# The longest first, as far as known, so that none is left over at the end.
export folder
[ ${#programs[@]} -eq 0 ] || printf '%s\n' "${programs[@]}" | awk '{ print ($0 ~ /test_http$/ ? 0 : 1), $0 }' |
    sort -s -n -k 1,1 | cut -d ' ' -f 2- | xargs -P "${TEST_JOBS:-$(nproc)}" -I {} bash -c '
        file=$folder/${1//\//_} start=$SECONDS
        timeout -k 10 900 ${TEST_RUN:-} "$1" >"$file" 2>&1
        echo $? $((SECONDS - start)) >"$file.status"' bash {}
for program in "${programs[@]}"; do
    file=$folder/${program//\//_}
    read -r status took <"$file.status"
    account "${program##*/}" "$status" "$took" "$file"
done

if [ -z "$unit" ]; then
    suite layers tests/layers/run.sh "$build"
    [ "${build##*/}" = release ] && suite install tests/install/run.sh "$build"
    [ -f tests/cli/run.py ] && suite cli python3 tests/cli/run.py "$build/diffscm"
    [ -f tests/api/docs.py ] && suite api-docs python3 tests/api/docs.py "$build/diffscm"
    [ -f tests/browser/run.py ] && suite browser python3 tests/browser/run.py "$build/diffscm"
fi

echo "$passed passed, $failed failed, $skipped skipped"
[ $failed -eq 0 ] && [ $passed -gt 0 ]
