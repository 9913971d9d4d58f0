"""AimCLR: momentum contrast between extremely and normally augmented views of a sequence."""

from __future__ import annotations

from .contrast import Contrast, ContrastMethod, StepOutput
from .methods import Parts

__all__ = ["METHOD", "AimCLR", "StepOutput"]


class AimCLR(Contrast):
    """AimCLR (paper figure 2); other `parts` make other methods of it."""


METHOD = ContrastMethod("AimCLR (Guo et al., AAAI 2022) with all its parts", Parts())
