"""What happens where the compiled library is missing, broken, elsewhere or out of date."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

import aimclr_fast
from aimclr_fast import native

PACKAGE = Path(aimclr_fast.__file__).resolve().parent


def run(code: str, *paths: Path, cwd: Path, **environment: str) -> str:
    """Runs `code` in a new interpreter that imports from `paths` first; returns what it prints."""
    search = os.pathsep.join(str(path) for path in paths)
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": search, **environment},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def bare_package(tmp_path: Path) -> Path:
    """A folder whose aimclr_fast has the loader and no library."""
    package = tmp_path / "tree" / "aimclr_fast"
    package.mkdir(parents=True)
    for name in ("__init__.py", "_errors.py", "native.py"):
        (package / name).write_bytes((PACKAGE / name).read_bytes())
    return package.parent


USE_WITHOUT_LIBRARY = """
import torch
from aimclr_fast import native
from aimclr_fast.ops._dispatch import BackendError
from aimclr_fast.ops.philox import philox4x32

assert not native.available() and not native.cuda_compiled() and not native.cuda_usable()
try:
    native.load()
except ImportError as error:
    print(error)
counter = torch.zeros(4, dtype=torch.int64)
assert philox4x32(counter, (0, 0))[0] == 0x6627E8D5  # auto: the reference
try:
    philox4x32(counter, (0, 0), "cpp")
except BackendError as error:
    print(error)
print("why:", native.why_unavailable(), "|", native.why_cuda_unusable())
"""


def test_the_package_works_with_the_library_blocked(tmp_path):
    block = "import sys; sys.modules['aimclr_fast._native'] = None\n"
    printed = run(block + USE_WITHOUT_LIBRARY, PACKAGE.parent, cwd=tmp_path)
    missing, backend, why = printed.splitlines()
    assert "aimclr_fast._native is not available" in missing
    assert "'reference' backend (pure PyTorch) still works" in missing
    assert "pip install" in missing
    assert "backend 'cpp' cannot run here" in backend
    assert "import of aimclr_fast._native halted" in why


def test_the_environment_can_switch_it_off(tmp_path):
    printed = run(USE_WITHOUT_LIBRARY, PACKAGE.parent, cwd=tmp_path, AIMCLR_NATIVE="OFF")
    assert printed.count("AIMCLR_NATIVE=OFF is set") == 4


def test_a_broken_file_is_reported_with_the_original_error(bare_package, tmp_path):
    suffix = sysconfig.get_config_var("EXT_SUFFIX")
    (bare_package / "aimclr_fast" / f"_native{suffix}").write_bytes(b"not a library")
    code = "from aimclr_fast import native; print(native.why_unavailable())"
    assert "_native" in (why := run(code, bare_package, cwd=tmp_path))
    assert "file too short" in why or "invalid ELF header" in why


def test_a_source_tree_finds_the_installed_library(bare_package, tmp_path):
    installed = Path(str(native.load().__file__))
    code = "from aimclr_fast import native; print(native.__file__, native.load().__file__)"
    printed = run(code, bare_package, installed.parent.parent, cwd=tmp_path)
    assert printed.split() == [str(bare_package / "aimclr_fast" / "native.py"), str(installed)]


def test_a_stale_library_is_told(bare_package, tmp_path):
    (bare_package / "csrc").mkdir()
    (bare_package / "csrc" / "new.cpp").write_text("int changed;\n")
    code = """
import warnings
from aimclr_fast import native
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    assert native.available()
print(*(warning.message for warning in caught))
"""
    printed = run(code, bare_package, Path(str(native.load().__file__)).parents[1], cwd=tmp_path)
    assert "was built from other sources" in printed


def test_importing_the_loader_loads_nothing(bare_package, tmp_path):
    code = """
import sys
from aimclr_fast import native
print(sorted({"torch", "numpy", "aimclr_fast._native"} & set(sys.modules)))
"""
    assert run(code, bare_package, cwd=tmp_path).strip() == "[]"


def test_build_facts():
    library = native.load()
    assert isinstance(library.cuda_compiled, bool)
    assert bool(library.cuda_archs) == library.cuda_compiled
    assert library.compiler
    assert native.why_unavailable() is None


def test_the_digest_sees_every_change(tmp_path):
    def digest(**files: str) -> str:
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        folder.mkdir()
        for name, text in files.items():
            (folder / f"{name}.cu").write_text(text)
        return native.source_digest(folder)

    assert digest(a="1", b="2") == digest(b="2", a="1")
    others = {digest(a="1", b="3"), digest(a="1"), digest(a="12"), digest(a="1", c="2")}
    assert len(others | {digest(a="1", b="2")}) == 5
