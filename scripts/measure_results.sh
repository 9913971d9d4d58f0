#!/usr/bin/env bash
# Measures docs/results.md: the ablation and three streams over seeds, then the protocols on them.
#
#     scripts/measure_results.sh STORE OUT MINING_EPOCH [TRAIN ARGUMENTS...]
#
# STORE is ui_prmd or a folder; runs and csv files come to OUT, and what is there is not run again.
# MINING_EPOCH is when the rows that mine begin to. SEEDS (default "0 1 2 3 4"), JOBS (default 1).
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
store=${1:?STORE} out=${2:?OUT} mining=${3:?MINING_EPOCH}
shift 3
read -ra seeds <<<"${SEEDS:-0 1 2 3 4}"
runs=(--seeds "${seeds[@]}" --jobs "${JOBS:-1}")

python "$here/run_ablation.py" "${runs[@]}" --runs "$out" --csv "$out/ablation.csv" \
    --mining-epoch "$mining" -- --data "$store" "$@"
for stream in motion bone; do
    python "$here/run_seeds.py" "${runs[@]}" --runs "$out/$stream" --csv "$out/$stream.csv" -- \
        --config ui_prmd --data "$store" --data.stream "$stream" --optim.mining_epoch "$mining" "$@"
done

evaluate() { # PROTOCOL NAME FOLDER CHECKPOINTS AND OPTIONS...
    local protocol=$1 name=$2 folder=$out/$3-$1
    shift 3
    [[ ! -f $folder/results.json ]] || return 0
    rm -rf "$folder" # of an evaluation that was interrupted
    python -m aimclr_fast.evaluate "$protocol" "$@" --data "$store" --name "$name" \
        --output "$folder" --csv "$out/results.csv"
}

for method in skeletonclr nnm-aimclr; do
    checkpoints=("${seeds[@]/#/$out/$method/seed}")
    checkpoints=("${checkpoints[@]/%//checkpoint.pt}")
    # What is not the encoder's own is measured once, beside AimCLR.
    baselines=()
    [[ $method == nnm-aimclr ]] && baselines=(--baselines --scratch.epochs 10)
    evaluate linear "$method" "$method" "${checkpoints[@]}" --sweep true --standardize true "${baselines[@]}"
    evaluate semi "$method" "$method" "${checkpoints[@]}" --labels '[10%]' --tune linear
    evaluate retrieval "$method" "$method" "${checkpoints[@]}"
    evaluate cluster "$method" "$method" "${checkpoints[@]}"
done
for seed in "${seeds[@]}"; do
    evaluate ensemble "three streams" "seed$seed" \
        "$out"/{nnm-aimclr,motion,bone}/"seed$seed/checkpoint.pt"
done
python -m aimclr_fast.evaluate table "$out/results.csv"
