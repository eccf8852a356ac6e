#!/bin/sh
# Usage: make-venv.sh PYTHON FOLDER. Makes a virtual environment; on Debian it installs the venv package where that is missing.
set -eu
python=$1 folder=$2
if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
    echo "make: $python is older than 3.11; name a newer one: make PYTHON=python3.12 ..." >&2
    exit 1
fi
if ! "$python" -c 'import ensurepip' 2>/dev/null; then
    package=$("$python" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')
    if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
        echo "make: $python cannot make virtual environments; install its venv package (Debian: apt install $package)" >&2
        exit 1
    fi
    apt-get update -q && apt-get install -y -q --no-install-recommends "$package"
fi
rm -rf "$folder"
exec "$python" -m venv "$folder"
