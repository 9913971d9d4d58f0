"""Read untrusted pickles of plain data: containers, strings, numbers and numpy arrays.

A pickle is a program. This one runs on the interpreter of the standard library (the one written in
Python, whose memo is a dict, so that a forged index cannot claim gigabytes), without the
instructions that could call something, except for the few functions that build numpy's arrays;
those are replaced by functions of ours that check their arguments.
"""

from __future__ import annotations

import io
import math
import os
import pickle
import re
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np

from aimclr_fast._errors import Error

#: Largest pickle read; the largest known of skeletons (NTU RGB+D 120 with scores) has 3 GiB.
MAX_BYTES = 8 << 30
_DTYPE = re.compile(r"[<>=|]?[biufcSU][0-9]{1,4}|[?bBhHiIlLqQefdg]|\|b1")
#: How files begin that have to be unpacked; no pickle does.
_COMPRESSED = {
    b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"PK\x03\x04": "zip",
    b"\x28\xb5\x2f\xfd": "zstd", b"7z\xbc\xaf": "7z",
}  # fmt: skip
_REFUSED = (
    "INST", "OBJ", "NEWOBJ_EX", "EXT1", "EXT2", "EXT4", "PERSID", "BINPERSID", "NEXT_BUFFER",
)  # fmt: skip


class PickleError(Error, ValueError):
    """A pickle that is damaged or holds more than plain data; the message names what."""


def load(path: str | os.PathLike[str]) -> Any:
    """Read a pickle file; see :func:`loads`."""
    try:
        size = os.stat(path).st_size
        if size > MAX_BYTES:
            raise PickleError(f"{size} bytes; at most {MAX_BYTES} are read")
        with open(path, "rb") as stream:
            return loads(stream.read())
    except OSError as error:
        raise PickleError(f"cannot be read: {error}") from error


def loads(data: bytes) -> Any:
    """Read a pickle of plain data.

    Returns:
        dict, list, tuple, set, str, bytes, bool, int, float, complex, None, numpy arrays and
        scalars of numbers or strings, nested in any way.

    Raises:
        PickleError: it is damaged, or holds anything else, which is named.
    """
    for mark, name in _COMPRESSED.items():
        if data.startswith(mark):
            raise PickleError(f"is compressed ({name}): unpack it first")
    try:
        return _Unpickler(io.BytesIO(data)).load()
    except PickleError:
        raise
    except RecursionError:
        raise PickleError("nested too deeply") from None
    except Exception as error:
        # A forged pickle can make the interpreter fail in any way.
        kind = type(error).__name__
        raise PickleError(f"not a readable pickle ({kind}: {str(error)[:200]})") from error


def _dtype(name: Any, align: Any = False, copy: Any = False) -> np.dtype[Any]:
    text = name.decode("latin1") if isinstance(name, bytes) else name
    if not isinstance(text, str) or _DTYPE.fullmatch(text) is None:
        raise PickleError(f"holds numpy dtype {text!r:.60}; only numbers and strings are admitted")
    # Always a copy: setting a byte order on a shared one would change it for everybody.
    return np.dtype(text, copy=True)


def _set_dtype(dtype: np.dtype[Any], state: Any) -> None:
    order = state[1].decode() if isinstance(state[1], bytes) else state[1]
    if order not in ("<", ">", "=", "|") or any(part is not None for part in state[2:5]):
        raise PickleError("holds a structured numpy dtype; only numbers and strings are admitted")
    flexible = dtype.kind in "SU"  # their size is in the state, too: only the name's is believed
    sizes = (dtype.itemsize, dtype.alignment) if flexible else (-1, -1)
    dtype.__setstate__((3, order, None, None, None, *sizes, 0))  # type: ignore[attr-defined]


def _check_dtype(dtype: Any) -> np.dtype[Any]:
    if not isinstance(dtype, np.dtype) or dtype.kind not in "biufcSU" or dtype.itemsize < 1:
        raise PickleError(f"holds numpy dtype {dtype!r:.60}; only numbers and strings are admitted")
    return dtype


def _array(kind: Any, shape: Any, typecode: Any) -> np.ndarray[Any, Any]:
    if kind is not np.ndarray or shape != (0,):
        raise PickleError("holds an array made in an unknown way")
    return np.ndarray((0,), dtype=np.int8)


def _set_array(array: np.ndarray[Any, Any], state: Any) -> None:
    version, shape, dtype, fortran, raw = state
    _check_dtype(dtype)
    raw = raw.encode("latin1") if isinstance(raw, str) else raw  # Python 2's bytes
    _check_raw(shape, dtype, raw)
    set_state: Any = array.__setstate__
    set_state((int(version), shape, dtype, bool(fortran), raw))


def _check_raw(shape: Any, dtype: np.dtype[Any], raw: Any) -> None:
    sizes = isinstance(shape, tuple) and all(type(n) is int and n >= 0 for n in shape)
    if not sizes or len(shape) > 16 or not isinstance(raw, bytes | bytearray):
        raise PickleError("holds an array whose data are not plain bytes")
    if math.prod(shape) * dtype.itemsize != len(raw):
        raise PickleError(f"holds an array of shape {list(shape)} with {len(raw)} bytes of data")


