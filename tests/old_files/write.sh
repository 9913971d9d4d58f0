#!/bin/sh
# Writes the files of one folder here with an older commit's code:
#     git archive COMMIT aimclr_fast | tar -x -C CODE
#     sh write.sh CODE FOLDER
# with the pure PyTorch reference on one thread; no library is compiled.
set -e
here=$(cd "$(dirname "$0")" && pwd)
code=$(cd "$1" && pwd)
mkdir -p "$2"
out=$(cd "$2" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
export PYTHONPATH="$code" AIMCLR_NATIVE=OFF
python "$here/recordings.py" recordings
cp "$here/layout.yaml" .
python -m aimclr_fast.prepare folder recordings store --layout layout.yaml --frames 12 --jobs 1
python -m aimclr_fast.train --data store --protocol odd-even --output run \
    --model.channels 2 --model.features 8 --model.embedding 4 --model.queue_size 12 \
    --model.temporal_kernel 3 --model.dropout 0 --optim.batch_size 3 --optim.epochs 20 \
    --optim.mining_epoch 10 --optim.lr 0.01 --batch_statistics synchronised --device cpu --threads 1 \
    --save_every 19 --keep 2 --monitor.knn_every 10
# The checkpoint after the 19th of 20 epochs is the one kept: a run to go on with.
mv run/previous-1.pt run/checkpoint.pt
rm run/best.pt run/curves.png
python -m aimclr_fast.evaluate knn run/checkpoint.pt --data store --protocol split \
    --k '[1, 2]' --device cpu --threads 1 --output knn --csv results.csv
python -m aimclr_fast.evaluate linear run/checkpoint.pt --data store --protocol odd-even \
    --epochs 5 --milestones '[3]' --device cpu --threads 1 --output linear --csv results.csv
python -m aimclr_fast.export run/checkpoint.pt --format safetensors --out encoder.safetensors
python "$here/expected.py" > expected.json
sed -i "s|$work/||" run/run.json
xz -9 run/checkpoint.pt encoder.safetensors
mkdir -p "$out/recordings"
cp recordings/s1_nod.npy recordings/s4_nod.npy "$out/recordings"
rm -r recordings run/tensorboard run/.lock
cp -r ./* "$out"
