"""The two readers of skeleton text against the golden arrays, each other, and damaged files."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from data.readers.recordings import NTU_RAW, motion, skeleton_text
from missing import require

from aimclr_fast import native
from aimclr_fast.data.readers import ReadError, _text

READERS = {"compiled": _text._skeleton_native, "numpy": _text._skeleton_numpy}
TABLES = {"compiled": _text._table_native, "numpy": _text._table_numpy}
ROOT = Path(__file__).parents[3]


@pytest.fixture(params=READERS)
def read(request):
    return lambda text, joints=25: READERS[request.param](text, joints, "file")


@pytest.fixture(params=TABLES)
def read_table(request):
    return lambda text, columns: TABLES[request.param](text, columns, "file")


def test_the_compiled_reader_is_there():
    assert native.available(), native.why_unavailable()


@pytest.mark.parametrize("file", sorted(NTU_RAW.iterdir()), ids=lambda file: file.stem)
def test_golden_files(read, file):
    with np.load(NTU_RAW.parent / "ntu_prep.npz") as golden:
        expected = golden[f"raw/{file.stem}"]
    np.testing.assert_array_equal(read(file.read_bytes()).in_order(2), expected)


def test_frames_without_bodies_ids_and_line_ends(read):
    a, b = motion(0, 3, 1)[0], motion(1, 3, 1)[0]
    for newline in ("\n", "\r\n"):
        big = 2**64 - 5
        text = skeleton_text([[(7, a)], [], [(big, b), (7, a)]], newline)
        for data in (text, text.rstrip(), text + b"\n\r\n  \n"):
            bodies = read(data, 3)
            assert bodies.frames == 3
            np.testing.assert_array_equal(bodies.frame, [0, 2, 2])
            np.testing.assert_array_equal(bodies.ident, [7, -5, 7])
            np.testing.assert_allclose(bodies.positions, [a, b, a], atol=1e-7)


GOOD = skeleton_text([[(1, motion(0, 3, 1)[0])]] * 2).decode()


def with_line(number: int, line: str) -> str:
    lines = GOOD.split("\n")
    lines[number - 1] = line
    return "\n".join(lines)


REST = " 1 1 1 1 1 1 1 1 2"


@pytest.mark.parametrize(
    ("text", "line", "reason"),
    [
        ("", 0, "empty"),
        ("\0\1\2\xff\xfe", 1, "count of frames"),
        ("\x89PNG\r\n\x1a\n" + GOOD, 1, "count of frames"),
        (with_line(1, "-1"), 1, "count of frames"),
        (with_line(1, "2.0"), 1, "count of frames"),
        (with_line(1, "2147483648"), 1, "more frames than the file can hold"),
        (with_line(1, "99999999999999999999999"), 1, "count of frames"),
        (with_line(1, "3"), 13, "ends before a frame"),
        (with_line(1, "1"), 8, "text after the last frame"),
        (with_line(2, "-1"), 2, "count of bodies"),
        (with_line(2, "2147483648"), 2, "more bodies than the file can hold"),
        (with_line(2, "2"), 8, "must begin with its id"),
        (with_line(3, "1 0 1"), 3, "must begin with its id"),
        (with_line(3, "x 0 1 1 1 1 0 0 0 2"), 3, "must begin with its id"),
        (with_line(4, "-3"), 4, "count of joints"),
        (with_line(4, "4"), 4, "wrong number of joints"),
        (with_line(4, "2147483648"), 4, "wrong number of joints"),
        (with_line(5, "nan 0 0" + REST), 5, "finite"),
        (with_line(5, "0 inf 0" + REST), 5, "finite"),
        (with_line(5, "0 0 1e999" + REST), 5, "finite"),
        (with_line(5, "0 0 3.5e38" + REST), 5, "finite"),
        (with_line(5, "0 0 1_0" + REST), 5, "finite"),
        (with_line(5, "0 0 0x1" + REST), 5, "finite"),
        (with_line(5, ""), 5, "finite"),
        (with_line(5, "0 0 0"), 5, "12 columns"),
        (with_line(6, "0 0 0" + REST + " 3"), 6, "12 columns"),
        (GOOD[: GOOD.rindex("900.3")], 13, "12 columns"),
        ("\n".join(GOOD.split("\n")[:6]), 6, "ends within a body"),
        ("\n".join(GOOD.split("\n")[:3]), 3, "ends before a count of joints"),
    ],
)
def test_damage_is_named_with_its_line(read, text, line, reason):
    with pytest.raises(ReadError, match=reason) as caught:
        read(text.encode("latin1"), 3)
    assert caught.value.line == line
    assert str(caught.value).startswith("file:")


def test_long_and_odd_numbers_are_rounded_as_python_does(read):
    numbers = ["0.1", "-12345678901234567890.5", "1e-3", "123456789012345678", ".5", "7.", "+1",
               "0.30000000000000004440892098500626", "9007199254740993", "1E2", "-0",
               "1e-30"]  # fmt: skip
    for number in numbers:
        body = f"1\n1\n1 0 1 1 1 1 0 0 0 2\n1\n{number} 0 {number}{REST}\n"
        expected = np.float32(float(number))
        np.testing.assert_array_equal(
            read(body.encode(), 1).positions, [[[expected, 0, expected]]], number
        )


def test_tables(read_table):
    text = b"1 2 3\r\n\n-4.5,5e-3,6\n7;8;9;\n 1\t2 , 3 "
    expected = [[1, 2, 3], [-4.5, 5e-3, 6], [7, 8, 9], [1, 2, 3]]
    np.testing.assert_array_equal(read_table(text, 3), expected)
    assert read_table(b"", 3).shape == (0, 3)


@pytest.mark.parametrize(
    ("text", "line"),
    [("1 2\n", 1), ("1 2 3\n1 2 3 4\n", 2), ("1 2 3\n\n1 2 x\n", 3), ("1 nan 3", 1),
     ("1,,3", 1), ("1 2 3\n1 2 1e999\n", 2), ("\0\0\0", 1)],
)  # fmt: skip
def test_damaged_tables(read_table, text, line):
    with pytest.raises(ReadError) as caught:
        read_table(text.encode(), 3)
    assert caught.value.line == line


def mutated(data: bytes, rng: np.random.Generator) -> bytes:
    words = [b"0", b"-1", b"2147483648", b"nan", b"1e999", b"", b"\n", b" ", b"\r", b"25", b"\xff"]
    out = bytearray(data)
    for _ in range(rng.integers(1, 4)):
        at = int(rng.integers(len(out) + 1))
        span = int(rng.integers(1, 60))
        match rng.integers(5):
            case 0:
                out[at : at + 1] = bytes([rng.integers(256)])
            case 1:
                del out[at : at + span]
            case 2:
                out[at:at] = out[at // 2 : at // 2 + span]
            case 3:
                out[at:at] = words[rng.integers(len(words))]
            case 4:
                del out[at:]
    return bytes(out)


def test_both_readers_agree_on_mutated_files():
    """Either the same bodies or an error at the same line."""
    rng = np.random.default_rng(0)
    seed = skeleton_text([[(1, motion(0, 3, 1)[0])], [], [(2, motion(1, 3, 1)[0])] * 2])
    taken = 0
    for _ in range(600):
        text = mutated(seed, rng)
        outcomes = []
        for reader in READERS.values():
            try:
                outcomes.append(reader(text, 3, "file"))
            except ReadError as error:
                outcomes.append(str(error))
        first, second = outcomes
        if isinstance(first, str) or isinstance(second, str):
            assert first == second, text
        else:
            taken += 1
            assert first.frames == second.frames
            for field in ("positions", "frame", "ident"):
                np.testing.assert_array_equal(getattr(first, field), getattr(second, field))
    assert taken > 20  # or nothing was compared


def test_fuzz_with_sanitizers(tmp_path):
    """A short run of the coverage-guided fuzzer; its file says how to run it for long."""
    require(shutil.which("g++"), "g++ was not found")
    flags = ["-std=c++17", "-O1", "-g", "-I", "csrc", "-fsanitize=address,undefined",
             "-fno-sanitize-recover=all"]  # fmt: skip
    parser, driver = (
        ROOT / "csrc/cpu/skeleton_text/skeleton_text.cpp",
        ROOT / "tests/native/fuzz_skeleton_text.cpp",
    )
    steps = [
        ["g++", *flags, "-fsanitize-coverage=trace-pc", "-c", parser, "-o", tmp_path / "parser.o"],
        ["g++", *flags, driver, tmp_path / "parser.o", "-o", tmp_path / "fuzz"],
        [tmp_path / "fuzz", "5000", "1", *sorted(NTU_RAW.iterdir())],
    ]
    for step in steps:
        done = subprocess.run(
            [*map(str, step)], cwd=ROOT, capture_output=True, text=True, timeout=300, check=False
        )
        assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("5000 inputs")
    assert "taken" in done.stdout
