"""CONTRIBUTING.md: its example of an op is built in a copy of the package, and its test passes."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from children import child_environment
from missing import compiler, require

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
# A path in a line of its own, then the file.
FILES = dict(re.findall(r"^`([\w/.]+)`\n\n```\w+\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE))


@pytest.fixture(scope="module")
def copy(tmp_path_factory) -> Path:
    """The package with the example's files, and of its kernels the example's alone."""
    folder = tmp_path_factory.mktemp("example")
    ignored = shutil.ignore_patterns("*.so", "__pycache__")
    shutil.copytree(ROOT / "aimclr_fast", folder / "aimclr_fast", ignore=ignored)
    shutil.copytree(ROOT / "cmake", folder / "cmake")
    for name in ("CMakeLists.txt", "pyproject.toml", ".clang-format"):
        shutil.copy(ROOT / name, folder / name)
    others = {path.stem for path in (ROOT / "aimclr_fast/ops").glob("[!_]*.py")} | {"skeleton_text"}
    for path in (ROOT / "csrc").rglob("*"):
        there = folder / path.relative_to(ROOT)
        # Each op adds seconds to the build.
        of_op = {path.stem, path.parent.name} & others and path.parent.name != "common"
        if path.is_file() and not of_op and "cuda" not in path.parts:
            there.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, there)
    for name, text in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    return folder


def run(*command: str, cwd: Path) -> str:
    path = os.pathsep.join(filter(None, [str(cwd), os.environ.get("PYTHONPATH")]))
    done = subprocess.run(
        command,
        cwd=cwd,
        env=child_environment(PYTHONPATH=path, AIMCLR_NATIVE="ON"),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


def test_every_room_has_its_file():
    folders = {str(Path(name).parent) for name in FILES}
    assert folders == {
        *("aimclr_fast/reference", "aimclr_fast/ops", "csrc/bindings", "csrc/cpu/row_norm"),
        "tests/ops",
    }


def test_the_example_keeps_the_rules(copy):
    require(shutil.which("ruff"), "ruff was not found")
    files = [name for name in FILES if name.endswith(".py")]
    run("ruff", "check", *files, cwd=copy)
    run("ruff", "format", "--check", *files, cwd=copy)


def test_the_example_is_built_and_its_test_passes(copy):
    require(compiler(), "no C++ compiler was found")
    import pybind11

    options = {
        "AIMCLR_CUDA": "OFF",
        "AIMCLR_WERROR": "ON",
        "CMAKE_BUILD_TYPE": "None",  # nothing is optimized, which takes a fraction of the time
        "Python_EXECUTABLE": sys.executable,
        "pybind11_DIR": pybind11.get_cmake_dir(),
    }
    given = [f"-D{name}={value}" for name, value in options.items()]
    run("cmake", "-S", ".", "-B", "build", "-G", "Ninja", *given, cwd=copy)
    run("cmake", "--build", "build", cwd=copy)
    (library,) = (copy / "build").glob("_native*.so")
    shutil.copy(library, copy / "aimclr_fast")
    shown = run(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests", cwd=copy)
    assert re.search(r"^12 passed", shown, re.MULTILINE), shown
