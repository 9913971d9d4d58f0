"""What the command lines share: named configs, and errors as one line with exit code 2."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

import jsonargparse
import yaml

CONFIGS = Path(__file__).parent / "configs"


class UserError(Exception):
    """Something the user can mend; shown as one line."""


class Parser(jsonargparse.ArgumentParser):
    """An argument parser whose errors are one line."""

    def error(self, message: str, exc: BaseException | None = None) -> NoReturn:
        fail(self.prog, message)


def fail(program: str, message: str) -> NoReturn:
    """Print one line and exit with code 2."""
    print(f"{program}: error: {' '.join(message.split())}", file=sys.stderr)
    raise SystemExit(2)


def config_names() -> list[str]:
    """Names of the packaged configs."""
    return sorted(path.stem for path in CONFIGS.glob("*.yaml"))


def find_config(name: str) -> str:
    """The file of a packaged config's name, or the path given.

    Raises:
        UserError: neither.
    """
    if Path(name).is_file():
        return _readable(name)
    packaged = CONFIGS / f"{name}.yaml"
    if packaged.parent == CONFIGS and packaged.is_file():
        return str(packaged)
    raise UserError(f"--config {name}: no such file, and not one of {', '.join(config_names())}")


def _readable(file: str) -> str:
    try:
        content = yaml.safe_load(Path(file).read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError, OSError) as error:
        raise UserError(f"--config {file}: not readable as YAML: {error}") from error
    if not isinstance(content, dict):
        raise UserError(f"--config {file}: holds no fields")
    return file


def with_config_files(arguments: Sequence[str], default: str) -> list[str]:
    """The arguments with config names made into files, and `default` first if none is named."""
    resolved: list[str] = []
    named = False
    pending = False
    for argument in arguments:
        if pending:
            resolved.append(find_config(argument))
            pending = False
        elif argument.startswith("--config="):
            resolved.append("--config=" + find_config(argument.removeprefix("--config=")))
            named = True
        else:
            resolved.append(argument)
            if argument == "--config":
                named = pending = True
    return resolved if named else [f"--config={find_config(default)}", *resolved]


def run(
    program: str,
    main: Callable[[list[str]], None],
    arguments: list[str],
    *errors: type[Exception],
) -> None:
    """Call `main(arguments)`; `UserError` and the given `errors` end the program as one line."""
    known: tuple[type[Exception], ...] = (UserError, *errors)
    try:
        main(arguments)
    except known as error:
        fail(program, str(error))
    except KeyboardInterrupt:
        print(f"{program}: interrupted", file=sys.stderr)
        raise SystemExit(130) from None
