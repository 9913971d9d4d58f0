"""What the recipes of classifiers have in common."""

from __future__ import annotations

from typing import Protocol

from aimclr_fast._schedule import SCHEDULES, Schedule


class Recipe(Schedule, Protocol):
    """A schedule, and the rest that SGD takes."""

    @property
    def batch_size(self) -> int: ...
    @property
    def momentum(self) -> float: ...
    @property
    def weight_decay(self) -> float: ...


def check_recipe(recipe: Recipe) -> None:
    """Check the fields of a `Recipe`.

    Raises:
        ValueError: naming the field, its value and what would do.
    """

    def require(holds: bool, name: str, wanted: str) -> None:
        if not holds:
            raise ValueError(f"{name} is {getattr(recipe, name)!r}, but must be {wanted}")

    require(recipe.epochs >= 1, "epochs", "at least 1")
    require(recipe.batch_size >= 1, "batch_size", "at least 1")
    require(recipe.lr >= 0, "lr", "at least 0")
    require(0 <= recipe.momentum < 1, "momentum", "in [0, 1)")
    require(recipe.weight_decay >= 0, "weight_decay", "at least 0")
    require(recipe.warmup_epochs >= 0, "warmup_epochs", "at least 0")
    require(recipe.schedule in SCHEDULES, "schedule", f"one of {', '.join(SCHEDULES)}")
