"""What is found in a source, by every reader that lists files: links, endings, archives, noise."""

from __future__ import annotations

import gzip
import io
import os
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
from data.readers import recordings
from data.readers.recordings import NTU_RAW, motion, table
from data.readers.test_ntu import read_all

from aimclr_fast._files import printable
from aimclr_fast.data.readers import ReadError, Recording, _files
from aimclr_fast.data.readers._files import Entry, list_entries
from aimclr_fast.prepare import command_line

LAYOUT = "nw-ucla"
NAMES = ["S001C001P001R001A001", "S001C001P002R001A002"]


def skeletons(folder: Path, names=NAMES, ending=".skeleton") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    whole = sorted(NTU_RAW.iterdir())[0].read_bytes()
    for name in names:
        (folder / f"{name}{ending}").write_bytes(whole)
    return folder


def clips(folder: Path, names=("a", "b"), *, labels: str | None = "name,label\na,0\nb,1\n"):
    folder.mkdir(parents=True, exist_ok=True)
    for index, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        np.save(folder / f"{name}.npy", motion(index, 20, 8))
    if labels is not None:
        (folder / "labels.csv").write_text(labels)
    return folder


def zipped(folder: Path, file: Path | io.BytesIO, prefix: str = "") -> None:
    with zipfile.ZipFile(file, "w") as archive:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                archive.write(path, prefix + path.relative_to(folder).as_posix())


def names_of(found) -> list[str]:
    assert all(isinstance(one, Recording) for one in found), found
    return [one.name for one in found]


def said(plan) -> str:
    return " | ".join([*plan.notes, *(f"{p.where}: {p.reason}" for p in plan.left_out)])


def test_linked_folders_and_files_are_followed(tmp_path):
    skeletons(tmp_path / "elsewhere" / "deep", NAMES[1:])
    source = skeletons(tmp_path / "in", NAMES[:1])
    other = "S001C001P003R001A003.skeleton"
    shutil.copy(source / f"{NAMES[0]}.skeleton", tmp_path / other)
    (source / "linked").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    (source / other).symlink_to(tmp_path / other)
    plan, found = read_all("ntu60", source)
    assert sorted(names_of(found)) == [*NAMES, other.removesuffix(".skeleton")]
    assert not plan.left_out


def test_a_cycle_of_links_ends_and_is_shown(tmp_path):
    source = skeletons(tmp_path / "in")
    (source / "up").symlink_to(tmp_path, target_is_directory=True)
    (source / "itself").symlink_to(source / "itself")
    plan, found = read_all("ntu60", source)
    assert sorted(names_of(found)) == NAMES
    assert [p.reason for p in plan.left_out if p.expected] == [f"is {source} again, by a link"]
    assert "itself: is a broken link" in said(plan)


@pytest.mark.parametrize("first", ["a_link", "z_link"])
def test_a_folder_that_two_paths_lead_to_is_read_once_by_its_own(tmp_path, first):
    source = clips(tmp_path / "in" / "own", labels=None).parent
    clips(source, ("c",), labels=None)
    (source / first).symlink_to(source / "own", target_is_directory=True)
    plan, found = read_all("folder", source, layout=LAYOUT)
    assert sorted(names_of(found)) == ["c", "own/a", "own/b"]
    assert f"{source / first}: is {source / 'own'} again" in said(plan)


def test_links_to_nothing_and_what_is_no_file_are_shown(tmp_path):
    source = skeletons(tmp_path / "in")
    (source / "S001C001P001R001A009.skeleton").symlink_to(tmp_path / "gone")
    os.mkfifo(source / "pipe.skeleton")
    plan, found = read_all("ntu60", source)
    assert len(found) == 2
    assert "A009.skeleton: is a broken link" in said(plan)
    assert "pipe.skeleton: is not a file" in said(plan)


def test_a_folder_that_cannot_be_opened_is_shown(tmp_path, monkeypatch):
    source = skeletons(tmp_path / "in")
    (source / "locked").mkdir()
    scandir = os.scandir

    def refuse(folder):
        if Path(folder).name == "locked":
            raise PermissionError(13, "Permission denied")
        return scandir(folder)

    monkeypatch.setattr(_files.os, "scandir", refuse)
    plan, _ = read_all("ntu60", source)
    assert "locked: cannot be opened: Permission denied" in said(plan)


def test_endings_and_names_in_any_case(tmp_path):
    skeletons(tmp_path, NAMES[:1], ".SKELETON")
    skeletons(tmp_path, [NAMES[1].lower()], ".Skeleton")
    assert sorted(names_of(read_all("ntu60", tmp_path)[1])) == NAMES
    own = clips(tmp_path / "own")
    (own / "a.npy").rename(own / "A.NPY")
    (own / "labels.csv").rename(own / "Labels.CSV")
    (own / "Labels.CSV").write_text("name,label\nA,0\nb.npy,1\n")
    plan, found = read_all("folder", own, layout=LAYOUT)
    assert [(r.name, r.columns["label"]) for r in found] == [("A", 0), ("b", 1)]
    assert not plan.left_out


