"""The restricted unpickler takes plain data, and nothing that could do anything."""

from __future__ import annotations

import bz2
import collections
import contextlib
import datetime
import decimal
import gzip
import lzma
import os
import pickle
import struct
from pathlib import Path

import numpy as np
import pytest
import torch

from aimclr_fast.data.safe_pickle import PickleError, load, loads

PLAIN = {
    "text": "Größe", "bytes": b"\0\xff", "none": None, "yes": True,
    "numbers": [1, -(2**70), 1.5, 2j],
    "nested": ({1, 2}, frozenset({3}), [[], {}], ()), "more": bytearray(b"xy"),
    "ordered": collections.OrderedDict(a=1),
}  # fmt: skip
ARRAYS = [
    np.arange(24, dtype=np.float32).reshape(2, 3, 4),
    np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    np.arange(4, dtype=">i2"),
    np.array(["a", "bc"]),
    np.array([b"a", b"bc"]),
    np.array([True, False]),
    np.zeros((0, 3), dtype=np.float16),
    np.arange(10)[::3],
    np.float32(1.5),
    np.int64(7),
]


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_plain_data_comes_back(protocol):
    assert loads(pickle.dumps(PLAIN, protocol)) == PLAIN
    shared = [1]
    a, b = loads(pickle.dumps([shared, shared], protocol))
    assert a is b


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("array", ARRAYS, ids=lambda a: f"{a.dtype}{list(a.shape)}")
def test_arrays_come_back(protocol, array):
    again = loads(pickle.dumps({"x": array}, protocol))["x"]
    # numpy itself brings some back in the machine's own byte order.
    assert again.dtype.newbyteorder("=") == array.dtype.newbyteorder("=")
    np.testing.assert_array_equal(again, array)


def test_names_of_numpy_1_and_2():
    for core in (b"numpy.core.multiarray", b"numpy._core.multiarray"):
        data = pickle.dumps(ARRAYS[0], 2).replace(b"numpy._core.multiarray", core)
        np.testing.assert_array_equal(loads(data), ARRAYS[0])


def test_a_byte_order_does_not_leak():
    loads(pickle.dumps(np.arange(3, dtype=">i4")))
    assert np.dtype("i4").byteorder == "="


class Evil:
    def __reduce__(self):
        return os.system, ("exit 1",)


def call(module: str, name: str, argument: str = "x") -> bytes:
    return f"c{module}\n{name}\n(V{argument}\ntR.".encode()


@pytest.mark.parametrize(
    ("data", "named"),
    [
        (pickle.dumps(Evil()), "posix.system"),
        (pickle.dumps([{"a": (Evil(),)}]), "posix.system"),
        (call("builtins", "eval", "1"), "builtins.eval"),
        (call("builtins", "getattr"), "builtins.getattr"),
        (call("builtins", "__import__"), "builtins.__import__"),
        (call("numpy", "load"), "numpy.load"),
        (call("numpy.core.multiarray", "fromfile"), "multiarray.fromfile"),
        (call("subprocess", "Popen"), "subprocess.Popen"),
        (call("aimclr_fast.data.safe_pickle", "loads"), "safe_pickle.loads"),
        (pickle.dumps(Path("x")), "pathlib"),
        (pickle.dumps(datetime.date(2020, 1, 1)), "datetime.date"),
        (pickle.dumps(decimal.Decimal(1)), "decimal.Decimal"),
        (pickle.dumps(torch.zeros(1)), "torch"),
        (pickle.dumps(np.array([None, Evil])), "dtype 'O8'"),
        (pickle.dumps(np.zeros(1, dtype=[("a", "f4")])), "dtype 'V4'"),
        (pickle.dumps(np.array(["2020"], dtype="M8[Y]")), "dtype 'M8'"),
        (b"cnumpy\nndarray\n(I1000000000000\ntR.", "ndarray"),
        (b"(I1\ni__builtin__\nlist\n.", "INST"),
        (b"(c__builtin__\nlist\no.", "OBJ"),
        (b"Pname\n.", "PERSID"),
        (b"\x80\x02\x82\x01.", "EXT1"),
        (b"c__builtin__\nlist\n}b.", "sets the state of a function"),
        (b"]}b.", "sets the state of a list"),
    ],
)
def test_anything_else_is_refused_by_name(data, named):
    with pytest.raises(PickleError) as caught:
        loads(data)
    assert named in str(caught.value)


