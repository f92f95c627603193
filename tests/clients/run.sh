#!/bin/sh
# Runs the tests with real clients, one file after the other: they share the machine's cores. Arguments name files.
set -eu
cd "$(dirname "$0")"
if [ $# -eq 0 ]; then set -- *.test.mjs; fi
status=0
for file in "$@"; do
    echo "# $file"
    node --test --test-reporter=spec "$file" || status=1
done
exit $status
