"""What a release is made with: its version, and links that load on older systems."""

from __future__ import annotations

import importlib
import itertools
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

import pytest
from missing import require

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


@pytest.fixture
def release(monkeypatch):
    """The script, as a module."""
    monkeypatch.syspath_prepend(ROOT / "scripts")
    return importlib.import_module("release")


def run_main(release, monkeypatch, *arguments: object) -> None:
    monkeypatch.setattr(sys, "argv", ["release.py", *map(str, arguments)])
    release.main()


def test_an_archive_is_of_the_commit_alone(release, tmp_path):
    require(shutil.which("git"), "git was not found")
    root = tmp_path / "root"
    root.mkdir()
    (root / ".gitignore").write_text("*.log\n")
    (root / "kept.py").write_text("1\n")
    git = ["git", "-C", root, "-c", "user.name=A", "-c", "user.email=a@example.org"]
    for command in (["init", "-q"], ["add", "."], ["commit", "-qm", "One"]):
        subprocess.run([*git, *command], check=True)
    (root / "ignored.log").write_text("left by another build\n")
    tree = release.sources(root, tmp_path / "tree")
    assert {file.name for file in tree.iterdir()} == {".git", ".gitignore", "kept.py"}
    (root / "forgotten.py").write_text("2\n")
    with pytest.raises(SystemExit, match=r"has changes.*\n.*forgotten\.py"):
        release.sources(root, tmp_path / "untracked")
    (root / "forgotten.py").unlink()
    (root / "kept.py").write_text("3\n")
    with pytest.raises(SystemExit, match=r"has changes.*\n.*kept\.py"):
        release.sources(root, tmp_path / "changed")


def test_the_surroundings_change_nothing(release, monkeypatch):
    """Neither which package is imported nor how it is built; and warnings are no output."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("AIMCLR_NATIVE", "OFF")
    code = (
        "import os, sys; print('a warning', file=sys.stderr);"
        "print([n for n in os.environ if n.startswith(('AIMCLR_', 'PYTHONPATH'))])"
    )
    assert release.call(sys.executable, "-c", code, AIMCLR_CUDA="OFF") == "['AIMCLR_CUDA']\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--python", "/no/such/python"], "--python /no/such/python: there is no such program"),
        (["--python", sys.executable] * 2, "too"),
        (["--smoke", sys.executable], "must be PYTHON=TORCH"),
        (["--smoke", f"{sys.executable}="], "must be PYTHON=TORCH"),
        (["--smoke", "/no/such/python=2.6.0"], "must be PYTHON=TORCH"),
        (["--smoke", f"{sys.executable}=/no/such/folder"], "there is no such folder"),
        (["--smoke", f"{sys.executable}=2.6.0"], "no --python is cp3"),
    ],
)
def test_arguments_are_checked_before_anything_is_built(
    release, monkeypatch, tmp_path, capsys, arguments, message
):
    monkeypatch.setattr(release, "PROGRAMS", [])
    with pytest.raises(SystemExit) as caught:
        run_main(release, monkeypatch, "--out", tmp_path / "dist", *arguments)
    assert caught.value.code == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "dist").exists()


@pytest.fixture
def commands(release, monkeypatch) -> list[list[str]]:
    """What the script runs; the commands are replaced by ones that only write the files."""
    ran: list[list[str]] = []

    def call(*command: object, **environment: str) -> str:
        words = [*map(str, command)]
        ran.append(words)
        places = dict(itertools.pairwise(words))
        if "build" in words and "--sdist" in words:
            Path(places["--outdir"], "aimclr_fast-1.tar.gz").write_text("archive")
        elif "wheel" in words:
            Path(places["--wheel-dir"]).mkdir(parents=True, exist_ok=True)
            Path(places["--wheel-dir"], "aimclr_fast-1-linux.whl").write_text("plain")
        elif "repair" in words:
            Path(places["--wheel-dir"]).mkdir()
            Path(places["--wheel-dir"], "aimclr_fast-1-manylinux.whl").write_text("new")
        elif "-c" in words:
            return "cp311\n"
        elif "status" in words:
            return ""
        return "said\nlast line\n"

    monkeypatch.setattr(release, "PROGRAMS", [])
    monkeypatch.setattr(release, "call", call)
    monkeypatch.setattr(release, "write_stubs", lambda *_: [])
    return ran


@pytest.fixture
def another_file_system(monkeypatch, tmp_path):
    """For temporary files: a rename from there to `tmp_path` fails."""
    memory = Path("/dev/shm")
    require(memory.is_dir() and memory.stat().st_dev != tmp_path.stat().st_dev, "needs /dev/shm")
    with tempfile.TemporaryDirectory(dir=memory) as folder:
        monkeypatch.setattr(tempfile, "tempdir", folder)
        yield


@pytest.mark.usefixtures("another_file_system")
def test_what_is_built_is_tried(release, monkeypatch, tmp_path, commands, capsys):
    """On another file system, too; the archive without the compiled library as well."""
    arguments = ("--out", tmp_path, "--python", sys.executable, "--smoke", f"{sys.executable}=2.6")
    run_main(release, monkeypatch, *arguments)
    files = {file.name: file.read_text() for file in tmp_path.iterdir()}
    assert files == {"aimclr_fast-1.tar.gz": "archive", "aimclr_fast-1-manylinux.whl": "new"}
    tried = [words[1:] for words in commands if "smoke.py" in " ".join(words)]
    smoke = str(ROOT / "scripts" / "smoke.py")
    assert tried == [[smoke], [smoke, "--pure"]]
    installed = [words[4:] for words in commands if words[1:4] == ["-m", "pip", "install"]]
    wheel, archive = (str(tmp_path / name) for name in sorted(files))
    assert installed[1] == [wheel, "safetensors", "torch==2.6"]
    assert installed[2] == ["--no-deps", "--force-reinstall", archive]
    assert capsys.readouterr().out.endswith("last line\nlast line\n")


def test_a_wheel_that_is_refused_replaces_none(release, monkeypatch, tmp_path, commands):
    earlier = tmp_path / "aimclr_fast-1-manylinux.whl"
    earlier.write_text("earlier")
    pretend = release.call

    def refuse(*command: object, **environment: str) -> str:
        said = pretend(*command, **environment)
        if "repair" in command:
            raise SystemExit("a symbol is too new")
        return said

    monkeypatch.setattr(release, "call", refuse)
    with pytest.raises(SystemExit, match="too new"):
        run_main(release, monkeypatch, "--out", tmp_path, "--python", sys.executable)
    assert earlier.read_text() == "earlier"
    assert {file.name for file in tmp_path.iterdir()} == {earlier.name, "aimclr_fast-1.tar.gz"}
