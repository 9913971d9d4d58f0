"""What a release is made with: its version, and links that load on older systems."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
STUBS = ROOT / "scripts" / "glibc_stubs.py"
PROGRAM = r"""
#include <cmath>
#include <cstdio>
#include <dlfcn.h>
#include <memory>
#include <pthread.h>
#include <random>
#include <stdexcept>
#include <string>
static void* other(void* value) {
    *static_cast<double*>(value) = std::exp(*static_cast<double*>(value));
    return nullptr;
}
extern "C" int answer(double* value) {
    pthread_t thread;
    auto shared = std::make_shared<std::string>("word");
    if (pthread_create(&thread, nullptr, other, value) || pthread_join(thread, nullptr)) return 1;
    std::random_device draw;
    if (dlopen(nullptr, RTLD_NOW) == nullptr || draw() == draw()) return 2;
    try {
        throw std::runtime_error(*shared);
    } catch (const std::exception& error) {
        return error.what() == *shared ? 0 : 3;
    }
}
"""
linux = pytest.mark.skipif(
    sys.platform != "linux" or not shutil.which("g++") or not shutil.which("readelf"),
    reason="links with g++ on Linux",
)


def versions(library: Path) -> set[tuple[int, ...]]:
    """Of glibc's symbols that a library asks for; those of libstdc++ count as 999."""
    table = subprocess.check_output(["readelf", "--dyn-syms", "--wide", library], text=True)
    undefined = [line for line in table.splitlines() if " UND " in line]
    found = {
        tuple(map(int, version.split(".")))
        for line in undefined
        for version in re.findall(r"@GLIBC_([0-9.]+)", line)
    }
    return found | {(999,) for line in undefined if re.search("@(GLIBCXX|CXXABI)_", line)}


@linux
def test_stubs_let_a_library_load_on_older_systems(tmp_path):
    """As CMakeLists.txt links it; and what the library does is the same."""
    (tmp_path / "answer.cpp").write_text(PROGRAM)
    subprocess.run([sys.executable, STUBS, tmp_path / "stubs"], check=True, capture_output=True)
    stubs = sorted((tmp_path / "stubs").glob("*.so.*[0-9]"))
    assert {file.name for file in stubs} >= {"libm.so.6", "libpthread.so.0", "libdl.so.2"}
    compile_it = ["g++", "-std=c++17", "-O2", "-fPIC", "-shared", str(tmp_path / "answer.cpp")]
    plain, older = tmp_path / "plain.so", tmp_path / "older.so"
    subprocess.run([*compile_it, "-o", plain, "-pthread", "-ldl"], check=True)
    options = ["-static-libstdc++", "-Wl,--exclude-libs,ALL", "-Wl,--no-as-needed"]
    own = str(ROOT / "cmake" / "older_glibc.cpp")
    subprocess.run([*compile_it, own, *options, "-o", older, *stubs], check=True)
    if max(versions(plain)) <= (2, 28):
        pytest.skip("glibc and compiler are old enough without")
    assert max(versions(older)) <= (2, 28)
    code = (
        "import ctypes, sys; value = ctypes.c_double(1.0);"
        "print(ctypes.CDLL(sys.argv[1]).answer(ctypes.byref(value)), value.value)"
    )
    for library in (plain, older):
        out = subprocess.check_output([sys.executable, "-c", code, str(library)], text=True)
        assert out.split() == ["0", "2.718281828459045"]


@linux
def test_a_symbol_that_is_new_is_left_to_be_found(tmp_path):
    """No stub makes one up: auditwheel has to see it."""
    subprocess.run(
        [sys.executable, STUBS, tmp_path, "--glibc", "2.2.0"], check=True, capture_output=True
    )
    assert not list(tmp_path.glob("*.so.*[0-9]"))  # x86-64 begins with 2.2.5


def test_the_changelog_has_the_version():
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    headings = re.findall(r"^## \[([^]]+)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert headings[:2] == ["Unreleased", version]


def test_the_script_says_what_it_takes():
    done = subprocess.run(
        [sys.executable, ROOT / "scripts" / "release.py", "--help"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    for flag in ("--python", "--smoke", "--cuda", "--out"):
        assert flag in done.stdout
