"""Encoders and the momentum-contrast model."""

from .aimclr import AimCLR, StepOutput
from .methods import METHODS, Parts
from .stgcn import STGCN, SkeletonEncoder

__all__ = ["METHODS", "STGCN", "AimCLR", "Parts", "SkeletonEncoder", "StepOutput"]
