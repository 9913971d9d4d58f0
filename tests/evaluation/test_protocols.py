"""Protocols are found by being there, and a request reaches them by a short way."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from types import FrameType

import pytest

pytest.importorskip("jsonargparse", reason="not on every GPU machine")

from aimclr_fast.evaluate import command_line
from aimclr_fast.evaluation import protocols
from aimclr_fast.evaluation.options import EvaluationOptions
from aimclr_fast.evaluation.protocols import get_protocol, protocol_names
from aimclr_fast.evaluation.provenance import differences
from aimclr_fast.evaluation.request import Request
from aimclr_fast.evaluation.results import read_results

PACKAGE = Path(protocols.__file__).parents[2]  # aimclr_fast/
DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "evaluate.md"
OPTIONS = ["--data", "store", "--split", "odd-even", "--output", "out", "--csv", "results.csv"]
#: The example of docs/evaluate.md.
(MAJORITY,) = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL)


@pytest.fixture
def majority(evaluated, tmp_path, monkeypatch):
    """A protocol in a file of its own, outside the package; where it writes is `tmp_path`."""
    monkeypatch.chdir(tmp_path)
    for name in ("store", "joint.pt"):
        (tmp_path / name).symlink_to(evaluated / name)
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
    assert protocol.name == name
    assert not differences(protocol.config())  # its defaults stand


def test_what_is_asked_for_takes_a_short_way(majority):
    """From `main` to `run`: functions that are handed the command line or what was made of it."""
    arguments = [majority, "joint.pt", *OPTIONS]
    handed: list[str] = []
    stack: list[str] = []

    def is_asked_for(value: object) -> bool:
        """The whole command line, its checkpoints, options or configuration, or the request."""
        if isinstance(value, list | tuple) and value and "joint.pt" in value:
            return True
        return type(value).__name__ == "Config" or isinstance(value, EvaluationOptions | Request)

    def watch(frame: FrameType, event: str, _: object) -> None:
        code = frame.f_code
        if event != "call" or not code.co_filename.startswith((str(PACKAGE), str(Path.cwd()))):
            return
        if any(map(is_asked_for, frame.f_locals.values())):  # at a call: the arguments
            handed.append(code.co_qualname)
        if code.co_qualname == "run" and Path(code.co_filename).stem == majority:
            sys.setprofile(None)
            caller: FrameType | None = frame
            while caller is not None and caller.f_code.co_qualname != "main":
                stack.append(caller.f_code.co_qualname)
                caller = caller.f_back

    sys.setprofile(watch)
    try:
        command_line(arguments)
    finally:
        sys.setprofile(None)
    way = handed[handed.index("main") + 1 :]
    assert way.pop() == "run"
    assert {"parse", "evaluate_checkpoints", "resolve"} <= set(way)
    assert len(way) <= 6
    assert len(set(way)) == len(way), "it comes back to a function"
    assert stack == ["run", "evaluate_checkpoints"]
