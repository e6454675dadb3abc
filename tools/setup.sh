#!/bin/sh
# Installs what is missing to build, run, test, check or cross-compile diffscm: Debian packages, by name.
#
#   tools/setup.sh build|test|browser|check|arm64...        browser: npm, which fetches axe-core for tests/browser
#
# Works as root or through sudo, asks the package manager only when something is missing, and says
# what it does. On another system it names the packages and leaves their installation to the user.
set -eu

BUILD='gcc libc6-dev libmicrohttpd-dev libpng-dev libjpeg-dev libjansson-dev libopenblas-dev libarchive-dev libssl-dev libsqlite3-dev libhiredis-dev zlib1g-dev'
TEST='g++ pkg-config binutils python3 curl dataset-fashion-mnist chromium chromium-driver redis-server nginx-light python3-yaml python3-numpy'
ARM64='gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user-static'
CHECK='clang-format cppcheck binutils'

wanted=
for set in "$@"; do
    case $set in
    build) wanted="$wanted $BUILD" ;;
    test) wanted="$wanted $TEST" ;;
    arm64) wanted="$wanted $ARM64" ;;
    browser) command -v npm >/dev/null || wanted="$wanted npm" ;;
    check) wanted="$wanted $CHECK" ;;
    *)
        echo "tools/setup.sh: unknown set \"$set\": build, test, browser, check or arm64" >&2
        exit 2
        ;;
    esac
done

if ! command -v dpkg-query >/dev/null; then
    echo "setup: not a Debian system; needed are the equivalents of:$wanted"
    exit 0
fi

missing=
for package in $wanted; do
    status=$(dpkg-query -W -f='${Status}' "$package" 2>/dev/null || true)
    [ "$status" = "install ok installed" ] || missing="$missing $package"
done
[ -n "$missing" ] || exit 0

as_root=
if [ "$(id -u)" -ne 0 ]; then
    if ! command -v sudo >/dev/null; then
        echo "setup: missing packages:$missing" >&2
        echo "setup: install them as root: apt-get install --no-install-recommends$missing" >&2
        exit 1
    fi
    as_root='sudo'
fi
echo "setup: installing with apt-get:$missing"
# Tests start servers of their own: the system's (redis, nginx) are installed, and not started.
policy=/usr/sbin/policy-rc.d
if [ ! -e $policy ] && case $missing in *redis-server* | *nginx*) true ;; *) false ;; esac; then
    printf '#!/bin/sh\nexit 101\n' | $as_root tee $policy >/dev/null
    $as_root chmod 755 $policy
else
    policy=
fi
log=$(mktemp)
trap 'rm -f "$log"; [ -z "$policy" ] || $as_root rm -f "$policy"' EXIT
install() {
    # shellcheck disable=SC2086  # a list of words
    $as_root env DEBIAN_FRONTEND=noninteractive apt-get -q -y -o Dpkg::Use-Pty=0 \
        install --no-install-recommends $missing >"$log" 2>&1
}
$as_root apt-get -q update >"$log" 2>&1 || {
    cat "$log" >&2
    echo "setup: apt-get update failed; trying with the package lists at hand" >&2
}
# A mirror may be renewed between the list and the download: fetch the lists again once.
install || { $as_root apt-get -q update >/dev/null 2>&1 && install; } || {
    cat "$log" >&2
    echo "setup: apt-get could not install:$missing" >&2
    exit 1
}
echo "setup: done"
