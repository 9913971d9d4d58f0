#!/usr/bin/env bash
# Measures docs/results.md: runs of several methods and seeds, then the protocols on each of them.
#
#     scripts/measure_results.sh STORE OUT [TRAIN ARGUMENTS...]
#
# STORE is ui_prmd or a folder; runs and results.csv come to OUT. SEEDS (default "0 1 2").
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
store=$1 out=$2
shift 2
read -ra seeds <<<"${SEEDS:-0 1 2}"

evaluate() { # PROTOCOL NAME CHECKPOINTS AND OPTIONS...
    local protocol=$1 name=$2
    shift 2
    python -m aimclr_fast.evaluate "$protocol" "$@" --data "$store" --name "$name" \
        --output "$out/$name-$protocol" --csv "$out/results.csv"
}

for method in aimclr skeletonclr; do
    python "$here/run_seeds.py" --seeds "${seeds[@]}" --runs "$out/$method" \
        --csv "$out/$method.csv" -- --data "$store" --method "$method" "$@"
    checkpoints=("$out/$method"/seed*/checkpoint.pt)
    # What is not the encoder's own is measured once, beside AimCLR.
    baselines=()
    [[ $method == aimclr ]] && baselines=(--baselines --scratch.epochs 10)
    evaluate linear "$method" "${checkpoints[@]}" --sweep true --standardize true "${baselines[@]}"
    evaluate semi "$method" "${checkpoints[@]}" --labels '[5%,10%]' --tune linear
    evaluate retrieval "$method" "${checkpoints[@]}"
    evaluate cluster "$method" "${checkpoints[@]}"
done
python -m aimclr_fast.evaluate table "$out/results.csv"
