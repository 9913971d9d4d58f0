#!/usr/bin/env bash
# The CPU library under the address and undefined-behavior sanitizers: builds it with them in
# build/sanitize and runs tests and the property tests of tests/hostile against it. torch allocates
# through the sanitizer, too, so a kernel that leaves its tensors is found wherever it reads.
#
#     scripts/sanitize.sh                  # tests/ops tests/native tests/hostile
#     scripts/sanitize.sh tests/ops -k eadm_pool
#     EXAMPLES=20000 scripts/sanitize.sh tests/hostile      # that many calls of each function and op
#     scripts/sanitize.sh tests/hostile/test_ops.py -rP     # torch.ops.aimclr_fast.*, with counts
#
# Needs g++ with its sanitizers, CMake, Ninja and pybind11; python is that of the environment.
# Any finding ends the test's process, and so fails the test.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

build=build/sanitize
cmake -S . -B "$build" -G Ninja -DAIMCLR_SANITIZE=ON -DAIMCLR_CUDA=OFF \
    -DPython_EXECUTABLE="$(command -v python)" \
    -Dpybind11_DIR="$(python -m pybind11 --cmakedir)" >/dev/null
cmake --build "$build"

# The package as it is, but for the library.
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
cp -r aimclr_fast "$scratch"
rm -f "$scratch"/aimclr_fast/_native*.so
cmake --install "$build" --prefix "$scratch/aimclr_fast" >/dev/null

libraries=$(g++ -print-file-name=libasan.so):$(g++ -print-file-name=libubsan.so)
# Leaks of Python and torch at exit are theirs; failed allocations have to come back as errors.
export ASAN_OPTIONS=detect_leaks=0:allocator_may_return_null=1:abort_on_error=0:halt_on_error=1
export UBSAN_OPTIONS=print_stacktrace=1:halt_on_error=1
export PYTHONPATH=$scratch OMP_NUM_THREADS=${OMP_NUM_THREADS:-2} PYTHONDONTWRITEBYTECODE=1
export HOSTILE_EXAMPLES=${EXAMPLES:-}
[[ $# -gt 0 ]] || set -- tests/ops tests/native tests/hostile
# -P: not the checkout's package, which has another library.
LD_PRELOAD=$libraries python -P -c 'from aimclr_fast import native; print(native.load().__file__)'
# nvcc cannot run under a preloaded sanitizer, and its kernels are not of this library.
LD_PRELOAD=$libraries pytest -q -p no:cacheprovider -m "not cuda" \
    --ignore=tests/native/test_cuda_build.py --ignore=tests/native/test_skeleton_augment_cuda.py "$@"