def array_pickle(shape: bytes, size: int = 4) -> bytes:
    """An array of float32 that claims a shape, with `size` bytes of data."""
    return (
        b"\x80\x02cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\0\x85U\x01b\x87R"
        b"(K\x01" + shape + b"cnumpy\ndtype\nU\x02f4K\0K\x01\x87R(K\x03U\x01<NNNJ\xff\xff\xff\xff"
        b"J\xff\xff\xff\xffK\0tb\x89T" + struct.pack("<i", size) + b"\0" * size + b"tb."
    )


def test_forged_arrays():
    assert loads(array_pickle(b"K\x01\x85")).tolist() == [0.0]
    for shape in (
        b"K\x02\x85",
        b"J\xff\xff\xff\xff\x85",
        b"\x8a\x08" + b"\0" * 7 + b"\x10\x85",
        b"]",
    ):
        with pytest.raises(PickleError):
            loads(array_pickle(shape))
    huge = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\n(I100000000000\nt(Vb\ntR."
    with pytest.raises(PickleError):
        loads(huge)


def test_forged_sizes_claim_no_memory():
    """Each says it goes on for gigabytes, or counts to them."""
    for data in (
        b"\x80\x04]r\xff\xff\xff\x7f.",  # a memo index of 2**31
        b"\x80\x04\x8e" + b"\xff" * 7 + b"\x0f.",  # a bytes object
        b"\x80\x04\x8d" + b"\xff" * 7 + b"\x0f.",  # text
        b"\x80\x04\x8b\xff\xff\xff\x7f.",  # an integer
        b"\x80\x04\x95" + b"\xff" * 7 + b"\x0f.",  # a frame
        b"\x80\x05\x96" + b"\xff" * 7 + b"\x0f.",  # a bytearray
    ):
        with contextlib.suppress(PickleError):
            assert loads(data) == []  # the memo's index alone does no harm


@pytest.mark.parametrize("data", [b"", b"garbage", b"\x80\x63.", b"\x80\x04]", b"(" * 100_000])
def test_damage_is_one_error(data):
    with pytest.raises(PickleError):
        loads(data)


def test_mutated_pickles_are_read_or_refused():
    rng = np.random.default_rng(0)
    seeds = [
        pickle.dumps((["a", "b"], [1, 2], {"x": ARRAYS[0], "y": ARRAYS[2]}), p) for p in range(6)
    ]
    refused = 0
    for turn in range(1500):
        data = bytearray(seeds[turn % 6])
        for _ in range(rng.integers(1, 4)):
            at = int(rng.integers(len(data)))
            match rng.integers(4):
                case 0:
                    data[at] = rng.integers(256)
                case 1:
                    del data[at : at + int(rng.integers(1, 20))]
                case 2:
                    data[at:at] = data[at // 2 : at // 2 + 8]
                case 3:
                    data[at:at] = bytes([rng.choice([0x52, 0x62, 0x63, 0x81, 0x93, 0x2E, 0x30])])
        try:
            loads(bytes(data))
        except PickleError:
            refused += 1
    assert refused > 300


def test_files(tmp_path):
    (tmp_path / "x.pkl").write_bytes(pickle.dumps([1]))
    assert load(tmp_path / "x.pkl") == [1]
    with pytest.raises(PickleError, match="cannot be read"):
        load(tmp_path / "y.pkl")


@pytest.mark.parametrize(
    ("packed", "name"),
    [(gzip.compress, "gzip"), (bz2.compress, "bzip2"), (lzma.compress, "xz")],
)
def test_compressed_pickles_are_called_so(tmp_path, packed, name):
    (tmp_path / "a.pkl").write_bytes(packed(pickle.dumps([1])))
    with pytest.raises(PickleError, match=rf"^is compressed \({name}\): unpack it first$"):
        load(tmp_path / "a.pkl")
