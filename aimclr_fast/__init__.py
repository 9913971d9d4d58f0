"""AimCLR, fast: self-supervised skeleton action recognition (Guo et al., AAAI 2022)."""

from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .inference.loading import load_encoder as load_encoder

try:
    __version__ = version("aimclr_fast")
except PackageNotFoundError:  # a checkout that was never installed
    __version__ = "0+unknown"


def __getattr__(name: str) -> Any:
    # Not at import, which has to stay quick: the encoder needs torch and all that is built on it.
    if name == "load_encoder":
        from .inference.loading import load_encoder

        return load_encoder
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
