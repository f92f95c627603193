#!/bin/sh
# Makes sure that the build tools of the C libraries inside are there: installs them where that is allowed, else
# says what is missing.
set -u

missing=""
have() { command -v "$1" >/dev/null 2>&1; }
have cc || have gcc || missing="$missing gcc"
have c++ || have g++ || missing="$missing g++"
have cmake || missing="$missing cmake"
needed=$missing
# Without nasm everything works; H.264 is then encoded without its assembly, at several times the cost.
have nasm || missing="$missing nasm"
[ -z "$missing" ] && exit 0

if have apt-get && [ "$(id -u)" = 0 ]; then
    echo "installing$missing"
    # shellcheck disable=SC2086
    (apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing) >/dev/null && exit 0
elif have apt-get && have sudo && sudo -n true 2>/dev/null; then
    echo "installing$missing"
    # shellcheck disable=SC2086
    (sudo apt-get update -qq && sudo apt-get install -y -qq --no-install-recommends $missing) >/dev/null && exit 0
fi

if [ -z "$needed" ]; then
    echo "note: with nasm installed, re-encoding pictures would cost less" >&2
    exit 0
fi
echo "these are needed and not installed:$missing" >&2
echo "on Debian and Ubuntu: sudo apt-get install$missing" >&2
exit 1
