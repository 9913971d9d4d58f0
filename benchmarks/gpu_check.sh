#!/usr/bin/env bash
# Everything that needs a GPU, in one call of at most ten minutes: build for it, the tests marked
# `cuda`, a few of them under compute-sanitizer, the benchmarks. Needs torch, NumPy, PyYAML, Triton,
# nvcc, CMake, Ninja, pybind11, pytest and pytest-benchmark; no network, and no installation of this package.
#
#     benchmarks/gpu_check.sh              # results in benchmarks/results/gpu, or in $OUT
#
# AIMCLR_COMMIT  the commit that the results name, where there is no .git
# AIMCLR_CUDA_ARCHS  default: that of the GPU
# PARTS          some of: build tests memcheck racecheck benchmarks (default: all)
#
# A part that fails does not stop the next one. Each one's status is in $OUT/status.txt, its output
# in $OUT/PART.log; the exit code is 1 if any failed.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1

OUT=${OUT:-benchmarks/results/gpu}
mkdir -p "$OUT" || exit 1
OUT=$(cd "$OUT" && pwd) || exit 1
PARTS=${PARTS:-build tests memcheck racecheck benchmarks}
PYTHON=${PYTHON:-python3}
ENDS=$((SECONDS + 585)) # the whole, with a margin under ten minutes
STATUS=$OUT/status.txt
SCRATCH=$(mktemp -d)
trap 'rm -rf "$SCRATCH"' EXIT
export PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 AIMCLR_CUDA=ON
: >"$STATUS"
failed=0

# part NAME SECONDS LOG COMMAND...: run it under a time limit and note how it went.
part() {
    local name=$1 limit=$2 log=$OUT/$3.log began=$SECONDS left code note
    shift 3
    left=$((ENDS - SECONDS))
    ((limit > left)) && limit=$left
    printf '\n== %s (at most %d s)\n' "$name" "$limit"
    if ((limit < 5)); then
        code=124
    else
        # An interrupt first, so that pytest still writes its summary.
        timeout --signal=INT --kill-after=10 "$limit" "$@" >>"$log" 2>&1 </dev/null
        code=$?
    fi
    case $code in
        0) note=ok ;;
        124 | 137) note="FAILED: out of time" ;;
        *) note="FAILED: exit code $code" ;;
    esac
    ((code == 0)) || failed=1
    printf '%-24s %s (%d s)\n' "$name" "$note" "$((SECONDS - began))" | tee -a "$STATUS"
    ((code == 0)) || tail -n 25 "$log"
}

wanted() {
    [[ " $PARTS " == *" $1 "* ]]
}

run_pytest() {
    "$PYTHON" -m pytest -p no:cacheprovider "$@"
}
export -f run_pytest
export PYTHON

gpu_arch() {
    "$PYTHON" -c 'import torch; print("%d%d" % torch.cuda.get_device_capability())'
}

# Files with tests marked `cuda`: the others may import what is not installed here.
mapfile -t files < <(grep -rlE 'mark\.cuda' tests --include='test_*.py' | sort)

# shellcheck disable=SC2329  # called by name
environment() {
    nvidia-smi --query-gpu=name,driver_version --format=csv,noheader
    "${CUDACXX:-nvcc}" --version | tail -n 2
    "$PYTHON" -c 'import sys, torch; print("Python", sys.version.split()[0], "torch", torch.__version__)
assert torch.cuda.is_available(), "torch sees no CUDA device"'
}
export -f environment

rm -f "$OUT"/{environment,build,tests,memcheck,racecheck,benchmarks}.log
part environment 60 build bash -c environment

if wanted build; then
    AIMCLR_CUDA_ARCHS=${AIMCLR_CUDA_ARCHS:-$(gpu_arch 2>/dev/null || echo 90)}
    export AIMCLR_CUDA_ARCHS
    part "build sm_$AIMCLR_CUDA_ARCHS" 120 build "$PYTHON" setup.py build_ext --inplace
fi

if wanted tests; then
    part tests 150 tests bash -c 'run_pytest -q -m cuda "$@"' - "${files[@]}"
fi

# A few tests of each file, spread over it; those that compile or check gradients take too long.
choose_for_sanitizer() {
    run_pytest -q --collect-only -m cuda -k 'not compile and not opcheck and not gradcheck and not graph and not captured and not trains_like' \
        "$@" 2>/dev/null | grep '::' |
        awk -F'::' '{ lines[$1, ++n[$1]] = $0 }
            END { for (f in n) for (i = 0; i < 4; i++) print lines[f, 1 + int(i * n[f] / 4)] }' |
        sort -u
}
sanitize() {
    part "$1" 45 "$1" env PYTORCH_NO_CUDA_MEMORY_CACHING=1 compute-sanitizer --tool "$1" \
        --target-processes all --error-exitcode 9 --print-limit 20 \
        bash -c 'run_pytest -q -m cuda "$@"' - "@$SCRATCH/chosen"
}
if wanted memcheck || wanted racecheck; then
    choose_for_sanitizer "${files[@]}" >"$SCRATCH/chosen"
    for tool in memcheck racecheck; do
        if ! wanted "$tool"; then continue; fi
        if [[ -s $SCRATCH/chosen ]]; then
            sanitize "$tool"
        else
            part "$tool" 5 "$tool" bash -c 'echo "no tests could be collected"; exit 1'
        fi
    done
fi

if wanted benchmarks; then
    # One process a file: an error on the GPU ends only its own.
    # The step first: it is what all the others are for.
    for each in train_step:110 queue_contrast:100 skeleton_augment:40 eadm_pool:60 stgcn_block:45 all_ops:30; do
        op=${each%:*}
        part "benchmark $op" "${each#*:}" benchmarks bash -c 'run_pytest "$@"' - \
            "benchmarks/bench_$op.py" -q -m cuda --benchmark-only --budget 0.15 \
            --results "$op" --results-dir "$SCRATCH"
    done
    part "results" 30 benchmarks "$PYTHON" benchmarks/results.py "$SCRATCH" "$OUT/gpu.csv"
    "$PYTHON" benchmarks/tables.py --show "$OUT/gpu.csv"
fi

printf '\n'
cat "$STATUS"
exit "$failed"
