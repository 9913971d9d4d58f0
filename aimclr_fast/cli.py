"""What the command lines share: named configs, and errors as one line with exit code 2."""

from __future__ import annotations

import dataclasses
import io
import math
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn, cast, get_args, get_type_hints

import jsonargparse
import yaml

from ._errors import Error
from ._files import printable
from ._renamed import FIELDS, VALUES, with_new_names

CONFIGS = Path(__file__).parent / "configs"
#: Packaged configs that hold only what differs from another.
BASED_ON = {"nw_ucla": "small"}
# Names of earlier versions, which had a file for each split and stream.
OLD_CONFIG = re.compile(r"(ntu60|ntu120|pku1|pku2)_(xsub|xview|xset)_(joint|motion|bone)")
MOST_VALUES = 10_000  # in a config


class UserError(Error):
    """An error that the user can fix; shown as one line."""


class Parser(jsonargparse.ArgumentParser):
    """An argument parser whose errors are one line."""

    def error(self, message: str, exc: BaseException | None = None) -> NoReturn:
        fail(self.prog, message)


def fail(program: str, message: str) -> NoReturn:
    """Print one line and exit with code 2."""
    print(f"{program}: error: {printable(' '.join(message.split()))}", file=sys.stderr)
    raise SystemExit(2)


def refuse_old_names(arguments: Sequence[str], renamed: Mapping[str, str]) -> None:
    """Refuse flags of earlier versions.

    Args:
        arguments: of the command line.
        renamed: today's names by the old ones, without dashes.

    Raises:
        UserError: says the new name.
    """
    for argument in arguments:
        name = argument.partition("=")[0].removeprefix("--")
        if argument.startswith("--") and name in renamed:
            raise UserError(f"--{name} is now --{renamed[name]}")


def config_names() -> list[str]:
    """Names of the packaged configs."""
    return sorted(path.stem for path in CONFIGS.glob("*.yaml"))


def find_config(name: str) -> str:
    """The file of a packaged config, or the given path; of a file whose fields have names of an
    earlier version, its text with the current names.

    Raises:
        UserError: neither.
    """
    if Path(name).is_file():
        return _readable(name)
    packaged = CONFIGS / f"{name}.yaml"
    if packaged.parent == CONFIGS and packaged.is_file():
        return str(packaged)
    if old := OLD_CONFIG.fullmatch(name):
        new = "--config {} --split {} --streams {}".format(*old.groups())
        raise UserError(f"--config {name} is now {new}")
    raise UserError(f"--config {name}: no such file, and not one of {', '.join(config_names())}")


def _readable(file: str) -> str:
    try:
        text = Path(file).read_text(encoding="utf-8")
        content = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError, ValueError, OSError) as error:
        raise UserError(f"--config {file}: not readable as YAML: {error}") from error
    if not isinstance(content, dict):
        raise UserError(f"--config {file}: holds no fields")
    left = MOST_VALUES
    waiting: list[object] = [content]
    while waiting:  # aliases make a few lines stand for more values than memory holds
        value = waiting.pop()
        items = list(value.values()) if isinstance(value, dict) else value
        if isinstance(items, list):
            waiting += items
            left -= len(items)
        if left < 0:
            raise UserError(f"--config {file}: stands for more than {MOST_VALUES} values")
    return file if with_new_names(content) == content else _renewed(file, text, content)


def _renewed(file: str, text: str, content: dict[str, Any]) -> str:
    """The YAML `text` with the current names; values stay as written, including quotes."""
    root = yaml.compose(text, yaml.SafeLoader)
    groups = {key.value: group for key, group in root.value} if root else {}
    for old, new in FIELDS.items():
        (name, was), now = old.split("."), new.partition(".")[2]
        fields = content.get(name)
        if not isinstance(fields, dict) or was not in fields:
            continue
        if now in fields:
            raise UserError(f"--config {file}: holds {old} and {new}, its name today; keep one")
        for key, _ in groups[name].value:
            if key.value == was:
                key.value = now
    for field, words in VALUES.items():
        value = content.get(field)
        if isinstance(value, str) and value in words and field in groups:
            groups[field].value = words[value]
    return yaml.serialize(root)


def with_config_files(arguments: Sequence[str], default: str) -> list[str]:
    """The arguments with config names made into files, and `default` first if none is named."""
    resolved: list[str] = []
    named = False
    waiting = list(arguments)
    while waiting:
        argument = waiting.pop(0)
        if argument == "--config" and waiting:
            argument = f"--config={waiting.pop(0)}"
        if argument.startswith("--config="):
            resolved += _configs(argument.removeprefix("--config="))
            named = True
        else:
            resolved.append(argument)
    return resolved if named else [*_configs(default), *resolved]


def _configs(name: str) -> list[str]:
    """The arguments for a config, after those for the one that it is based on."""
    base = _configs(BASED_ON[name]) if name in BASED_ON and not Path(name).is_file() else []
    return [*base, f"--config={find_config(name)}"]


def check_values(parsed: jsonargparse.Namespace, kind: type, prefix: str = "") -> None:
    """Refuse what YAML can hold and no field of the dataclass `kind` takes: no value, a number that
    is not finite or needs more than 64 bits, one value for a whole group.

    Raises:
        UserError: naming the field.
    """
    wanted = get_type_hints(kind)
    for field in dataclasses.fields(kind):
        name, value, hint = prefix + field.name, parsed[field.name], wanted[field.name]
        if dataclasses.is_dataclass(hint):
            if not isinstance(value, jsonargparse.Namespace):
                raise UserError(f"{name} is {value!r}, but must hold fields")
            check_values(value, cast(type, hint), f"{name}.")
        elif value is None and type(None) not in get_args(hint):
            raise UserError(f"{name} has no value")
        elif isinstance(value, float) and not math.isfinite(value):
            raise UserError(f"{name} is {value}, but must be finite")
        elif isinstance(value, int) and not -(2**63) <= value < 2**64:
            raise UserError(f"{name} is {value}, but must need no more than 64 bits")


def check_utf8(flag: str, path: str | Path) -> None:
    """Refuse a path that TensorBoard, safetensors and torch.export cannot write to.

    Raises:
        UserError: it holds bytes that are not UTF-8.
    """
    try:
        str(path).encode()
    except UnicodeEncodeError:
        raise UserError(f"{flag} {path}: not UTF-8, as it must be; name another") from None


def run(program: str, main: Callable[[list[str]], None], arguments: list[str]) -> None:
    """Call `main(arguments)`; our exceptions and those of files end the program as one line."""
    if isinstance(sys.stdout, io.TextIOWrapper):  # a path need not be text that can be encoded
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        main(arguments)
    except (Error, OSError) as error:
        fail(program, str(error))
    except UnicodeEncodeError as error:  # of a library that cannot take such a path
        fail(program, f"not UTF-8: {printable(error.object)}; rename it")
    except KeyboardInterrupt:
        print(f"{program}: interrupted", file=sys.stderr)
        raise SystemExit(130) from None
