"""Commands that refuse what they were asked."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest


def refusal(command_line: Callable[[list[str]], object], capsys: Any, *arguments: object) -> str:
    """What a command says of arguments that it refuses: one line, with the exit status 2."""
    with pytest.raises(SystemExit) as ended:
        command_line([*map(str, arguments)])
    assert ended.value.code == 2
    error: str = capsys.readouterr().err
    assert error.count("\n") == 1, error
    return error
