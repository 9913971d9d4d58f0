"""The source archive holds all that a build needs, and the wheel all that a user needs."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from missing import compiler, require

import aimclr_fast

ROOT = Path(__file__).resolve().parents[1]
NOT_SOURCES = shutil.ignore_patterns(
    ".git", "build", "dist", "runs", "*.egg-info", "*.so", "__pycache__", ".*_cache", ".hypothesis",
    "venv", ".venv", ".benchmarks",
)  # fmt: skip


def build(kind: str, source: Path, out: Path, **environment: str) -> subprocess.CompletedProcess:
    """Builds offline, with the tools of the current environment."""
    command = [sys.executable, "-m", "build", f"--{kind}", "--no-isolation"]
    return subprocess.run(
        [*command, "--skip-dependency-check", "--outdir", str(out), str(source)],
        capture_output=True,
        text=True,
        cwd=out,
        env={**os.environ, "AIMCLR_CUDA": "OFF", "AIMCLR_NATIVE": "ON", **environment},
        check=False,
    )


def only(folder: Path, pattern: str, done: subprocess.CompletedProcess) -> Path:
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    (found,) = folder.glob(pattern)
    return found


@pytest.fixture(scope="module")
def checkout(tmp_path_factory) -> Path:
    """A copy of the source tree as a fresh clone has it."""
    copy = tmp_path_factory.mktemp("packaging") / "checkout"
    shutil.copytree(ROOT, copy, ignore=NOT_SOURCES)
    return copy


@pytest.fixture(scope="module")
def sdist(checkout, tmp_path_factory) -> Path:
    """The source archive, unpacked."""
    out = tmp_path_factory.mktemp("sdist")
    archive = only(out, "*.tar.gz", build("sdist", checkout, out))
    with tarfile.open(archive) as tar:
        tar.extractall(out, filter="data")
    return out / archive.name.removesuffix(".tar.gz")


@pytest.fixture(scope="module")
def wheel(sdist, tmp_path_factory) -> Path:
    """A CPU wheel built from the unpacked source archive: all sources, compiled without
    optimization, which takes a fraction of the time.
    """
    require(compiler(), "no C++ compiler was found")
    out = tmp_path_factory.mktemp("wheel")
    return only(out, "*.whl", build("wheel", sdist, out, CMAKE_BUILD_TYPE="None"))


def files(root: Path, *folders: str) -> set[str]:
    return {
        str(path.relative_to(root))
        for folder in folders
        for path in (root / folder).rglob("*")
        if path.is_file()
    }


def test_sdist_has_every_source(checkout, sdist):
    expected = files(checkout, "aimclr_fast", "csrc", "tests", "benchmarks", "examples")
    expected |= {"pyproject.toml", "setup.py", "CMakeLists.txt", "MANIFEST.in", "constraints.txt"}
    expected |= {"LICENSE", "README.md", "CHANGELOG.md", "CONTRIBUTING.md"}
    missing = expected - files(sdist, ".")
    assert not missing


def test_wheel_has_the_package_and_nothing_else(checkout, wheel):
    names = {name for name in zipfile.ZipFile(wheel).namelist() if not name.endswith("/")}
    inside = {name for name in names if not name.split("/")[0].endswith(".dist-info")}
    library = {name for name in inside if name.startswith("aimclr_fast/_native.cpython")}
    assert len(library) == 1
    assert inside - library == files(checkout, "aimclr_fast")
    assert any(name.endswith("licenses/LICENSE") for name in names)
    for data in ("py.typed", "_native.pyi"):
        assert f"aimclr_fast/{data}" in inside
    assert any(name.startswith("aimclr_fast/configs/") for name in inside)
    assert any(name.startswith("aimclr_fast/data/embedded/") for name in inside)


def test_wheel_works_where_it_is_unpacked(wheel, tmp_path):
    zipfile.ZipFile(wheel).extractall(tmp_path)
    code = """