def test_what_is_ignored_is_counted_by_kind(tmp_path):
    skeletons(tmp_path)
    for name in ("a.avi", "b.avi", "notes.txt", "README", ".hidden"):
        (tmp_path / name).write_text("x")
    (tmp_path / ".ipynb_checkpoints").mkdir()
    shutil.copy(tmp_path / f"{NAMES[0]}.skeleton", tmp_path / ".ipynb_checkpoints")
    plan, found = read_all("ntu60", tmp_path)
    assert len(found) == 2
    assert "ignored: 4 files (2 .avi, 1 .txt, 1 without an ending)" in said(plan)
    assert "ignored: 2 hidden files" in said(plan)


def with_noise(folder: Path) -> Path:
    for file in [p for p in folder.rglob("*") if p.is_file()]:
        place = folder / "__MACOSX" / file.parent.relative_to(folder)
        place.mkdir(parents=True, exist_ok=True)
        (place / f"._{file.name}").write_bytes(b"\0\5\x16\7")
    (folder / ".DS_Store").write_bytes(b"x")
    (folder / "Thumbs.db").write_bytes(b"x")
    return folder


def test_what_a_mac_leaves_behind_stops_nothing(tmp_path, capsys):
    source = with_noise(skeletons(tmp_path / "in"))
    zipped(source, tmp_path / "x.zip", "nturgb+d_skeletons/")
    for number, place in enumerate((source, tmp_path / "x.zip")):
        out = tmp_path / str(number)
        command_line(["ntu60", str(place), str(out), "--on-error=fatal", "--jobs=1"])
        shown = capsys.readouterr().out
        assert "2 sequences" in shown
        assert "ignored: 4 hidden files" in shown
        assert "left out: 0" in shown


@pytest.mark.parametrize("prefix", ["", "recordings/", "a/b/"])
@pytest.mark.parametrize("noise", [False, True])
def test_archives_with_and_without_an_enclosing_folder(tmp_path, prefix, noise):
    source = clips(tmp_path / "in", ("a", "deep/b"), labels="name,label\na,0\ndeep/b.npy,1\n")
    zipped(with_noise(source) if noise else source, tmp_path / "x.zip", prefix)
    with zipfile.ZipFile(tmp_path / "x.zip") as archive:
        archive.extractall(tmp_path / "unpacked")
    for place in (tmp_path / "x.zip", tmp_path / "unpacked"):
        plan, found = read_all("folder", place, layout=LAYOUT)
        assert [(r.name, r.columns["label"]) for r in found] == [("a", 0), ("deep/b", 1)]
        assert not plan.left_out


def test_labels_beside_an_enclosing_folder_may_name_it(tmp_path):
    clips(tmp_path / "in" / "all", labels=None)
    labels = tmp_path / "mine.csv"
    labels.write_text("name,label\nall/a,0\nall/b.npy,1\n")
    plan, found = read_all("folder", tmp_path / "in", layout=LAYOUT, labels=labels)
    assert [r.columns["label"] for r in found] == [0, 1]
    assert not plan.left_out


def test_archives_that_hold_the_same_names_stay_apart(tmp_path):
    (tmp_path / "in").mkdir()
    for subject in ("s1", "s2"):
        zipped(clips(tmp_path / subject, labels=None), tmp_path / "in" / f"{subject}.zip")
    _, found = read_all("folder", tmp_path / "in", layout=LAYOUT)
    assert sorted(names_of(found)) == ["s1/a", "s1/b", "s2/a", "s2/b"]
    (tmp_path / "in" / "labels.csv").write_text("name,label\ns1/a,0\ns2/a,1\na,2\n")
    plan, found = read_all("folder", tmp_path / "in", layout=LAYOUT)
    assert {r.name: r.columns["label"] for r in found} == {"s1/a": 0, "s2/a": 1}
    assert "there is no sequence a" in said(plan)  # either could be meant


def nested(inside: bytes, file: Path, name: str = "part.zip") -> Path:
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, inside)
    return file


