"""Protocols are found by being there, and a request reaches them by a short way."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import FrameType

import pytest
from small_data import write_evaluated

pytest.importorskip("jsonargparse", reason="not on every GPU machine")

from aimclr_fast.evaluate import command_line
from aimclr_fast.evaluation import protocols
from aimclr_fast.evaluation.options import EvaluationOptions
from aimclr_fast.evaluation.protocols import get_protocol, protocol_names
from aimclr_fast.evaluation.request import Request
from aimclr_fast.evaluation.results import read_results

PACKAGE = Path(protocols.__file__).parents[2]  # aimclr_fast/
OPTIONS = ["--data", "store", "--protocol", "odd-even", "--output", "out", "--csv", "results.csv"]
MAJORITY = '''
"""The share of test samples that the most frequent training class gets right."""

import sys
from dataclasses import dataclass

from aimclr_fast.evaluation.outcome import Outcome

SUMMARY = "the most frequent class for every sample"
STACKS = []


@dataclass(frozen=True)
class Config:
    """What the most frequent class gets right.

    Attributes:
        rank: take the class that is this frequent, from 1.
    """

    rank: int = 1


def run(request):
    frame, stack = sys._getframe(1), []
    while frame is not None:
        stack.append((frame.f_code.co_filename, frame.f_code.co_name))
        frame = frame.f_back
    STACKS.append(stack)
    for representation in request.representations():
        data = representation.data
        counts = data.labels[data.train].bincount()
        label = counts.argsort(descending=True, stable=True)[request.config.rank - 1]
        share = float((data.labels[data.test] == label).double().mean())
        yield representation, Outcome({"majority": share})
'''


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("protocols")
    write_evaluated(folder)
    return folder


@pytest.fixture
def majority(place, tmp_path, monkeypatch):
    """A protocol in a file of its own, outside the package; where it writes is `tmp_path`."""
    monkeypatch.chdir(tmp_path)
    for name in ("store", "joint.pt"):
        (tmp_path / name).symlink_to(place / name)
    folder = tmp_path / "protocols"
    folder.mkdir()
    (folder / "majority.py").write_text(MAJORITY)
    monkeypatch.setattr(protocols, "__path__", [*protocols.__path__, str(folder)])
    yield "majority"
    sys.modules.pop("aimclr_fast.evaluation.protocols.majority", None)


def test_a_file_is_a_protocol(majority, capsys, monkeypatch):
    command_line(["--help"])
    assert "  majority   the most frequent class for every sample\n" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        command_line([majority, "--help"])
    assert "take the class that is this frequent, from 1" in capsys.readouterr().out

    command_line([majority, "joint.pt", "--rank", "2", *OPTIONS, "--baselines"])
    shown = capsys.readouterr().out
    assert "majority, store odd-even (%)" in shown
    assert "pretrained joint: majority 25.0" in shown
    rows = json.loads(Path("out/results.json").read_text())["rows"]
    assert [row["features"] for row in rows] == ["pretrained", "untrained", "supervised",
                                                 "raw poses"]  # fmt: skip
    assert all(row["metrics"] == {"majority": 0.25} for row in rows)
    assert all(row["setting"] == "rank=2" for row in rows)
    assert len(read_results([Path("results.csv")])) == 4
    command_line(["table", "results.csv"])
    assert "| features | stream | setting | majority | n |" in capsys.readouterr().out

    monkeypatch.undo()  # without its folder it is gone
    assert majority not in protocol_names()
    with pytest.raises(SystemExit):
        command_line([majority, "joint.pt"])
    assert "'majority' is no protocol" in capsys.readouterr().err


@pytest.mark.parametrize("name", protocol_names())
def test_a_protocol_says_what_it_is(name):
    protocol = get_protocol(name)
    assert protocol.summary
    assert protocol.config() == protocol.config()
    assert protocol.name == name


def test_what_is_asked_for_takes_a_short_way(majority):
    """From `main` to `run`: functions that are handed the command line or what was made of it."""
    arguments = [majority, "joint.pt", *OPTIONS]
    handed: list[str] = []
    kept: list[object] = []  # so that no number of an object is used twice

    def is_asked_for(value: object) -> bool:
        """The whole command line, its checkpoints, options or configuration, or the request."""
        if isinstance(value, list | tuple) and value and "joint.pt" in value:
            return True
        return type(value).__name__ == "Config" or isinstance(value, EvaluationOptions | Request)

    def watch(frame: FrameType, event: str, _: object) -> None:
        code = frame.f_code
        if event != "call" or not code.co_filename.startswith((str(PACKAGE), str(Path.cwd()))):
            return
        values = list(frame.f_locals.values())  # at a call these are the arguments
        kept.extend(values)
        if any(is_asked_for(value) for value in values):
            handed.append(code.co_qualname)
        if handed and handed[-1] == "run" and "majority" in code.co_filename:
            sys.setprofile(None)

    sys.setprofile(watch)
    try:
        command_line(arguments)
    finally:
        sys.setprofile(None)
    way = handed[handed.index("main") :]
    assert way[-1] == "run"
    between = way[1:-1]
    assert len(between) <= 6
    assert len(set(between)) == len(between), "it comes back to a function"

    (stack,) = sys.modules["aimclr_fast.evaluation.protocols.majority"].STACKS
    names = [name for file, name in reversed(stack) if file.startswith(str(PACKAGE))]
    assert names[names.index("main") :] == ["main", "evaluate_checkpoints"]
