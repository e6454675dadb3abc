#!/bin/bash
# The layers: cli -> server -> api -> core. Fails on an include or an undefined symbol that points
# the wrong way.   tests/layers/run.sh BUILD_DIR
set -u
cd "$(dirname "$0")/../.."
build=${1:?BUILD_DIR}
passed=0 failed=0

# name, lines found (empty = good)
verdict() {
    if [ -z "$2" ]; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        echo "  FAIL layers/$1:"
        echo "$2" | head -n 20 | sed 's/^/    /'
    fi
}
includes() { # pattern, folders...
    local pattern=$1
    shift
    grep -rnE "^ *# *include *[<\"]($pattern)" "$@" --include='*.c' --include='*.h'
}
symbols() { # archive, pattern
    nm -A -u "$1" 2>/dev/null | grep -E " U ($2)"
}

verdict core-includes "$(includes '(api|server|cli|tests)/|microhttpd|sys/socket|netinet|arpa/' core)"
verdict api-includes "$(includes '(server|cli|tests)/|microhttpd|cblas|png\.h|jpeglib|sys/socket|netinet|arpa/' api)"
verdict server-includes "$(includes '(cli|tests)/|cblas|png\.h|jpeglib' server)"
verdict cli-includes "$(includes 'tests/|microhttpd|cblas|png\.h|jpeglib' cli)"
verdict only-openblas-has-blas "$(includes 'cblas|dlfcn' core api server cli | grep -v '^core/kernels/openblas\.[ch]:')"
verdict only-kernels-have-openblas "$(includes 'core/kernels/openblas' core api server cli | grep -v '^core/kernels/')"
verdict only-png-has-libpng "$(includes 'png\.h' core api server cli | grep -v '^core/image/png\.c:')"
verdict only-jpeg-has-libjpeg "$(includes 'jpeglib' core api server cli | grep -v '^core/image/jpeg\.c:')"
verdict only-archive-has-libarchive "$(includes 'archive(_entry)?\.h' core api server cli | grep -v '^core/data/archive\.c:')"
# jansson's own functions leave out what they have no memory for.
verdict only-json-reads-and-writes-json "$(grep -rnE 'json_(loads|loadb|loadf|loadfd|load_file|load_callback|dumps|dumpf|dumpfd|dump_file|dump_callback)\(' \
    core api server cli --include='*.[ch]' | grep -v '^core/io/json\.c:')"
# Closing a stream in memory does not say that memory was short.
verdict only-text-stream-prints-to-memory "$(grep -rnE 'open_memstream' core api server cli --include='*.[ch]' | grep -v '^core/io/text_stream\.c:')"
verdict only-http-has-microhttpd "$(includes 'microhttpd' core api server cli | grep -v '^server/http[a-z_]*\.[ch]:')"
verdict only-journal-has-sqlite "$(includes 'sqlite3' core api server cli | grep -v '^server/journal[a-z_]*\.[ch]:')"
verdict only-redis-has-hiredis "$(includes 'hiredis' core api server cli | grep -v '^server/redis\.c:')"
# The wall clock jumps: it is for log lines, and nothing may wait by it.
verdict no-waiting-by-the-wall-clock "$(grep -rnE 'CLOCK_REALTIME|gettimeofday' core api server cli --include='*.[ch]' | grep -v '^server/clock\.h:')"
# Public headers include public ones only, and the export list has their functions and no other.
public=$(mktemp -d)
sed -n 's/^#include "\(core[^"]*\)"/\1/p' include/diffscm/diffscm.h | xargs -I{} install -D -m 644 {} "$public/{}"
verdict public-headers-are-closed "$(comm -13 <(cd "$public" && find core -type f | sort) \
    <(sed -n 's/^ *# *include *"\([^"]*\)"/\1/p' $(find "$public" -type f) | sort -u))"
verdict public-functions-are-listed "$(python3 tests/install/public.py functions "$public" | diff - include/diffscm/symbols)"
rm -r "$public"
verdict rooms "$(python3 tests/layers/rooms.py)"
verdict rooms-of-symbols "$(python3 tests/layers/rooms.py --objects "$build" 2>&1)"
planted=$(mktemp -d)
mkdir -p "$planted/core/base" "$planted/core/nn"
echo '#include "core/nn/a.h"' >"$planted/core/base/b.h"
echo '#include "core/base/b.h"' >"$planted/core/nn/a.h"
verdict a-planted-cycle-is-found "$(python3 tests/layers/rooms.py "$planted" | grep -c '^cycle' | grep -v 1)"
rm -r "$planted"
verdict rooted-includes "$(grep -rnE '^ *# *include *"[^/"]*"' core api server cli --include='*.c' --include='*.h')"

sockets='socket|bind|listen|accept4?|connect|send|sendto|sendmsg|recv|recvfrom|recvmsg|getaddrinfo'
printing='printf|vprintf|puts|putchar|perror|exit|_exit|abort|quick_exit'
verdict core-symbols "$(symbols "$build/libdiffscm.a" ".*" | grep -E " U (MHD_|($printing|$sockets)(@|\$))")"
verdict api-symbols "$(symbols "$build/libdiffscm_api.a" '.*' | grep -E " U (MHD_|png_|jpeg_|cblas_|openblas_|($printing|$sockets)(@|\$))")"
verdict server-symbols "$(symbols "$build/libdiffscm_server.a" '.*' | grep -E ' U (png_|jpeg_|cblas_|openblas_|cmd_|cli_)')"

printf '%-28s %d passed, %d failed, 0 skipped\n' test_layers $passed $failed
[ $failed -eq 0 ]
