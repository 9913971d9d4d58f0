#!/usr/bin/env bash
# The temporal convolution of stgcn_block in bfloat16, direct and over frequencies, by width: two
# libraries that differ in AIMCLR_SPECTRAL_CHANNELS, timed in turns.
#
#     scripts/compare_temporal.sh benchmarks/results/temporal_convolution.csv
#
# Builds from the files of the library that was last built in this tree (pip install -e . or
# python setup.py build_ext --inplace), so it takes a minute. Measures on one thread.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
out=$(realpath -m "$1")
build=$(realpath build/cmake-*)
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

library() { # NAME CHANNELS
    cp "$build/libaimclr_cpu.a" "$scratch/$1.a"
    for name in stgcn_block stgcn_bf16_forward stgcn_bf16_backward; do
        g++ -std=c++17 -O3 -DNDEBUG -fPIC -fvisibility=hidden -fvisibility-inlines-hidden -Icsrc \
            -DAIMCLR_BF16_LEVELS -DAIMCLR_X86_LEVELS "-DAIMCLR_SPECTRAL_CHANNELS=$2" \
            -c "csrc/cpu/stgcn_block/$name.cpp" -o "$scratch/$name.cpp.o"
        ar r "$scratch/$1.a" "$scratch/$name.cpp.o"
    done
    mkdir "$scratch/$1"
    g++ -shared -o "$scratch/$1/_native$(python -c 'import sysconfig; print(sysconfig.get_config_var("EXT_SUFFIX"))')" \
        "$build"/CMakeFiles/_native.dir/Unity/*.o "$build"/CMakeFiles/_native.dir/build_facts.cpp.o \
        "$scratch/$1.a" -ldl -pthread
}

library direct 1000000
library frequencies 1
${MEASURE_UNDER:-} python scripts/compare_temporal.py "$scratch"/direct/*.so "$scratch"/frequencies/*.so "$out"
