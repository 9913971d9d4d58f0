"""Features of a whole store in one file, and the exact nearest rows of others among them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor
from torch.nn import functional as F

from aimclr_fast._errors import Error
from aimclr_fast._files import written_whole
from aimclr_fast.data.store import Store

from .encoder import Encoder
from .nearest import nearest

_ROWS = 1024  # encoded at a time
_FORMAT = "features 1"


class IndexFileError(Error, ValueError):
    """A file of features that cannot be read, or is of another encoder or store."""


@dataclass(frozen=True)
class FeatureIndex:
    """Features of all sequences of a store.

    Attributes:
        features: [S, F], each of length 1, mapped from the file or in memory.
        about: what they are of.
    """

    features: npt.NDArray[np.float32]
    about: dict[str, Any]

    def nearest(self, queries: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """The k most similar rows of each of `queries` [Q, F]: cosine distances and row numbers,
        [Q, k] each, nearest first. Exact: every row is compared, a block at a time.

        Raises:
            ValueError: k is not from 1 to S.
        """
        if not 1 <= k <= len(self.features):
            raise ValueError(f"k must lie in 1..{len(self.features)}, got {k}")
        rows = F.normalize(queries.detach().float().cpu(), dim=1)
        similarity, index = nearest(rows, self.features, k, unit=True)
        return (1 - similarity).clamp(min=0), index


def make_index(
    store: Store,
    encoder: Encoder,
    file: Path,
    *,
    encoder_sha256: str,
    progress: Callable[[int], None] = lambda done: None,
) -> FeatureIndex:
    """Encode a store into a file, a block at a time.

    Args:
        store: of the encoder's layout.
        encoder: what encodes it.
        file: a .npy file; what it is of goes to a .json file beside it.
        encoder_sha256: of the encoder's file.
        progress: called with the number of sequences that are done.

    Raises:
        ValueError: the store has another layout.
    """
    if store.layout != encoder.layout:
        raise ValueError(
            f"{store.path} has layout {store.layout.name}, the encoder {encoder.layout.name}"
        )
    about = _about(store, encoder, encoder_sha256)
    with written_whole(file) as temporary:
        features = np.lib.format.open_memmap(
            temporary, mode="w+", dtype=np.float32, shape=(len(store), encoder.num_features)
        )
        for start in range(0, len(store), _ROWS):
            rows = store.as_tensor(slice(start, start + _ROWS)).permute(0, 4, 2, 3, 1)
            found = F.normalize(encoder(rows, preprocessed=True, batch_size=256), dim=1)
            features[start : start + len(found)] = found.cpu().numpy()
            progress(start + len(found))
        features.flush()
        del features
    with written_whole(file.with_suffix(".json")) as temporary:
        temporary.write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
    return FeatureIndex(np.load(file, mmap_mode="r"), about)


def open_index(file: Path, store: Store, encoder: Encoder, *, encoder_sha256: str) -> FeatureIndex:
    """Open what `make_index` wrote.

    Raises:
        IndexFileError: it cannot be read, or is of another encoder, readout or store.
    """
    try:
        about = json.loads(file.with_suffix(".json").read_text(encoding="utf-8"))
        features = np.load(file, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise IndexFileError(f"{file}: not an index that can be read: {error}") from error
    expected = _about(store, encoder, encoder_sha256)
    if about != expected:
        differ = [k for k in expected if not isinstance(about, dict) or about.get(k) != expected[k]]
        raise IndexFileError(f"{file}: is of another {differ[0] if differ else 'version'}")
    shape = (len(store), encoder.num_features)
    if features.shape != shape or features.dtype != np.float32:
        raise IndexFileError(f"{file}: damaged: {features.dtype} {list(features.shape)}")
    return FeatureIndex(features, about)


def _about(store: Store, encoder: Encoder, encoder_sha256: str) -> dict[str, Any]:
    return {
        "format": _FORMAT,
        "store": store.checksums(),
        "encoder": encoder_sha256,
        "readout": encoder.traits.pool,
        "stream": encoder.traits.stream,
    }
