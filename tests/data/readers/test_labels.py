"""Files of labels as people save them: understood, or refused with the line that is wrong."""

from __future__ import annotations

import pickle

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
     ("1e1", "label '1e1'"), ("٣", "label '٣'"), ("1,000", "label '1,000'"),
     ("1.25e+01", "label '1.25e")],
)  # fmt: skip
def test_one_bad_cell_is_named_and_changes_no_other(label, cell, what):
    labels = [*NUMBERS[:7], f'"{cell}"', *NUMBERS[8:]]
    with pytest.raises(ReadError, match=rf"labels.csv:9: {what}.* 11 others are numbers"):
        label(rows(labels))


@pytest.mark.parametrize(
    "spelling", ["{},0", "+{}", "'{}'", "{:.1e}", "{:.18e}", '"{},00"', "{}.", "'{}.0"]
)
def test_numbers_in_other_spellings_stay_numbers(label, spelling):
    plan, found = label(rows([spelling.format(n) for n in range(12)], separator=";"))
    assert found == dict(zip(NAMES, range(12), strict=True))
    assert plan.classes is None
    assert ("read as whole numbers" in " ".join(plan.notes)) == (spelling != "{}.")


@pytest.mark.parametrize("cell", ["NaN", "nan", "NA", "N/A", "null", "<NA>"])
def test_words_for_nothing_are_no_class(label, cell):
    plan, found = label(rows([cell, *["walk", "none"] * 5, "walk"]))
    assert plan.classes == ("none", "walk")
    assert NAMES[0] not in found
    assert [p.reason for p in plan.left_out] == ["label is empty"]


@pytest.mark.parametrize("column", ["class", "Labels", "action", "class_id", "activity name"])
def test_a_label_column_by_another_name_is_refused(label, column):
    with pytest.raises(ReadError, match=rf"labels.csv:1: .*{column.lower()}: rename it to label"):
        label(rows(NUMBERS, head=f"name,{column},subject"))
    assert label(rows(NUMBERS, head=f"name,label,{column}"))[1]["c03"] == 3


def test_no_label_column_is_said(label):
    plan, _ = label(rows(NUMBERS, head="name,subject,take"))
    assert "no column label: the store is for pretraining" in " ".join(plan.notes)


def test_line_breaks_in_quoted_cells(label, tmp_path):
    (tmp_path / "c00.npy").rename(tmp_path / "c\n00.npy")
    content = PLAIN.replace("c00", '"c\n00"')
    plan, found = label(content)
    assert found["c\\x0a00"] == 0
    assert not plan.left_out
    with pytest.raises(ReadError, match=r"labels.csv:2: label 'x'"):
        label(content.replace(",0,", ",x,", 1))
    with pytest.raises(ReadError, match=r"labels.csv:5: label 'x'"):
        label(content.replace(",2,", ",x,", 1))


def test_one_way_of_naming_serves_the_whole_file(tmp_path):
    def labels_of(names) -> dict[str, int]:
        content = "name,label\n" + "".join(f"{n},{i}\n" for i, n in enumerate(names))
        (tmp_path / "a" / "labels.csv").write_text(content)
        _, found = read_all("folder", tmp_path, layout="nw-ucla")
        return {r.name: r.columns["label"] for r in found}

    (tmp_path / "a" / "a").mkdir(parents=True)
    for name in ("x", "a/x"):
        np.save(tmp_path / "a" / f"{name}.npy", motion(0, 20, 5))
    assert labels_of(["a/x", "a/a/x"]) == {"x": 0, "a/x": 1}
    assert labels_of(["a/a/x.npy", "a/x.npy"]) == {"x": 1, "a/x": 0}
    assert labels_of(["x", "a/x"]) == {"x": 0, "a/x": 1}
    assert labels_of(["a/x", "x"]) == {"x": 1, "a/x": 0}
    assert labels_of(["x", "a/a/x"]) == {"x": 0, "a/x": 1}


def test_names_with_two_endings(tmp_path):
    for name in ("rec.0.csv", "rec.0", "rec.1.csv"):
        np.save(tmp_path / f"{name}.npy", motion(0, 20, 5))
    content = "name,label\nrec.0.csv,0\nrec.0,1\nrec.1.csv.npy,2\nrec.0.npy,1\n"
    (tmp_path / "labels.csv").write_text(content)
    plan, found = read_all("folder", tmp_path, layout="nw-ucla")
    assert {r.name: r.columns["label"] for r in found} == {
        "rec.0.csv": 0, "rec.0": 1, "rec.1.csv": 2,
    }  # fmt: skip
    assert [p.reason for p in plan.left_out] == ["rec.0 is named in line 3 too"]


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