def test_archives_within_archives(tmp_path, monkeypatch):
    inner = io.BytesIO()
    zipped(skeletons(tmp_path / "in"), inner, "nturgb+d_skeletons/")
    outer = nested(inner.getvalue(), tmp_path / "outer.zip")
    plan, found = read_all("ntu60", outer)
    assert names_of(found) == NAMES
    assert not plan.left_out
    plan = read_all("ntu60", nested(outer.read_bytes(), tmp_path / "thrice.zip"))[0]
    assert "archive within an archive: unpack the outer one" in said(plan)
    plan = read_all("ntu60", nested(b"no zip", tmp_path / "bad.zip"))[0]
    assert "bad.zip:part.zip: not a readable zip file" in said(plan)
    monkeypatch.setattr(_files, "MAX_BYTES", 1000)
    _files._archive.cache_clear()
    plan = read_all("ntu60", outer)[0]
    assert "outer.zip:part.zip: archives within archives are read up to" in said(plan)


@pytest.mark.parametrize("ending", [".tar.gz", ".tgz", ".tar", ".7z", ".rar", ".TAR.GZ"])
def test_other_archives_are_refused_with_what_to_do(tmp_path, ending):
    source = skeletons(tmp_path / "in")
    (source / f"more{ending}").write_bytes(b"x")
    plan, found = read_all("ntu60", source)
    assert len(found) == 2
    assert f"more{ending}: archives of this kind are not read: unpack it" in said(plan)
    with pytest.raises(ReadError, match="unpack it"):
        read_all("folder", source / f"more{ending}", layout=LAYOUT)


WRITERS = {
    "nw_ucla": recordings.write_nw_ucla,
    "utd_mhad": recordings.write_utd_mhad,
    "ui_prmd": recordings.write_ui_prmd,
    "sbu": recordings.write_sbu,
}


@pytest.mark.parametrize("name", WRITERS)
def test_the_other_readers_too(tmp_path, name):
    source = tmp_path / "in"
    source.mkdir()
    expected = sorted(WRITERS[name](source))
    (source / "film.avi").write_bytes(b"x")
    zipped(with_noise(source), tmp_path / "x.zip", "all/")
    moved = tmp_path / "linked"
    moved.mkdir()
    (moved / "there").symlink_to(source, target_is_directory=True)
    for place in (tmp_path / "x.zip", moved):
        plan, found = read_all(name, place)
        assert sorted(names_of(found)) == expected
        assert "1 .avi" in said(plan)
        assert "hidden files" in said(plan)
        assert not plan.left_out


NOT_UTF8 = os.fsdecode(b"caf\xe9")


def test_names_that_are_not_utf8(tmp_path, capsys):
    source = tmp_path / NOT_UTF8
    clips(source, (NOT_UTF8, "a[red]b[/red]", "c\nd"), labels=None)
    (source / f"bad{NOT_UTF8}.npy").write_bytes(b"x")
    (source / f"film{NOT_UTF8}.{NOT_UTF8}").write_bytes(b"x")
    (source / "labels.csv").write_text(
        "name,label\ncaf\\xe9,0\na[red]b[/red],1\nc\\x0ad,1\nbadcaf\\xe9,0\n"
    )
    command_line(["folder", str(source), str(source / "st"), f"--layout={LAYOUT}", "--jobs=1"])
    shown = capsys.readouterr().out
    assert "3 sequences" in shown
    assert "badcaf\\xe9.npy" in shown
    assert "1 .caf\\xe9" in shown
    listed = (source / "st" / "samples.csv").read_text()
    for name in ("caf\\xe9,0", "a[red]b[/red],1", "c\\x0ad,1"):
        assert f"\n{name}," in listed
    assert "badcaf\\xe9.npy" in (source / "st" / "left_out.csv").read_text()


def test_errors_about_names_that_are_not_utf8(tmp_path, capsys):
    for arguments in (
        ["ntu60", str(tmp_path / NOT_UTF8), "out"],
        ["folder", str(clips(tmp_path / "in")), "out", f"--layout={NOT_UTF8}.yaml"],
    ):
        with pytest.raises(SystemExit) as caught:
            command_line(arguments)
        assert caught.value.code == 2
        assert "caf\\xe9" in capsys.readouterr().err


def test_printable():
    assert printable("Grüße 😀 [red]") == "Grüße 😀 [red]"
    assert printable(NOT_UTF8 + "\x1b[1m\n\ud800") == "caf\\xe9\\x1b[1m\\x0a\\ud800"


def test_base_is_the_folder_around_everything(tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "x.csv").write_text(table(np.zeros((1, 60)), ","))
    assert list_entries(tmp_path, lambda p: True).base == "a/b"
    (tmp_path / "a" / "film.avi").write_bytes(b"")
    assert list_entries(tmp_path, lambda p: p.endswith(".csv")).base == "a"
    (tmp_path / "y.csv").write_bytes(b"")
    assert list_entries(tmp_path, lambda p: True).base == ""


def labels_in(found) -> list[tuple[str, int]]:
    return [(one.name, one.columns["label"]) for one in found]


