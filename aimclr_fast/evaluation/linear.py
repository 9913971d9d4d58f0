"""Moved to `aimclr_fast.evaluation.probe`; the name stays for the modules that use it."""

from .probe import linear_probe as linear_probe

__all__ = ["linear_probe"]
