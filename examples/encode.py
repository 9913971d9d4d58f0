"""Features of recordings, and how alike they are.

Run it with: python examples/encode.py runs/NAME/checkpoint.pt walk.npy jump.npy

Each .npy file holds positions [T, V, 3] in meters, or [M, T, V, 3] of M bodies, in the skeleton
that the encoder was trained on, unprocessed and of any length.
"""

import sys

import numpy as np
from torch.nn.functional import normalize

from aimclr_fast import Error, load_encoder


def main(checkpoint, *files):
    encoder = load_encoder(checkpoint)  # a run's checkpoint, an exported file, or the authors'
    print(f"{encoder.num_features} features of {encoder.layout.name} ({encoder.device})")
    features = encoder([read(file) for file in files])  # [N, F]
    rows = normalize(features, dim=1)
    for file, similarities in zip(files, (rows @ rows.T).tolist(), strict=True):
        print(file, *(f"{similarity:6.3f}" for similarity in similarities))
    return features


def read(file):
    try:
        return np.load(file)
    except ValueError:
        raise ValueError(f"{file}: not an array of numbers (.npy)") from None


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    try:
        main(*sys.argv[1:])
    except (Error, OSError, ValueError) as error:
        sys.exit(f"encode.py: {error}")