@pytest.mark.parametrize(
    "prefix", ["rec\\", "rec\\take 1\\", "/abs/", "./", ".\\", "C:\\rec\\", "//x/./y/"]
)
def test_names_of_members_as_other_programs_write_them(tmp_path, prefix):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for path in sorted(clips(tmp_path / "in").iterdir()):
            archive.writestr(prefix + path.name, path.read_bytes())
        archive.writestr(prefix, b"")  # the folder
    plan, found = read_all("folder", tmp_path / "a.zip", layout=LAYOUT)
    assert labels_in(found) == [("a", 0), ("b", 1)]
    assert not plan.left_out
    nested((tmp_path / "a.zip").read_bytes(), tmp_path / "b.zip", "deep\\part.zip")
    _, found = read_all("folder", tmp_path / "b.zip", layout=LAYOUT)
    assert labels_in(found) == [("a", 0), ("b", 1)]


@pytest.mark.parametrize("name", ["labels.csv", "Samples.CSV", "labels.csv.gz"])
def test_labels_below_the_top_are_refused(tmp_path, name):
    for part in ("one", "two"):
        clips(tmp_path / "in" / part)
        (tmp_path / "in" / part / "labels.csv").rename(tmp_path / "in" / part / name)
    zipped(tmp_path / "in", tmp_path / "a.zip")
    for source in (tmp_path / "in", tmp_path / "a.zip"):
        with pytest.raises(ReadError, match=rf"{name}: .* below the top .*1 more: .* --labels"):
            read_all("folder", source, layout=LAYOUT)
    content = "name,label\none/a,0\none/b,1\ntwo/a,1\ntwo/b,0\n"
    (tmp_path / "own.csv").write_text(content)
    _, found = read_all("folder", tmp_path / "a.zip", layout=LAYOUT, labels=tmp_path / "own.csv")
    assert labels_in(found) == [("one/a", 0), ("one/b", 1), ("two/a", 1), ("two/b", 0)]


def test_packed_labels(tmp_path):
    clips(tmp_path)
    (tmp_path / "labels.csv.gz").write_bytes(gzip.compress((tmp_path / "labels.csv").read_bytes()))
    (tmp_path / "labels.csv").unlink()
    assert labels_in(read_all("folder", tmp_path, layout=LAYOUT)[1]) == [("a", 0), ("b", 1)]


def test_stores_in_the_source_are_ignored(tmp_path, capsys):
    clips(tmp_path)
    for name in ("one", "two", "two"):
        arguments = ["folder", str(tmp_path), str(tmp_path / name), f"--layout={LAYOUT}"]
        command_line([*arguments, "--jobs=1", "--overwrite", "--on-error=fatal"])
        samples = (tmp_path / name / "samples.csv").read_text().splitlines()
        assert [line.split(",")[0] for line in samples] == ["name", "a", "b"]
        assert "label" in samples[0]
    assert "is a store, ignored" in capsys.readouterr().out
    plan, found = read_all("folder", tmp_path, layout=LAYOUT)
    assert labels_in(found) == [("a", 0), ("b", 1)]
    assert [problem.expected for problem in plan.left_out] == [True, True]
    with pytest.raises(ReadError, match="two: is a store"):
        read_all("folder", tmp_path / "two", layout=LAYOUT)


def test_a_damaged_archive_among_others_is_left_out(tmp_path):
    clips(tmp_path / "in", labels=None)
    zipped(tmp_path / "in", tmp_path / "in" / "a.zip")
    for name in ("a", "b"):
        (tmp_path / "in" / f"{name}.npy").unlink()
    (tmp_path / "in" / "bad.zip").write_bytes(b"PK\x03\x04junk")
    plan, found = read_all("folder", tmp_path / "in", layout=LAYOUT)
    assert names_of(found) == ["a", "b"]
    assert "bad.zip: not a readable zip file" in said(plan)
    (tmp_path / "only").mkdir()
    (tmp_path / "in" / "bad.zip").rename(tmp_path / "only" / "bad.zip")
    for source in (tmp_path / "only", tmp_path / "only" / "bad.zip"):
        with pytest.raises(ReadError, match=r"bad\.zip: not a readable zip file"):
            read_all("folder", source, layout=LAYOUT)


def test_reading_asks_for_little_more_than_there_is(tmp_path, monkeypatch):
    """Python allocates what is asked for: 256 MiB a file took longer than reading a small one."""
    asked = []

    class Stream(io.BytesIO):
        def read(self, size=-1):
            asked.append(size)
            return super().read(size)

    data = bytes(range(256)) * 3000
    monkeypatch.setattr(Entry, "_open", lambda self: Stream(data))
    assert Entry(tmp_path / "a", "a").read() == data
    assert max(asked) < 8 * len(data)
    asked.clear()
    assert Entry(tmp_path / "a", "a").read_head(1000) == data[:1000]
    assert asked == [1000]
