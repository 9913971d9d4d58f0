"""Moved to `aimclr_fast.inference.features`; these names stay for the modules that use them."""

from aimclr_fast.inference.features import encode as encode
from aimclr_fast.inference.features import in_meters as in_metres
from aimclr_fast.inference.features import raw_poses as raw_poses

__all__ = ["encode", "in_metres", "raw_poses"]
