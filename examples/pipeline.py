"""AimCLR in a scikit-learn pipeline, on motion that comes with the package.

Run it with: python examples/pipeline.py --steps 600
"""

import argparse
import tempfile

from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, GroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from aimclr_fast import AimCLREncoder, data


def main(steps):
    store = data.open_embedded("ui_prmd")
    train, test = data.split(store, "xsub")
    recordings = store.as_tensor()[..., 0].permute(0, 2, 3, 1).numpy()  # [S, T, V, 3], meters
    encoder = AimCLREncoder(store.layout, steps=steps, settings={"model.channels": 8})
    with tempfile.TemporaryDirectory() as memory:  # each fold trains one encoder, not one a value
        pipeline = make_pipeline(encoder, StandardScaler(), LogisticRegression(), memory=memory)
        search = GridSearchCV(
            pipeline, {"logisticregression__C": [0.01, 0.1, 1.0]}, cv=GroupKFold(2)
        )
        search.fit(recordings[train], store.labels[train], groups=store.samples["subject"][train])
    print(f"chosen on other training subjects: {search.best_params_}")
    correct = search.score(recordings[test], store.labels[test])
    print(f"accuracy {100 * correct:.1f} % on the test subjects")
    return search


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=600)
    main(parser.parse_args().steps)
