"""What every command does with an exception."""

from __future__ import annotations

import importlib

import pytest

pytest.importorskip("jsonargparse", reason="not on every GPU machine")

from aimclr_fast import Error
from aimclr_fast.cli import run


def ours(base: type[Error] = Error) -> list[type[Error]]:
    """Every exception of the package."""
    return [kind for sub in base.__subclasses__() for kind in (sub, *ours(sub))]


def main(error: BaseException):
    def fail(_: list[str]) -> None:
        raise error

    return fail


def test_our_exceptions_and_those_of_files_are_one_line(capsys):
    for command in (
        "train",
        "tune",
        "evaluate",
        "classify",
        "report",
        "search",
        "prepare",
        "export",
    ):
        importlib.import_module(f"aimclr_fast.{command}")
    kinds = ours()
    assert {"StoreError", "ReadError", "ResultsError", "DivergedError", "ExportError"} <= {
        kind.__name__ for kind in kinds
    }
    for kind in kinds:
        error = kind.__new__(kind)  # their constructors differ
        error.args = ("two\nlines",)
        with pytest.raises(SystemExit) as ended:
            run("program", main(error), [])
        assert ended.value.code == 2, kind
        assert capsys.readouterr().err.count("\n") == 1, kind
    for error in (OSError(28, "disk full"), FileNotFoundError(2, "no such file", "x.yaml")):
        with pytest.raises(SystemExit) as ended:
            run("program", main(error), [])
        assert ended.value.code == 2
        assert capsys.readouterr().err == f"program: error: {error}\n"


def test_other_exceptions_are_faults_of_ours():
    with pytest.raises(ValueError, match="a bug"):
        run("program", main(ValueError("a bug")), [])
