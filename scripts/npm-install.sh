#!/bin/sh
# Usage: npm-install.sh WHY. Installs the packages of package.json in node_modules/, and npm where it is missing. Where they
# cannot be had it says so; it fails under CI only, so who calls it looks whether node_modules/.installed is there.
set -eu
why=$1
cd "$(dirname "$0")/.."
if [ node_modules/.installed -nt package.json ]; then exit 0; fi
sh scripts/apt-install.sh npm npm "$why"
if command -v npm >/dev/null && npm install --no-progress --loglevel=error; then
    touch node_modules/.installed
    exit 0
fi
rm -f node_modules/.installed
echo "make: the packages of package.json are not installed: $why." >&2
if [ -n "${CI:-}" ]; then exit 1; fi