def _from_buffer(raw: Any, dtype: Any, shape: Any, order: Any) -> np.ndarray[Any, Any]:
    _check_raw(shape, _check_dtype(dtype), raw)
    if order not in ("C", "F"):
        raise PickleError("holds an array made in an unknown way")
    return np.frombuffer(raw, dtype).reshape(shape, order=order)


def _scalar(dtype: Any, raw: Any) -> Any:
    raw = raw.encode("latin1") if isinstance(raw, str) else raw
    _check_raw((), _check_dtype(dtype), raw)
    return np.frombuffer(raw, dtype)[0]


def _encode(text: Any, encoding: Any) -> bytes:
    # How Python 2 and protocol 2 write bytes.
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise PickleError("holds a call of codecs.encode that is not of bytes")
    return text.encode("latin1")


def _bytearray(*parts: Any) -> bytearray:
    if len(parts) > 1 or not all(isinstance(part, bytes) for part in parts):
        raise PickleError("holds a bytearray made in an unknown way")
    return bytearray(*parts)


def _no_bytes(*parts: Any) -> bytes:
    # How protocols 0 to 2 write b"".
    if parts:
        raise PickleError("holds bytes made in an unknown way")
    return b""


def _container(kind: Callable[..., Any]) -> Callable[..., Any]:
    def make(*parts: Any) -> Any:
        if len(parts) > 1 or not all(isinstance(p, list | tuple | set | dict) for p in parts):
            raise PickleError("holds a container made in an unknown way")
        return kind(*parts)

    return make


def _number(kind: Callable[..., Any]) -> Callable[..., Any]:
    def make(*parts: Any) -> Any:
        if not all(isinstance(part, int | float) for part in parts):
            raise PickleError("holds a number made in an unknown way")
        return kind(*parts)

    return make


_ADMITTED: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): _dtype,
    ("_codecs", "encode"): _encode,
    ("collections", "OrderedDict"): _container(OrderedDict),
}
for _core in ("numpy.core", "numpy._core"):
    _ADMITTED[f"{_core}.multiarray", "_reconstruct"] = _array
    _ADMITTED[f"{_core}.multiarray", "scalar"] = _scalar
    _ADMITTED[f"{_core}.numeric", "_frombuffer"] = _from_buffer
for _builtins in ("builtins", "__builtin__"):
    for _name, _make in {
        "set": _container(set),
        "frozenset": _container(frozenset),
        "list": _container(list),
        "dict": _container(dict),
        "tuple": _container(tuple),
        "complex": _number(complex),
        "bytearray": _bytearray,
        "bytes": _no_bytes,
    }.items():
        _ADMITTED[_builtins, _name] = _make
_CALLABLE = {id(make) for make in _ADMITTED.values() if make is not np.ndarray}


# Not in the published interface, hence unknown to type checkers; there since Python 3.0.
_Interpreter: Any = pickle._Unpickler


class _Unpickler(_Interpreter):  # type: ignore[misc]
    """The standard library's interpreter, without what plain data do not need."""

    dispatch: ClassVar[dict[int, Any]] = dict(_Interpreter.dispatch)

    def __init__(self, stream: io.BytesIO) -> None:
        super().__init__(stream, encoding="latin1")
        self.total = stream.getbuffer().nbytes

    def find_class(self, module: str, name: str) -> Any:
        try:
            return _ADMITTED[module, name]
        except KeyError:
            raise PickleError(
                f"holds {module}.{name}; only plain containers, strings, numbers and numpy arrays "
                "are admitted"
            ) from None

    def load_bytearray8(self) -> None:
        # The library's allocates what the pickle says before it looks whether that is there.
        size = int.from_bytes(self.read(8), "little")
        data = self.read(size) if size <= self.total else b""
        if len(data) != size:
            raise PickleError("ends within a bytearray")
        self.append(bytearray(data))

    def load_reduce(self) -> None:
        arguments = self.stack.pop()
        function = self.stack[-1]
        if id(function) not in _CALLABLE or not isinstance(arguments, tuple):
            raise PickleError(f"calls {function!r:.60}, which is not admitted")
        self.stack[-1] = function(*arguments)

    def load_newobj(self) -> None:
        arguments = self.stack.pop()
        if id(self.stack[-1]) not in _CALLABLE or not isinstance(arguments, tuple):
            raise PickleError(f"makes {self.stack[-1]!r:.60}, which is not admitted")
        self.stack[-1] = self.stack[-1](*arguments)

    def load_build(self) -> None:
        state = self.stack.pop()
        target = self.stack[-1]
        if isinstance(target, np.dtype) and isinstance(state, tuple) and len(state) >= 8:
            _set_dtype(target, state)
        elif isinstance(target, np.ndarray) and isinstance(state, tuple) and len(state) == 5:
            _set_array(target, state)
        else:
            raise PickleError(f"sets the state of a {type(target).__name__}, which is not admitted")

    dispatch[pickle.BYTEARRAY8[0]] = load_bytearray8
    dispatch[pickle.REDUCE[0]] = load_reduce
    dispatch[pickle.NEWOBJ[0]] = load_newobj
    dispatch[pickle.BUILD[0]] = load_build


def _refuse(name: str) -> Callable[[_Unpickler], None]:
    def load(self: _Unpickler) -> None:
        raise PickleError(f"has the instruction {name}, which plain data do not need")

    return load


for _name in _REFUSED:
    _Unpickler.dispatch[getattr(pickle, _name)[0]] = _refuse(_name)
