"""How the compiled library reads the arguments of a call (csrc/bindings/keywords.h)."""

import importlib.util
import re
import subprocess
import sysconfig

import pybind11
import pytest
from missing import compiler, require
from native.conftest import ROOT

from aimclr_fast import native

GOOD = {"counters": 0, "key0": 1, "key1": 2, "out": 0, "n": 0, "threads": 1}


def call(**changes):
    return native.load().philox4x32_cpu(**{**GOOD, **changes})


def test_a_sound_call_returns_nothing():
    assert call() is None


@pytest.mark.parametrize("name", GOOD)
def test_a_missing_argument_is_named(name):
    given = {key: value for key, value in GOOD.items() if key != name}
    with pytest.raises(TypeError, match=f"philox4x32_cpu misses the argument '{name}'"):
        native.load().philox4x32_cpu(**given)


def test_an_unknown_argument_is_named():
    with pytest.raises(TypeError, match="philox4x32_cpu got an unknown argument 'key2'"):
        call(key2=3)


def test_arguments_by_position_are_refused():
    with pytest.raises(TypeError):
        native.load().philox4x32_cpu(*GOOD.values())


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("key0", 1 << 32, "an unsigned integer of 32 bits for 'key0', got 4294967296"),
        ("key1", -1, "an unsigned integer of 32 bits for 'key1', got -1"),
        ("n", 1 << 63, "an integer of 64 bits for 'n', got 9223372036854775808"),
        ("n", 1.5, "an integer of 64 bits for 'n', got 1.5"),
        ("n", None, "an integer of 64 bits for 'n', got None"),
        ("threads", 1 << 31, "an integer of 32 bits for 'threads', got 2147483648"),
        ("counters", -1, "an address (Tensor.data_ptr(), 0 for none) for 'counters', got -1"),
        ("out", 1 << 64, "an address (Tensor.data_ptr(), 0 for none) for 'out', got"),
    ],
)
def test_a_value_of_another_type_is_refused(name, value, message):
    with pytest.raises(TypeError, match=re.escape(f"philox4x32_cpu needs {message}")):
        call(**{name: value})


TWICE = """
#include "bindings/binding.h"

struct Call {
    int stream;
    AIMCLR_FIELDS(stream)
};

aimclr::Status run(const Call&, void*) {
    return {};
}

PYBIND11_MODULE(twice, module) {
    aimclr::bindings::define_call<&run>(module, "run_cuda", "stream");
}
"""


@pytest.mark.slow
def test_two_arguments_of_one_name_keep_the_library_from_loading(tmp_path):
    require(compiler(), "no C++ compiler was found")
    (tmp_path / "twice.cpp").write_text(TWICE)
    include = [pybind11.get_include(), sysconfig.get_paths()["include"], str(ROOT / "csrc")]
    subprocess.run(
        [compiler(), "-std=c++17", "-O0", "-shared", "-fPIC", "-fvisibility=hidden",
         *(f"-I{folder}" for folder in include), "twice.cpp", "-o", "twice.so"],
        cwd=tmp_path, check=True,
    )  # fmt: skip
    spec = importlib.util.spec_from_file_location("twice", tmp_path / "twice.so")
    with pytest.raises(ImportError, match="run_cuda has two arguments 'stream'"):
        spec.loader.exec_module(importlib.util.module_from_spec(spec))
