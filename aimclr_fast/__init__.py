"""AimCLR, fast: self-supervised skeleton action recognition (Guo et al., AAAI 2022).

==================== ===========================================================================
``load_encoder``     a trained encoder as an ``Encoder``: recordings in, features out
``AimCLREncoder``    pretraining as a scikit-learn transformer: fit, transform, pipelines
``functional``       the ops: augmentation, energy-based dropping, losses over the queue, blocks
``nn``               ST-GCN, the momentum pair with its queue, methods, the authors' checkpoints
``data``             stores, splits, preprocessing, the embedded data set
``Error``            the base of all exceptions of this package
==================== ===========================================================================

The commands are ``python -m aimclr_fast.train``, ``.tune``, ``.evaluate``, ``.report``,
``.learn``, ``.classify``, ``.search``, ``.prepare`` and ``.export``.
"""

from typing import TYPE_CHECKING, Any

from ._errors import Error

if TYPE_CHECKING:
    from . import data as data
    from . import functional as functional
    from . import nn as nn
    from .estimator import AimCLREncoder as AimCLREncoder
    from .inference.encoder import Encoder as Encoder
    from .inference.loading import load_encoder as load_encoder

    __version__: str

__all__ = [
    "AimCLREncoder",
    "Encoder",
    "Error",
    "__version__",
    "data",
    "functional",
    "load_encoder",
    "nn",
]

_MODULE_OF = {
    "AimCLREncoder": "estimator",
    "Encoder": "inference.encoder",
    "load_encoder": "inference.loading",
}


def __getattr__(name: str) -> Any:
    # Nothing at import but names: torch takes seconds, and a command's --help needs none of it.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name == "__version__":
        value: Any = _version()
    else:
        import importlib

        value = importlib.import_module(f"{__name__}.{_MODULE_OF.get(name, name)}")
        if name in _MODULE_OF:
            value = getattr(value, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("aimclr_fast")
    except PackageNotFoundError:  # a checkout that was never installed
        return "0+unknown"
