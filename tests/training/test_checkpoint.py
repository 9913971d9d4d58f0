"""Checkpoints: written whole, read safely."""

from __future__ import annotations

import pytest
import torch

from aimclr_fast.training.checkpoint import CheckpointError, load_checkpoint, written_whole


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "out.txt"
    path.write_text("old")

    def interrupted() -> None:
        with written_whole(path) as temporary:
            temporary.write_text("half")
            raise RuntimeError("disk full")

    with pytest.raises(RuntimeError, match="disk"):
        interrupted()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
    with written_whole(path) as temporary:
        temporary.write_text("new")
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


class Gadget:
    def __reduce__(self):
        return (print, ("code ran while loading",))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no such checkpoint"),
        (b"", "not a readable checkpoint"),
        (b"garbage" * 100, "not a readable checkpoint"),
        ({"weights": torch.zeros(2)}, "not a checkpoint of aimclr_fast"),
        ([1, 2], "not a checkpoint of aimclr_fast"),
        ({"format": 2, "models": Gadget()}, "not a readable checkpoint"),
    ],
)
def test_odd_files_are_refused_by_name(tmp_path, content, message, capsys):
    path = tmp_path / "odd.pt"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        torch.save(content, path)
    with pytest.raises(CheckpointError, match=f"odd.pt: {message}"):
        load_checkpoint(path)
    assert "code ran" not in capsys.readouterr().out


@pytest.mark.parametrize(
    "content",
    [b"", b"<!DOCTYPE html><html>", b"junk" * 50, b"PK\x03\x04" + bytes(90), b"e\n", b"\x80\x02}"],
)
def test_torchs_advice_is_not_passed_on(tmp_path, content):
    path = tmp_path / "x.pt"
    path.write_bytes(content)
    reason = r"\((it is no file that torch.save wrote|an archive that is damaged)[a-z, ]*\)$"
    with pytest.raises(CheckpointError, match=rf"x.pt: not a readable checkpoint {reason}"):
        load_checkpoint(path)