NFC, NFD = "Größe é", "Gro\u0308ße e\u0301"


@pytest.mark.parametrize(("on_disk", "in_table"), [(NFC, NFD), (NFD, NFC), (NFD, NFD)])
def test_letters_with_marks_are_written_in_two_ways(tmp_path, on_disk, in_table):
    for number, name in enumerate((on_disk, "b")):
        np.save(tmp_path / f"{name}.npy", motion(number, 20, 5))
    content = f"name,label,subject\n{in_table}.npy,{NFC},{NFC}\nb,{NFD},{NFD}\n"
    (tmp_path / "labels.csv").write_text(content, encoding="utf-8")
    plan, found = read_all("folder", tmp_path, layout="nw-ucla")
    assert not plan.left_out
    assert plan.classes == (NFC,)
    assert {r.name: tuple(r.columns.values()) for r in found} == {NFC: (0, NFC), "b": (0, NFC)}


@pytest.mark.parametrize(
    "name", [r"a\x", r"a\x.npy", "./a/x", r".\a\x.npy", "a//x.npy", r"in\a\x", "in/a/x"]
)
def test_other_ways_to_write_a_path(tmp_path, name):
    (tmp_path / "in" / "a").mkdir(parents=True)
    for path in ("a/x", "y"):
        np.save(tmp_path / "in" / f"{path}.npy", motion(0, 20, 5))
    (tmp_path / "in" / "labels.csv").write_text(f"name,label\n{name},4\ny,2\n")
    plan, found = read_all("folder", tmp_path, layout="nw-ucla")
    assert not plan.left_out
    assert {r.name: r.columns["label"] for r in found} == {"a/x": 4, "y": 2}


def test_a_backslash_within_a_name_stays_one(tmp_path):
    for name in (r"a\x", "a/x"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        np.save(tmp_path / f"{name}.npy", motion(0, 20, 5))
    (tmp_path / "labels.csv").write_text("name,label\na\\x,4\na/x,2\n")
    plan, found = read_all("folder", tmp_path, layout="nw-ucla")
    assert {r.name: r.columns["label"] for r in found} == {r"a\x": 4, "a/x": 2}
    (tmp_path / "labels.csv").write_text("name,label\n.\\a\\x,4\na/x,2\n")
    plan, _ = read_all("folder", tmp_path, layout="nw-ucla")
    assert "a/x is named in line 3 too" in [p.reason for p in plan.left_out]


@pytest.mark.parametrize("other", ["Walk", "WALK", "wal k", "walk-fast", "Walk  Fast"])
def test_names_of_classes_that_are_nearly_alike_are_said(label, other):
    plan, found = label(rows(["walk", other, "walk_fast", *["sit down"] * 9]))
    assert len(plan.classes) == 4
    said = [note for note in plan.notes if "write them alike if they are one" in note]
    if other == "wal k":
        assert not said
    else:
        one, two = sorted([other, "walk" if other.casefold() == "walk" else "walk_fast"])
        assert len(said) == 1
        assert f"classes {one!r} and {two!r} differ only" in said[0]
    assert found["c02"] != found["c00"] != found["c01"]


def test_names_of_annotations_are_alike_too(tmp_path):
    body = motion(0, 20, 5)[None]
    labels = [NFC, f" {NFD} ", "walk", "Walk"]
    entries = [
        {"frame_dir": f"{NFD}{i}", "label": label, "keypoint": body}
        for i, label in enumerate(labels)
    ]
    lists = {"train": [f"{NFC}{i}" for i in range(2)], "val": [f"{NFD}{i}" for i in (2, 3)]}
    (tmp_path / "a.pkl").write_bytes(pickle.dumps({"split": lists, "annotations": entries}))
    plan, found = read_all("pyskl", tmp_path / "a.pkl", layout="nw-ucla")
    assert plan.classes == (NFC, "Walk", "walk")
    assert [r.columns["label"] for r in found] == [0, 0, 2, 1]
    assert [r.columns["split_split"] for r in found] == ["train", "train", "test", "test"]
    assert any("classes 'Walk' and 'walk' differ only" in note for note in plan.notes)
    assert not any("are of no sample" in note for note in plan.notes)