import torch
from aimclr_fast import native
from aimclr_fast.ops.philox import philox4x32
print(native.load().__file__, native.cuda_compiled())
print(hex(philox4x32(torch.zeros(4, dtype=torch.int64), (0, 0), "cpp")[0]))
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    library, cuda, word = done.stdout.split()
    assert Path(library).is_relative_to(tmp_path)
    assert (cuda, word) == ("False", "0x6627e8d5")


def test_pure_python_wheel(checkout, tmp_path):
    done = build("wheel", checkout, tmp_path, AIMCLR_NATIVE="OFF")
    pure = only(tmp_path, "*-py3-none-any.whl", done)
    assert not any(name.endswith(".so") for name in zipfile.ZipFile(pure).namelist())


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"CXX": "/no/such/compiler"}, "AIMCLR_NATIVE=OFF pip install"),
        ({"AIMCLR_CUDA": "ON", "CUDACXX": "/no/such/nvcc"}, "AIMCLR_CUDA=OFF pip install"),
        ({"AIMCLR_CUDA": "PERHAPS"}, "AIMCLR_CUDA must be one of AUTO, ON, OFF, got 'PERHAPS'"),
    ],
    ids=["no compiler", "cuda on", "typo"],
)
def test_a_build_that_fails_says_what_to_do(checkout, tmp_path, environment, message):
    require(compiler(), "no C++ compiler was found")
    shutil.copytree(checkout, copy := tmp_path / "checkout", ignore=NOT_SOURCES)
    done = build("wheel", copy, tmp_path, **environment)
    assert done.returncode != 0
    assert message in done.stdout + done.stderr
    assert not list(tmp_path.glob("*.whl"))


def test_a_second_isolated_build_compiles_nothing(checkout, tmp_path):
    """For each, pip unpacks pybind11 under another path, with new times."""
    require(compiler(), "no C++ compiler was found")
    import pybind11

    ignored = shutil.ignore_patterns("csrc", "tests", "benchmarks", "embedded")
    shutil.copytree(checkout, copy := tmp_path / "checkout", ignore=ignored)
    for name, text in {
        "cpu/one.cpp": "int one() { return 1; }\n",
        "cpu/loops_kernels.cpp": "",
        "bindings/module.cpp": "#include <pybind11/detail/common.h>\n",
    }.items():
        (copy / "csrc" / name).parent.mkdir(parents=True, exist_ok=True)
        (copy / "csrc" / name).write_text(text)

    def objects(build: str) -> int:
        package = Path(pybind11.__file__).parent
        shutil.copytree(package, tmp_path / build / "pybind11", copy_function=shutil.copyfile)
        done = subprocess.run(
            [sys.executable, "setup.py", "build_ext"],
            capture_output=True,
            text=True,
            cwd=copy,
            env={**os.environ, "AIMCLR_CUDA": "OFF", "PYTHONPATH": str(tmp_path / build)},
            check=False,
        )
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
        return len(re.findall("Building CXX object", done.stdout))

    assert objects("first") >= 3
    assert objects("second") == 0


@pytest.mark.parametrize(
    ("version", "enough"), [("65.5.0", False), ("76.1.0", False), ("77.0.1", True)]
)
def test_an_old_setuptools_is_told(tmp_path, version, enough):
    """Before anything of it is used: one of 2022 lacks modules that setup.py imports."""
    (tmp_path / "setuptools").mkdir()
    (tmp_path / "setuptools" / "__init__.py").write_text(f"__version__ = '{version}'\n")
    done = subprocess.run(
        [sys.executable, str(ROOT / "setup.py"), "--version"],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        check=False,
    )
    assert done.returncode != 0
    told = f"needs setuptools 77 or newer, and this is {version}" in done.stderr
    assert told != enough
    assert ("Traceback" in done.stderr) == enough  # the next import finds an empty package


def test_the_installed_package_is_the_one_tested():
    """CI asks for this; a developer's editable install is the tree itself."""
    is_tree = Path(aimclr_fast.__file__).resolve().is_relative_to(ROOT)
    assert not (is_tree and os.environ.get("AIMCLR_TEST_INSTALLED"))
