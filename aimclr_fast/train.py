"""Pretrain an encoder: python -m aimclr_fast.train [--config NAME] [--optim.lr 0.03 ...]."""

from __future__ import annotations

if __name__ == "__main__":  # before torch is imported
    from ._openmp import wait_briefly

    wait_briefly()

import os
import re
import sys
from collections.abc import Iterator
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path

import yaml

from ._console import plain_console
from .cli import (
    Parser,
    UserError,
    check_utf8,
    check_values,
    config_names,
    refuse_old_names,
    run,
    with_config_files,
)
from .config import TrainConfig
from .data import EMBEDDED
from .nn import get_method, method_names
from .training.distributed import OtherRankError
from .training.job import published_config
from .training.pretrain import PROGRAM, pretrain
from .training.signals import StoppedError

#: Without --config: for the embedded data, and for other stores.
DEFAULT_CONFIG, OWN_STORE = "ui_prmd_unaligned", "ui_prmd"
# Short names of fields, as the other commands have them.
SHORT = {"data": "data.store", "split": "data.split", "streams": "data.stream"}
OLD = {"protocol": "split", "data.protocol": "split"}


def parser() -> Parser:
    parser = Parser(
        prog=PROGRAM,
        usage="%(prog)s [--config NAME] [--data STORE] [--split NAME] "
        "[--streams joint,motion,bone] [--GROUP.FIELD VALUE ...]",
        description="Pretrain an ST-GCN with AimCLR or a method that extends it. Without arguments "
        "it learns from the embedded UI-PRMD motion on whatever this machine has, in minutes.",
        epilog="Methods: "
        + "; ".join(f"{name}: {get_method(name).summary}" for name in method_names()),
    )
    parser.add_argument(
        "--config",
        action="config",
        help=f"a YAML file, or one of {', '.join(config_names())}; default {DEFAULT_CONFIG}, with "
        f"--data that of the embedded data set, or {OWN_STORE}; "
        "small fits a few hundred to a few thousand sequences of any store",
    )
    parser.add_class_arguments(TrainConfig, as_group=False)
    return parser


def configured(arguments: list[str]) -> TrainConfig:
    """The configuration that arguments of the command line stand for.

    Raises:
        UserError: a value cannot work; other errors end the program.
    """
    command = parser()
    refuse_old_names(arguments, OLD)
    arguments = [re.sub(r"^--([\w.]+)(?==|$)", _long_name, each) for each in arguments]
    default = _config_of_resumed(arguments) or _default_config(arguments)
    arguments = with_config_files(arguments, default)
    if _given("optim.epochs", arguments) and not _given("optim.steps", arguments):
        arguments.append("--optim.steps=null")  # of a config, which would go before the epochs
    parsed = command.parse_args([*_published(arguments), *arguments])
    check_values(parsed, TrainConfig)
    try:
        fields = vars(command.instantiate(parsed))
    except ValueError as error:  # a value that the field's own class refuses
        raise UserError(str(error)) from error
    fields.pop("config")
    check_utf8("--output", fields["output"] or "")
    return TrainConfig(**fields)


def main(arguments: list[str]) -> None:
    config = configured(arguments)
    try:
        pretrain(config, plain_console())
    except StoppedError as stop:
        if os.environ.get("RANK", "0") == "0":
            print(f"{PROGRAM}: {stop}", file=sys.stderr)
        raise SystemExit(128 + stop.signum) from None
    except OtherRankError:
        raise SystemExit(2) from None


def _long_name(flag: re.Match[str]) -> str:
    return f"--{SHORT.get(flag[1], flag[1])}"


def _flags(arguments: list[str]) -> Iterator[tuple[str, str]]:
    """Each argument up to its "=", with what follows: the value, of one that is a flag."""
    for argument, following in pairwise([*arguments, ""]):
        name, equals, value = argument.partition("=")
        yield name, value if equals else following


def _default_config(arguments: list[str]) -> str:
    """The configuration where none is given. What the default does to views fits its data alone."""
    stores = [value for name, value in _flags(arguments) if name == "--data.store"]
    if not stores:
        return DEFAULT_CONFIG
    return stores[-1] if stores[-1] in EMBEDDED else OWN_STORE


def _given(field: str, arguments: list[str]) -> bool:
    return any(name == f"--{field}" for name, _ in _flags(arguments))


def _published(arguments: list[str]) -> list[str]:
    """The numbers that the method of the arguments was published with, for all else to change."""
    method = TrainConfig.method
    for name, value in _flags(arguments):
        if name == "--method":
            method = value
        elif name == "--config":
            text = Path(value).read_text(encoding="utf-8") if "\n" not in value else value
            content = yaml.safe_load(text)
            method = content.get("method", method)
    if method not in method_names():
        return []  # refused where all fields are checked
    return [f"--config={yaml.safe_dump(asdict(published_config(method)))}"]


def _config_of_resumed(arguments: list[str]) -> str | None:
    """config.yaml of the run that --resume names, if it names a folder."""
    for name, folder in _flags(arguments):
        if name == "--resume" and folder not in ("", "auto", "null"):
            config = Path(folder, "config.yaml")
            if not config.is_file():
                raise UserError(f"--resume {folder}: holds no run (no config.yaml)")
            return str(config)
    return None


def command_line(arguments: list[str]) -> None:
    run(PROGRAM, main, arguments)


if __name__ == "__main__":
    command_line(sys.argv[1:])
