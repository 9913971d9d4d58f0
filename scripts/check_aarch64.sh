#!/usr/bin/env bash
# Compiles the CPU kernels for 64-bit ARM, warnings being errors, and tests stgcn_block in QEMU.
# Needs (Debian): apt-get install g++-aarch64-linux-gnu qemu-user-static
#
#   scripts/check_aarch64.sh [FOLDER]      FOLDER of the build, by default build/aarch64
set -euo pipefail
cd "$(dirname "$0")/.."
build=${1:-build/aarch64}
for program in aarch64-linux-gnu-g++ qemu-aarch64-static; do
    command -v "$program" > /dev/null || { echo "$program was not found" >&2; exit 2; }
done
pybind11=$(python -c "import pybind11; print(pybind11.get_cmake_dir())")
cmake -S . -B "$build" -G Ninja -DCMAKE_TOOLCHAIN_FILE="$PWD/cmake/aarch64-linux-gnu.cmake" \
    -DAIMCLR_CUDA=OFF -DAIMCLR_WERROR=ON -Dpybind11_DIR="$pybind11"
cmake --build "$build" --target aimclr_cpu
python -m pytest -q tests/native/test_aarch64.py
