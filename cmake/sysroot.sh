#!/bin/bash
# Makes .cache/sysroot: Debian's arm64 development libraries, unpacked, not installed. Several -dev packages (libfdt-dev,
# libssl-dev, ...) refuse to be installed for two architectures at once, so the cross build takes them from here.
# Usage: cmake/sysroot.sh   (needs: dpkg --add-architecture arm64; apt-get update). Does nothing when up to date.
set -eu
cd "$(dirname "$0")/.."
root=$PWD/.cache/sysroot debs=$PWD/.cache/debs
packages="libfdt-dev libfdt1 libssl-dev libssl3 libzstd-dev libzstd1 libxxhash-dev libxxhash0 libspdlog-dev libspdlog1.10
 libfmt-dev libfmt9 libprotobuf-dev libprotobuf-lite32 libprotobuf32 zlib1g-dev zlib1g libboost1.74-dev libcli11-dev
 nlohmann-json3-dev libexpected-dev libasio-dev"
specs=
for p in $packages; do
    case $p in libboost1.74-dev|libcli11-dev|nlohmann-json3-dev|libexpected-dev|libasio-dev) specs="$specs $p" ;; *) specs="$specs $p:arm64" ;; esac
done
stamp=$(apt-cache policy $specs | grep -E '^[a-z]|Candidate:')
[ -f "$root/.stamp" ] && [ "$(cat "$root/.stamp")" = "$stamp" ] && exit 0
echo "sysroot: unpacking Debian's arm64 libraries into .cache/sysroot"
mkdir -p "$debs"; rm -rf "$root"; mkdir -p "$root"
cd "$debs"
apt-get -q download -o APT::Sandbox::User=root $specs >/dev/null  # all at once: apt reads its lists anew each time it is called
for p in $packages; do
    dpkg -x "$(ls -t "$p"_*.deb | head -1)" "$root"
done
# Absolute links inside -dev packages (libz.so -> /lib/aarch64-linux-gnu/libz.so.1) must stay inside the sysroot.
find "$root" -type l -lname '/*' | while read -r l; do ln -sfn "$root$(readlink "$l")" "$l"; done
printf '%s\n' "$stamp" > "$root/.stamp"
