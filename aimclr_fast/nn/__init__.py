"""Encoders, momentum contrast and the methods of pretraining, one module each."""

from .aimclr import AimCLR
from .contrast import Contrast, ContrastMethod, StepOutput
from .methods import Method, Parts, get_method, method_names
from .momentum import MomentumContrast
from .stgcn import STGCN, SkeletonEncoder

__all__ = [
    "STGCN",
    "AimCLR",
    "Contrast",
    "ContrastMethod",
    "Method",
    "MomentumContrast",
    "Parts",
    "SkeletonEncoder",
    "StepOutput",
    "get_method",
    "method_names",
]
