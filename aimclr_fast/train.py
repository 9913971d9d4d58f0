"""Pretrain an encoder: python -m aimclr_fast.train [--config NAME] [--optim.lr 0.03 ...]."""

from __future__ import annotations

import re
import sys

from rich.console import Console

from .cli import Parser, UserError, config_names, run, with_config_files
from .data import StoreError
from .training.config import ConfigError, TrainConfig
from .training.pretrain import DivergedError, pretrain

PROGRAM = "python -m aimclr_fast.train"
DEFAULT_CONFIG = "ui_prmd"


def parser() -> Parser:
    parser = Parser(
        prog=PROGRAM,
        usage="%(prog)s [--config NAME] [--streams joint,motion,bone] [--GROUP.FIELD VALUE ...]",
        description="Pretrain an ST-GCN with AimCLR. Without arguments it learns from the "
        "embedded UI-PRMD motion on whatever this machine has, in a few minutes.",
    )
    parser.add_argument(
        "--config",
        action="config",
        help=f"a YAML file, or one of {', '.join(config_names())}; default {DEFAULT_CONFIG}",
    )
    parser.add_class_arguments(TrainConfig, as_group=False)
    return parser


def main(arguments: list[str]) -> None:
    command = parser()
    arguments = [re.sub(r"^--streams(?==|$)", "--data.stream", each) for each in arguments]
    parsed = command.parse_args(with_config_files(arguments, DEFAULT_CONFIG))
    try:
        fields = vars(command.instantiate(parsed))
    except ValueError as error:  # a value that the field's own class refuses
        raise UserError(str(error)) from error
    fields.pop("config")
    pretrain(TrainConfig(**fields), command.dump(parsed), Console())


def command_line(arguments: list[str]) -> None:
    run(PROGRAM, main, arguments, ConfigError, StoreError, DivergedError)


if __name__ == "__main__":
    command_line(sys.argv[1:])
