#!/bin/bash
# What `make install` leaves: the library with its headers, built against as its users do, and the program.
#   tests/install/run.sh BUILD_DIR       the build that is tried must be the release
set -u
cd "$(dirname "$0")/../.."
build=${1:?BUILD_DIR}
passed=0 failed=0
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
stage=$root/stage prefix=/opt/diffscm
cc=${CC:-gcc} cxx=${CXX:-g++}

verdict() { # name, lines found (empty = good)
    if [ -z "$2" ]; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        echo "  FAIL install/$1:"
        echo "$2" | head -n 20 | sed 's/^/    /'
    fi
}
must() { # name, command...: good when it succeeds
    local name=$1 output
    shift
    output=$("$@" 2>&1) && output= || output="$* failed: ${output:-no output}"
    verdict "$name" "$output"
}
differ() { diff <(printf '%s\n' "$1") <(printf '%s\n' "$2"); }

# Another PREFIX than that of the build compiles nothing.
made=$(make --no-print-directory install PREFIX=$prefix DESTDIR="$stage" 2>&1) || {
    echo "$made" | tail -n 20
    printf '%-28s 0 passed, 1 failed, 0 skipped\n' test_install
    exit 1
}
verdict prefix-does-not-rebuild "$(grep -E -- ' -c .*\.c ' <<<"$made")"

# ---- what is exported ----
shared=$stage$prefix/lib/libdiffscm.so static=$stage$prefix/lib/libdiffscm.a
include=$stage$prefix/include/diffscm
version=$(sed -n 's/^#define DSCM_VERSION  *"\(.*\)"/\1/p' core/base/version.h)
declared=$(python3 tests/install/public.py functions "$include")
exported=$(nm -D --defined-only "$shared" | awk '$2 != "A" { sub(/@.*/, "", $3); print $3 }' | sort)
verdict exported-is-what-headers-declare "$(differ "$declared" "$exported")"
verdict exported-is-the-list "$(differ "$(cat include/diffscm/symbols)" "$exported")"
verdict static-exports-the-same "$(differ "$exported" "$(nm -g --defined-only "$static" | awk 'NF == 3 { print $3 }' | sort)")"
verdict exported-prefix "$(grep -v '^dscm_' <<<"$exported")"
verdict soname "$(readelf -d "$shared" | grep -q "SONAME.*\[libdiffscm\.so\.${version%.*}\]" || readelf -d "$shared")"
verdict symbol-versions "$(nm -D --defined-only "$shared" | awk '$2 != "A" { print $3 }' | grep -v "@@DSCM_${version%.*}\$")"

# ---- built against ----
export PKG_CONFIG_PATH=$stage$prefix/lib/pkgconfig PKG_CONFIG_SYSROOT_DIR=$stage
export LD_LIBRARY_PATH=$stage$prefix/lib
flags=$(pkg-config --cflags diffscm) libs=$(pkg-config --libs diffscm)
verdict pkg-config-version "$(differ "$version" "$(pkg-config --modversion diffscm)")"
for header in $(python3 tests/install/public.py headers "$include"); do
    echo "#include <diffscm/$header>" >"$root/alone.c"
    must "$header-in-C" $cc -std=c11 -pedantic -Wall -Wextra -Werror $flags -c "$root/alone.c" -o "$root/alone.o"
    must "$header-in-C++" $cxx -x c++ -std=c++11 -pedantic -Wall -Wextra -Werror $flags -c "$root/alone.c" -o "$root/alone.o"
done
python3 tests/install/public.py cpp "$include" >"$root/all.cpp"
must cpp-links $cxx -std=c++11 -Wall -Wextra -Werror $flags "$root/all.cpp" $libs -o "$root/all"
must cpp-runs "$root/all"

# The example, and the program beside it: the same picture from both, and from either form of the library.
cp examples/embed.c "$root"
must example-compiles $cc -std=c11 -Wall -Wextra -Werror $flags "$root/embed.c" $libs -lm -o "$root/embed"
must example-compiles-static $cc -std=c11 $flags "$root/embed.c" "$static" \
    $(pkg-config --static --libs diffscm | sed 's/-ldiffscm//') -o "$root/embed-static"
share=$stage$prefix/share/diffscm
ask=("$share/examples/mnist/5.png" digit=8)
must program-runs "$stage$prefix/bin/diffscm" counterfactual "${ask[0]}" --do "${ask[1]}" -o "$root/program.png"
for form in embed embed-static; do
    must $form-runs "$root/$form" "$share/models/mnist" "${ask[@]}" "$root/$form.png"
    must $form-agrees-with-the-program cmp "$root/$form.png" "$root/program.png"
done
said=$("$root/embed" "$share/models/mnist" "$share/examples/mnist/5.png" digit=x "$root/no.png" 2>&1)
verdict example-names-what-is-wrong "$(grep -q 'digit=\|label' <<<"$said" || echo "$said")"
said=$("$root/embed" "$share/models/mnist" "$root/none.png" digit=8 "$root/no.png" 2>&1)
verdict example-names-a-missing-file "$(grep -q 'none.png: .*No such file.*(io)' <<<"$said" || echo "$said")"
said=$("$root/embed" "$share/models/mnist" "${ask[@]}" "$root/none/no.png" 2>&1)
verdict example-names-what-it-cannot-write "$(grep -q 'no.png: .*No such file.*(io)' <<<"$said" || echo "$said")"

# ---- hardening ----
for file in "$stage$prefix/bin/diffscm" "$shared"; do
    name=${file##*/}
    headers=$(readelf -W -h -l -d "$file") imports=$(nm -D -u "$file")
    verdict "$name-position-independent" "$(grep -qE 'Type: *DYN' <<<"$headers" || echo "$headers")"
    verdict "$name-relro" "$(grep -q GNU_RELRO <<<"$headers" || echo "$headers")"
    verdict "$name-bind-now" "$(grep -qE 'BIND_NOW|FLAGS.*NOW' <<<"$headers" || echo "$headers")"
    verdict "$name-stack-not-executable" "$(grep -E 'GNU_STACK.*RWE' <<<"$headers")"
    verdict "$name-stack-protector" "$(grep -q __stack_chk_fail <<<"$imports" || echo "no __stack_chk_fail")"
    verdict "$name-fortified" "$(grep -q '__[a-z]*_chk@' <<<"$imports" || echo "no __memcpy_chk or other")"
done

# ---- and taken away ----
must make-uninstall make --no-print-directory uninstall PREFIX=$prefix DESTDIR="$stage"
verdict nothing-left "$(find "$stage" -type f -o -type l)"

printf '%-28s %d passed, %d failed, 0 skipped\n' test_install $passed $failed
[ $failed -eq 0 ]
