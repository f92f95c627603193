#!/bin/sh
# Installs what Viaduct is compared with, from packages only (Debian): Janus, and mediasoup 3 with the worker that Debian
# builds for its experimental distribution, since npm's package fetches or compiles one from elsewhere.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
cache=${COMPARE_CACHE:-$here/../../.cache/compare}
mirror=${DEBIAN_MIRROR:-http://deb.debian.org/debian}
mkdir -p "$cache"

missing=
for package in janus libsrtp2-1 libusrsctp2 libuv1 curl xz-utils; do
    dpkg -s "$package" >/dev/null 2>&1 || missing="$missing $package"
done
if [ -n "$missing" ]; then
    apt-get update -qq
    # shellcheck disable=SC2086 # a list
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >/dev/null
fi

if [ ! -s "$cache/worker.path" ]; then
    index=$mirror/dists/experimental/main/binary-$(dpkg --print-architecture)/Packages.xz
    file=$(curl -fsS "$index" | xz -dc |
        awk '/^Package: / { on = $2 == "mediasoup-worker" } on && /^Filename: / { print $2 }')
    curl -fsS -o "$cache/worker.deb" "$mirror/$file"
    dpkg -x "$cache/worker.deb" "$cache/worker"
    find "$cache/worker" -type f -name mediasoup-worker >"$cache/worker.path"
fi
[ -d "$cache/node_modules/mediasoup" ] ||
    npm install --prefix "$cache" --no-audit --no-fund --ignore-scripts --silent mediasoup@3.8.4
