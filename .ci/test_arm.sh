#!/usr/bin/env bash
# Build the native module for ARM64 and run its tests under qemu, once as a processor with matrices of bytes (i8mm), once as one
# with dot products (dotprod). For Debian, as root once:
#   dpkg --add-architecture arm64 && apt-get update && apt-get install g++-aarch64-linux-gnu qemu-user
# usage: test_arm.sh PYTHON [arguments of pytest]     PYTHON has pip; 3.11, as Debian's for ARM64
set -euo pipefail
cd "$(dirname "$0")/.."
python=$1
shift
work=$PWD/build/arm
root=$work/root
site=$work/site

for tool in aarch64-linux-gnu-g++ qemu-aarch64; do
    command -v $tool >/dev/null || { echo "$tool is missing; the head of $0 says how to install it" >&2; exit 1; }
done
cmake -S engine/native -B "$work/native" -DCMAKE_SYSTEM_NAME=Linux -DCMAKE_SYSTEM_PROCESSOR=aarch64 \
    -DCMAKE_CXX_COMPILER=aarch64-linux-gnu-g++ -DCMAKE_BUILD_TYPE=Release -DEMBEDRT_WERROR=ON >/dev/null
cmake --build "$work/native" --parallel "$(nproc)"

# A Python for ARM64: Debian's packages, unpacked beside each other.
if [ ! -x "$root/usr/bin/python3.11" ]; then
    mkdir -p "$work/packages" "$root"
    (cd "$work/packages" && apt-get download python3.11-minimal:arm64 libpython3.11-{minimal,stdlib}:arm64 libc6:arm64 \
        libgcc-s1:arm64 libstdc++6:arm64 libexpat1:arm64 zlib1g:arm64 libssl3:arm64 libffi8:arm64 libbz2-1.0:arm64 \
        liblzma5:arm64 libsqlite3-0:arm64 libuuid1:arm64 libcrypt1:arm64)
    for package in "$work"/packages/*.deb; do dpkg -x "$package" "$root"; done
fi
if [ ! -d "$site" ]; then
    "$python" -m pip --disable-pip-version-check install --quiet --target "$site" --only-binary=:all: --no-deps \
        --platform manylinux2014_aarch64 --platform manylinux_2_28_aarch64 --python-version 3.11 --implementation cp \
        --constraint constraints.txt numpy tokenizers onnxruntime click rich markdown-it-py mdurl pygments \
        pytest pluggy iniconfig packaging hypothesis sortedcontainers
fi

run() { # PROCESSOR, then arguments of pytest
    echo "==> as $1"
    PYTHONPATH="$site:engine" EMBEDRT_TEST_LIBRARY=$work/native/_native.so qemu-aarch64 -L "$root" -cpu "$1" \
        "$root/usr/bin/python3.11" -m pytest -p no:cacheprovider --confcutdir=tests/native -q \
        -m "not slow and not bench and not exports" --ignore=tests/native/test_emitted.py "${@:2}"
}
# Clocks and forks of an emulated processor are not those that the other tests wait for.
files=(tests/native/test_kernels.py tests/native/test_specs.py tests/native/test_refusals.py)
run max -k "i8mm or dotprod" "${files[@]}" "$@"
run max -k "not is_not_imported" tests/native/test_tokenizer.py "$@"  # that one starts another Python
run neoverse-n1 -k dotprod "${files[@]}" "$@"
