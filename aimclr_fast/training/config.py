"""The configuration of a run, as `aimclr_fast.config` defines it."""

from aimclr_fast.config import (
    ConfigError,
    DataConfig,
    ModelConfig,
    MonitorConfig,
    OptimConfig,
    TrainConfig,
    what_is_learned,
)

__all__ = [
    "ConfigError",
    "DataConfig",
    "ModelConfig",
    "MonitorConfig",
    "OptimConfig",
    "TrainConfig",
    "what_is_learned",
]
