# Sourced by run.sh and profile.sh: unpacks the program of pack.sh, and defines `check`, which starts it.
packed=${1:?the folder with packed.tar.xz}
results=${2:?the folder of the results}
mkdir -p "$results"
unpacked=$(mktemp -d)
trap 'rm -rf "$unpacked"' EXIT
tar -C "$unpacked" -xJf "$packed/packed.tar.xz"
loader=$(ls "$unpacked"/lib/ld-linux* | head -1)
# The driver's library, and NVRTC from the CUDA toolkit or from Python's packages.
libraries=$unpacked/lib
for name in libcuda.so.1 libnvrtc.so.12 libnvrtc.so.13; do
  found=$(find /usr /opt "$HOME/.local" ${VIRTUAL_ENV:-} -name "$name" 2>/dev/null | head -1)
  [ -z "$found" ] || libraries=$libraries:$(dirname "$found")
done
check() {
  "$loader" --library-path "$libraries" "$unpacked/program" "$@"
}
