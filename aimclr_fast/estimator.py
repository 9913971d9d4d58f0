"""AimCLR as a scikit-learn transformer: recordings in, features out."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Mapping
from contextlib import redirect_stderr
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted

if TYPE_CHECKING:
    from .inference.encoder import Encoder


class AimCLREncoder(TransformerMixin, BaseEstimator):  # type: ignore[misc]  # no types there
    """Pretrains an encoder on recordings, without labels, and gives their features.

    A recording is positions in meters, y up, [T, V, 3] of one body or [M, T, V, 3], of any length.
    X is a list of recordings, or an array [N, T, V, 3] or [N, M, T, V, 3]. The recipe is that of
    `python -m aimclr_fast.train --config small`, but for the parameters here.

    Args:
        layout: the skeleton: a built-in name, a YAML file or a `Layout`.
        method: the pretraining method.
        steps: of training; None is the recipe's.
        frames: length that recordings are resized to.
        rotate: about y: "exact" (shoulders along x), "none" or "published".
        normalize: "frame" or "sequence", see `aimclr_fast.data.preprocess`.
        pool: readout of the features, such as "mean" or "mean+max".
        settings: further fields of the recipe, such as {"model.channels": 8, "optim.lr": 0.01}.
        seed: of everything that is drawn.
        threads: number of CPU threads; 0 leaves it to torch.
        device: cpu, cuda, cuda:N, or auto for a GPU where there is one.
        verbose: print what training prints.

    Attributes:
        weights_: the encoder as a safetensors file, bytes; what a pickle holds.
        n_features_out_: width of the features.

    Example:
        >>> pipeline = make_pipeline(AimCLREncoder(layout="kinect-v1"), StandardScaler(), SVC())
        >>> pipeline.fit(recordings, labels).score(others, their_labels)
    """

    def __init__(
        self,
        layout: Any = "ntu-rgb+d",
        *,
        method: str = "aimclr++",
        steps: int | None = None,
        frames: int = 50,
        rotate: str = "exact",
        normalize: str = "frame",
        pool: str = "mean",
        settings: Mapping[str, Any] | None = None,
        seed: int = 0,
        threads: int = 0,
        device: str = "auto",
        verbose: bool = False,
    ) -> None:
        self.layout = layout
        self.method = method
        self.steps = steps
        self.frames = frames
        self.rotate = rotate
        self.normalize = normalize
        self.pool = pool
        self.settings = settings
        self.seed = seed
        self.threads = threads
        self.device = device
        self.verbose = verbose

    def fit(self, X: Any, y: Any = None) -> AimCLREncoder:
        """Pretrain on recordings; labels are not looked at.

        Raises:
            ValueError: X holds no recordings, or one that cannot be used; a parameter cannot work.
            aimclr_fast.Error: likewise, as training finds.
        """
        from ._console import plain_console
        from .data import write_store
        from .data.preprocessing import Preprocessing
        from .inference.encoder import check_size
        from .inference.loading import load_encoder, write_safetensors
        from .layouts import get_layout
        from .train import configured
        from .training.pretrain import pretrain

        layout = get_layout(self.layout)
        steps = Preprocessing(self.frames, self.rotate, normalize=self.normalize)
        recordings = _recordings(X, layout.num_joints)
        check_size([one.transpose(3, 1, 2, 0) for one in recordings[:8]], layout)
        bodies = max(len(one) for one in recordings)
        sequences = np.zeros(
            (len(recordings), 3, self.frames, layout.num_joints, bodies), np.float32
        )
        for row, one in enumerate(recordings):
            try:
                sequences[row, ..., : len(one)] = steps(one.transpose(3, 1, 2, 0), layout)
            except ValueError as error:
                raise ValueError(f"recording {row}: {error}") from error
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch)
            names = [f"{row:06}" for row in range(len(recordings))]
            write_store(
                folder / "store", sequences, {"name": names}, layout=layout, preprocessing=steps
            )
            given = {
                "method": self.method,
                "seed": self.seed,
                "threads": self.threads,
                "device": self.device,
                "monitor.knn_every": 0,
                **({} if self.steps is None else {"optim.steps": self.steps}),
                **(self.settings or {}),
            }
            words = [
                "--config=small",
                f"--data={folder / 'store'}",
                "--split=all",
                f"--output={folder / 'run'}",
                *(f"--{k}={'null' if v is None else v}" for k, v in given.items()),
            ]
            said = io.StringIO()
            try:
                with redirect_stderr(said):
                    config = configured(words)
            except SystemExit as error:  # how the command refuses a value
                raise ValueError(said.getvalue().partition("error: ")[2].strip()) from error
            run = pretrain(config, plain_console(quiet=not self.verbose))
            encoder = load_encoder(run / "checkpoint.pt", pool=self.pool, device="cpu")
            write_safetensors(encoder.model, folder / "encoder.safetensors")
            self.weights_ = (folder / "encoder.safetensors").read_bytes()
        self.n_features_out_ = encoder.num_features
        return self

    def transform(self, X: Any) -> npt.NDArray[np.float32]:
        """Features [N, F] of recordings.

        Raises:
            NotFittedError: `fit` was not called.
            ValueError: X holds no recordings, or one that cannot be used.
        """
        check_is_fitted(self, "weights_")
        encoder = self.encoder_
        features: npt.NDArray[np.float32] = (
            encoder(_recordings(X, encoder.layout.num_joints)).cpu().numpy()
        )
        return features

    @property
    def encoder_(self) -> Encoder:
        """The trained encoder, as `aimclr_fast.load_encoder` gives it."""
        check_is_fitted(self, "weights_")
        return _opened(self.weights_, self.device)

    def get_feature_names_out(self, input_features: Any = None) -> npt.NDArray[Any]:
        """Names of the features, aimclrencoder0 and so on."""
        check_is_fitted(self, "weights_")
        return np.array([f"aimclrencoder{i}" for i in range(self.n_features_out_)], dtype=object)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.input_tags.three_d_array = True
        return tags


@lru_cache(maxsize=8)  # here, since transforming must not change an estimator
def _opened(weights: bytes, device: str) -> Encoder:
    from .inference.loading import load_encoder

    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch) / "encoder.safetensors"
        file.write_bytes(weights)
        return load_encoder(file, device=device)


def _recordings(X: Any, joints: int) -> list[npt.NDArray[np.float64]]:
    """Each recording as [M, T, V, 3]."""
    found = []
    for row, one in enumerate(X):
        x = np.asarray(one, dtype=np.float64)
        if x.ndim == 3:
            x = x[None]
        if x.ndim != 4 or x.shape[2:] != (joints, 3) or 0 in x.shape:
            raise ValueError(
                f"recording {row}: expected [T, {joints}, 3] or [M, T, {joints}, 3], "
                f"got {list(np.shape(one))}"
            )
        found.append(x)
    if not found:
        raise ValueError("X holds no recordings")
    return found
