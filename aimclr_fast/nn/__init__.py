"""Encoders, momentum contrast and the methods of pretraining, one module each."""

from .aimclr import AimCLR, StepOutput
from .methods import Method, Parts, get_method, method_names
from .momentum import MomentumContrast
from .stgcn import STGCN, SkeletonEncoder

__all__ = [
    "STGCN",
    "AimCLR",
    "Method",
    "MomentumContrast",
    "Parts",
    "SkeletonEncoder",
    "StepOutput",
    "get_method",
    "method_names",
]
