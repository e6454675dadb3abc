#!/bin/bash
# Runs the tests of one build and sums up their summary lines.
#
#   tests/run.sh [--unit] BUILD_DIR [NAME]     --unit: C programs that need no server; NAME, a regular expression, filters them
#
# As many run at a time as there are processors (TEST_JOBS).
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
trap '[ $BASHPID != $$ ] || rm -rf "$folder"' EXIT # not when a pipe's end fails

remember() { # name, file of what it printed: said again at the end
    { grep -a -B 3 -A 40 FAIL "$2" || tail -n 12 "$2"; } | grep -avE '^ *ok |^--$|^ *$' | tail -n 12 | cut -c -200 |
        sed "s/^/$1: /" >>"$folder/faults"
}
account() { # name, exit status, seconds, file of what it printed
    local name=$1 status=$2 output=$4 line
    [ "$status" -eq 0 ] || remember "$name" "$output"
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

# "NAME command" per line, what takes longest first, so that none is left over at the end.
suites=()
if [ -z "$unit" ]; then
    http=$build/tests/http/test_http
    [ -x "$http" ] && [[ $http =~ $only ]] && suites+=("test_http ${TEST_RUN:-} $http")
    [ -f tests/cli/run.py ] && suites+=("cli python3 tests/cli/run.py $build/diffscm")
    [ -f tests/deploy/run.py ] && suites+=("deploy python3 tests/deploy/run.py $build/diffscm")
    [ -f tests/api/docs.py ] && suites+=("api-docs python3 tests/api/docs.py $build/diffscm")
    suites+=("layers tests/layers/run.sh $build")
    [ "${build##*/}" = release ] && suites+=("install tests/install/run.sh $build")
fi
for program in $(find "$build/tests" -name 'test_*' -type f -perm -u+x ! -path '*/tests/http/*' | sort); do
    [[ $program =~ $only ]] && suites+=("${program##*/} ${TEST_RUN:-} $program")
done

export folder
run() { # jobs; reads "NUMBER command" per line
    xargs -r -P "$1" -L 1 bash -c '
        file=$folder/$1 start=$SECONDS
        shift
        timeout -k 10 1800 "$@" >"$file" 2>&1
        echo $? $((SECONDS - start)) >"$file.status"' bash
}
for ((i = 0; i < ${#suites[@]}; i++)); do echo "$i ${suites[i]#* }"; done | run "${TEST_JOBS:-$(nproc)}"
# A browser waits so long for a page and no longer: it has the machine for itself.
if [ -z "$unit" ] && [ -f tests/browser/run.py ]; then
    suites+=("browser python3 tests/browser/run.py $build/diffscm")
    last=$((${#suites[@]} - 1)) # what the loop before counted is gone with its pipe
    echo "$last ${suites[last]#* }" | run 1
fi
for ((i = 0; i < ${#suites[@]}; i++)); do
    read -r status took 2>/dev/null <"$folder/$i.status" || status=255 took=0
    account "${suites[i]%% *}" "$status" "$took" "$folder/$i"
done

# Said again where it is read first: the end.
[ $failed -eq 0 ] || tail -n 16 "$folder/faults"
echo "$passed passed, $failed failed, $skipped skipped"
[ $failed -eq 0 ] && [ $passed -gt 0 ]
