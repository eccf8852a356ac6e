#!/bin/sh
# Usage: mysql-install.sh FOLDER. Unpacks a real MySQL server into FOLDER/root, from Debian unstable, the one release of
# Debian that has it. It takes 60 MB from the mirror that apt uses, and leaves the packages and the lists of apt as they are.
# Where the server cannot be had, it says why and ends with 0: unstable moves, and the tests that need it are skipped then.
set -eu
folder=$1
root=$folder/root
if [ -x "$root/usr/sbin/mysqld" ]; then exit 0; fi
fail() {
    echo "make: no MySQL server: $1; the tests on a real MySQL are skipped." >&2
    exit 0
}
if ! command -v apt-get >/dev/null || ! command -v dpkg-deb >/dev/null; then fail "this is no Debian"; fi
# shellcheck disable=SC2016 # it is apt that expands it
mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | grep -E '/debian/?$' | sort -u | head -n 1)
[ -n "$mirror" ] || fail "apt has no mirror of Debian"
rm -rf "$folder"
mkdir -p "$folder/apt/lists/partial" "$folder/apt/archives/partial" "$folder/apt/etc" "$folder/unpacked"
folder=$(cd "$folder" && pwd)
root=$folder/root
apt=$folder/apt
: >"$apt/status" # nothing counts as installed, so all that the server needs is downloaded
keys=/usr/share/keyrings/debian-archive-keyring
[ -e "$keys.gpg" ] && keys=$keys.gpg || keys=$keys.pgp
echo "deb [signed-by=$keys] $mirror unstable main" >"$apt/etc/sources.list"
cat >"$apt/apt.conf" <<CONF
Dir::State "$apt";
Dir::State::lists "$apt/lists";
Dir::State::status "$apt/status";
Dir::Cache "$apt";
Dir::Cache::archives "$apt/archives";
Dir::Log "$apt";
Dir::Etc::sourcelist "$apt/etc/sources.list";
Dir::Etc::sourceparts "/dev/null";
Dir::Etc::preferences "/dev/null";
Dir::Etc::preferencesparts "/dev/null";
APT::Install-Recommends "false";
APT::Sandbox::User "";
Acquire::Languages "none";
Acquire::Retries "2";
Debug::NoLocking "true";
CONF
download() {
    export APT_CONFIG="$apt/apt.conf"
    timeout 300 apt-get -qq update && timeout 300 apt-get -qq -y --download-only install mysql-server-core
}
(download) >"$apt/log" 2>&1 || fail "$(grep . "$apt/log" | tail -n 1)"
for at in bin lib lib64 sbin; do # as in /usr of every Debian, before packages come that have files there
    mkdir -p "$folder/unpacked/usr/$at"
    ln -s "usr/$at" "$folder/unpacked/$at"
done
for package in "$apt"/archives/*.deb; do
    dpkg-deb --fsys-tarfile "$package" | tar -x -C "$folder/unpacked" --keep-directory-symlink --no-same-owner
done
rm -rf "$apt"
[ -x "$folder/unpacked/usr/sbin/mysqld" ] || fail "the package mysql-server-core has no /usr/sbin/mysqld"
mv "$folder/unpacked" "$root"
