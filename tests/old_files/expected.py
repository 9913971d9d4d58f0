"""Prints what the files in the current folder give, as JSON: features, probabilities, indices."""

import json
from pathlib import Path

import numpy as np

from aimclr_fast import load_encoder
from aimclr_fast.data import open_store

(head,) = Path("linear").glob("head-*.pt")
encoder = load_encoder("run/checkpoint.pt", head=head, device="cpu", backend="reference")
recordings = [np.load(f"recordings/s{subject}_nod.npy") for subject in (1, 4)]
found = encoder.classify(recordings)
store = open_store("store", verify=True)
assert store.labels is not None
numbers = {
    "features": found.features.tolist(),
    "probabilities": found.probabilities.tolist(),
    "names": found.names,
    "positions": store.as_tensor(0)[:, 0, :, 0].tolist(),
    "classes": store.class_names,
    "labels": store.labels.tolist(),
}
print(json.dumps(numbers, indent=1))
