#!/bin/sh
# Packs a program with its loader and shared libraries, for a machine with an older C library.
#
#   pack.sh PROGRAM FOLDER [ROOT]     writes FOLDER/packed.tar.xz
#
# ROOT: the root of another system (for chroot) in which the program was built, and whose libraries it needs.
set -eu
program=${1:?the program}
folder=${2:?the folder of the archive}
root=${3:-}
stage=$(mktemp -d)
trap 'rm -rf "$stage"' EXIT
mkdir -p "$stage/lib" "$folder"
cp "$program" "$stage/program"
strip "$stage/program"
if [ -n "$root" ]; then
  cp "$program" "$root/tmp/program-to-pack"
  libraries=$(chroot "$root" ldd /tmp/program-to-pack)
  rm "$root/tmp/program-to-pack"
else
  libraries=$(ldd "$program")
fi
echo "$libraries" | awk '/=> \//{print $3} /^[[:space:]]*\/lib.*ld-/{print $1}' | while read -r library; do
  cp -L "$root$library" "$stage/lib/"
done
tar -C "$stage" -c . | xz -T0 -6 >"$folder/packed.tar.xz"
ls -l "$folder/packed.tar.xz"
