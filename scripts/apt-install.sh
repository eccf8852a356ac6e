#!/bin/sh
# Usage: apt-install.sh COMMAND PACKAGE WHY. Installs PACKAGE when COMMAND (or the file, if it is a path) is missing and root
# runs this; says what to do otherwise.
set -eu
command=$1 package=$2 why=$3
PATH=$PATH:/usr/sbin:/sbin
if command -v "$command" >/dev/null || [ -e "$command" ]; then exit 0; fi
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    echo "make: $command is missing: $why. Install it (Debian: sudo apt install $package)." >&2
    if [ -n "${CI:-}" ]; then exit 1; else exit 0; fi
fi
export DEBIAN_FRONTEND=noninteractive
install() { apt-get install -y -q --no-install-recommends -o DPkg::Lock::Timeout=600 "$package"; }
install || { apt-get update -q && install; } # a fresh machine has no lists of packages, or old ones
