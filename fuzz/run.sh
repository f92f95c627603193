#!/bin/sh
# fuzz/run.sh [SECONDS [TARGET...]]: runs each fuzz target for SECONDS (default 60), from its seeds.
# New inputs go to fuzz/corpus, a crash to fuzz/artifacts. Needs a nightly toolchain; installs cargo-fuzz.
set -eu
cd "$(dirname "$0")/.."
seconds=${1:-60}
[ $# -gt 0 ] && shift
tools=$PWD/.cache/tools
if ! command -v cargo-fuzz >/dev/null 2>&1; then
    [ -x "$tools/bin/cargo-fuzz" ] || cargo install cargo-fuzz --locked --root "$tools"
    PATH=$tools/bin:$PATH
fi
[ $# -gt 0 ] || set -- $(ls fuzz/seeds)
for target in "$@"; do
    mkdir -p "fuzz/corpus/$target"
    cargo +nightly fuzz run "$target" "fuzz/corpus/$target" "fuzz/seeds/$target" -- \
        -max_total_time="$seconds" -max_len=4096 -rss_limit_mb=2048
done
