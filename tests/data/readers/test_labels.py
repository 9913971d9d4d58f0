"""Files of labels as people save them: understood, or refused with the line that is wrong."""

from __future__ import annotations

import numpy as np
import pytest
from data.readers.recordings import motion
from data.readers.test_ntu import read_all

from aimclr_fast.data.readers import ReadError
from aimclr_fast.prepare import command_line

NAMES = [f"c{n:02}" for n in range(12)]
NUMBERS = [str(n) for n in range(12)]


@pytest.fixture
def label(tmp_path):
    """Writes labels.csv beside twelve sequences; returns the plan and the label of each name."""
    for name in NAMES:
        np.save(tmp_path / f"{name}.npy", motion(0, 20, 5))

    def reader(content: str | bytes):
        data = content.encode() if isinstance(content, str) else content
        (tmp_path / "labels.csv").write_bytes(data)
        plan, found = read_all("folder", tmp_path, layout="nw-ucla")
        return plan, {r.name: r.columns.get("label") for r in found}

    return reader


def rows(labels, head="name,label,subject", separator=",") -> str:
    lines = [head.split(","), *([n, v, "1"] for n, v in zip(NAMES, labels, strict=True))]
    return "".join(separator.join(line) + "\n" for line in lines)


PLAIN = rows(NUMBERS)
KINDS = {
    "plain": PLAIN,
    "floats": rows([f"{n}.0" for n in NUMBERS]),
    "mixed with floats": rows([f"{n}{'.00' if int(n) % 2 else ''}" for n in NUMBERS]),
    "leading zeros": rows([f"{n:>03}" for n in NUMBERS]),
    "semicolons": rows(NUMBERS, separator=";"),
    "tabs": rows(NUMBERS, separator="\t"),
    "upper case": rows(NUMBERS, head="Name,LABEL,Subject"),
    "file": rows(NUMBERS, head="File,Label,subject"),
    "delimiters at the ends": PLAIN.replace("\n", ",\n"),
    "delimiters at the ends of rows": PLAIN.replace("\n", ",\n").replace(",\n", "\n", 1),
    "semicolons at the ends": rows(NUMBERS, separator=";").replace("\n", ";;\n"),
    "blanks": PLAIN.replace(",", " , "),
    "quotes": PLAIN.replace("label", '"label"').replace("c00", '"c00"'),
    "empty lines": "\n" + PLAIN.replace("\n", "\n\n") + ",,\n",
    "byte-order mark": "\ufeff" + PLAIN,
    "UTF-16": PLAIN.encode("utf-16"),
    "carriage returns": PLAIN.replace("\n", "\r\n"),
    "old Macintosh": PLAIN.replace("\n", "\r"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_kinds_of_files(label, kind):
    plan, found = label(KINDS[kind])
    assert found == dict(zip(NAMES, range(12), strict=True))
    assert plan.classes is None
    assert not plan.left_out
    assert ("between cells" in " ".join(plan.notes)) == ("semicolons" in kind or kind == "tabs")


@pytest.mark.parametrize(
    ("cell", "what"),
    [("", "no label"), ("walk", "label 'walk'"), ("2.5", "label '2.5'"), ("nan", "label 'nan'"),
     ("1e1", "label '1e1'"), ("٣", "label '٣'"), ("1,0", "label '1,0'")],
)  # fmt: skip
def test_one_bad_cell_is_named_and_changes_no_other(label, cell, what):
    labels = [*NUMBERS[:7], f'"{cell}"', *NUMBERS[8:]]
    with pytest.raises(ReadError, match=rf"labels.csv:9: {what}.* 11 others are numbers"):
        label(rows(labels))


def test_the_command_ends_with_the_line(label, tmp_path, capsys):
    with pytest.raises(ReadError):
        label(rows(["", *NUMBERS[1:]]))
    with pytest.raises(SystemExit) as caught:
        command_line(["folder", str(tmp_path), str(tmp_path / "st"), "--layout=nw-ucla"])
    assert caught.value.code == 2
    assert "labels.csv:2: no label" in capsys.readouterr().err
    assert not (tmp_path / "st").exists()


def test_a_missing_name_leaves_its_sequence_out(label):
    words = [f"w{n}" for n in range(12)]
    plan, found = label(rows([*words[:7], "", *words[8:]]))
    assert NAMES[7] not in found
    assert len(found) == 11
    assert [(p.where.rpartition(":")[2], p.reason) for p in plan.left_out] == [
        ("9", "label is empty")
    ]


@pytest.mark.parametrize("most", [9_999, 10_000, 300_000, 20211105000])
def test_ids_become_classes(label, most):
    labels = [most - 7 * n for n in range(6)]
    plan, found = label(rows([*map(str, labels * 2)]))
    if most < 10_000:
        assert plan.classes is None
        assert list(found.values()) == labels * 2
        return
    assert plan.classes == tuple(map(str, sorted(labels)))
    assert list(found.values()) == [5, 4, 3, 2, 1, 0] * 2
    assert f"labels reach {most}, beyond 9999: they are taken as ids of 6" in " ".join(plan.notes)


def test_ids_below_zero_are_left_out_as_before(label):
    plan, found = label(rows(["-1", "500000", *["600000"] * 10]))
    assert found == {name: min(n, 1) for n, name in enumerate(NAMES[1:])}
    assert "label '-1' is not 0 or more" in plan.left_out[0].reason


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("c00,1\nc01,2\n", r"labels.csv:1: header: .* include name; it has 'c00', '1'"),
        ("name,label,\nc00,1,x\n", "labels.csv:1: header: columns must be named"),
        ("name,label,Label\n", "differ"),
        (b"name,label\nc00,caf\xe9\n", r"labels.csv:2: not UTF-8 text .*: save it as UTF-8"),
    ],
)
def test_files_that_are_none(label, content, reason):
    with pytest.raises(ReadError, match=reason):
        label(content)
