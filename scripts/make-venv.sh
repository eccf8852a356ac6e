#!/bin/sh
# Usage: make-venv.sh PYTHON FOLDER. Makes a virtual environment; on Debian it installs python3-venv where that is missing.
set -eu
python=$1 folder=$2
if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
    echo "make: $python is older than 3.11; name a newer one: make PYTHON=python3.12 ..." >&2
    exit 1
fi
if ! "$python" -c 'import ensurepip' 2>/dev/null; then
    if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
        echo "make: $python cannot make virtual environments; install its venv package (Debian: apt install python3-venv)" >&2
        exit 1
    fi
    apt-get update -q && apt-get install -y -q python3-venv
fi
rm -rf "$folder"
exec "$python" -m venv "$folder"
