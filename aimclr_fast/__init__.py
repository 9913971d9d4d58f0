"""AimCLR, fast: self-supervised skeleton action recognition (Guo et al., AAAI 2022)."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("aimclr_fast")
except PackageNotFoundError:  # a checkout that was never installed
    __version__ = "0+unknown"
