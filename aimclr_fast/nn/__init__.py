"""Encoders and the momentum-contrast model."""

from .aimclr import AimCLR, StepOutput
from .stgcn import STGCN, SkeletonEncoder

__all__ = ["STGCN", "AimCLR", "SkeletonEncoder", "StepOutput"]
