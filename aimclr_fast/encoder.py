"""The public names of `aimclr_fast.inference` and what goes with them, in one place."""

from ._checkpoint import CheckpointError
from .data.preprocessing import Preprocessing
from .inference.encoder import Classified, Encoder, Traits
from .inference.loading import load_encoder

__all__ = ["CheckpointError", "Classified", "Encoder", "Preprocessing", "Traits", "load_encoder"]
