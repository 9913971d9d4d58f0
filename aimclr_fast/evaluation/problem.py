"""Moved to `aimclr_fast.evaluation.labeled_data`; the name stays for the modules that use it."""

from .labeled_data import training_folds as training_folds

__all__ = ["training_folds"]
