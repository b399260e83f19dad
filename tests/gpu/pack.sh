#!/bin/sh
# Packs a program with its loader and shared libraries, for a machine with an older C library.
#
#   pack.sh PROGRAM FOLDER     writes FOLDER/packed.tar.xz
set -eu
program=${1:?the program}
folder=${2:?the folder of the archive}
stage=$(mktemp -d)
trap 'rm -rf "$stage"' EXIT
mkdir -p "$stage/lib" "$folder"
cp "$program" "$stage/program"
strip "$stage/program"
ldd "$program" | awk '/=> \//{print $3} /^[[:space:]]*\/lib.*ld-/{print $1}' | while read -r library; do
  cp -L "$library" "$stage/lib/"
done
tar -C "$stage" -c . | xz -T0 -6 >"$folder/packed.tar.xz"
ls -l "$folder/packed.tar.xz"
