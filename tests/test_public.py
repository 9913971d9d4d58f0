"""What `import aimclr_fast` offers: names, loaded when they are used, and one base of errors."""

from __future__ import annotations

import builtins
import importlib
import importlib.metadata
import importlib.util
import inspect
import pkgutil
import subprocess
import sys

import pytest

import aimclr_fast

NAMES = {
    "AimCLREncoder",
    "Encoder",
    "Error",
    "__version__",
    "data",
    "functional",
    "load_encoder",
    "nn",
}
# What users catch them as, besides Error.
BASES = {
    "BackendError": RuntimeError,
    "CheckpointError": ValueError,
    "ConfigError": ValueError,
    "DivergedError": RuntimeError,
    "EvaluationError": ValueError,
    "ExportError": RuntimeError,
    "PickleError": ValueError,
    "PlacementError": ValueError,
    "PrepareError": ValueError,
    "RankLostError": RuntimeError,
    "ReadError": ValueError,
    "ResultsError": ValueError,
    "StoreError": ValueError,
}


def run(code: str) -> str:
    """What a new process prints."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def modules() -> list[str]:
    """Of the package, but the compiled library and, where there is no Triton, its kernels."""
    apart = ("aimclr_fast._native",)
    if importlib.util.find_spec("triton") is None:
        apart += ("aimclr_fast.triton_kernels",)
    found = pkgutil.walk_packages(aimclr_fast.__path__, "aimclr_fast.", onerror=lambda name: None)
    return sorted(module.name for module in found if not module.name.startswith(apart))


def exceptions() -> dict[str, type[BaseException]]:
    """Exception classes that the package defines for others to catch, by name."""
    found: dict[str, type[BaseException]] = {}
    for name in modules():
        for value in vars(importlib.import_module(name)).values():
            if (
                inspect.isclass(value)
                and issubclass(value, BaseException)
                and value.__module__.startswith("aimclr_fast")
                and not value.__name__.startswith("_")
            ):
                assert found.setdefault(value.__name__, value) is value, "two of one name"
    return found


def test_all_names_are_there():
    assert set(aimclr_fast.__all__) == NAMES
    assert set(dir(aimclr_fast)) >= NAMES
    for name in NAMES:
        assert getattr(aimclr_fast, name) is not None
    assert aimclr_fast.load_encoder.__module__.startswith("aimclr_fast.")
    assert inspect.isclass(aimclr_fast.Encoder)
    assert callable(aimclr_fast.functional.skeleton_augment)
    assert inspect.isclass(aimclr_fast.nn.AimCLR)
    assert callable(aimclr_fast.data.open_store)


def test_nothing_is_loaded_before_it_is_used():
    code = """
import sys
before = set(sys.modules)
import aimclr_fast
dir(aimclr_fast), aimclr_fast.Error
print(*sorted({name.split(".")[0] for name in set(sys.modules) - before}))
from aimclr_fast import load_encoder
print("torch" in sys.modules)
"""
    loaded, torch = run(code).splitlines()
    assert set(loaded.split()) <= {"aimclr_fast", *sys.stdlib_module_names}
    assert torch == "True"


def test_the_version_is_the_installed_one():
    code = "import aimclr_fast, importlib.metadata as m; print(aimclr_fast.__version__)"
    try:
        installed = importlib.metadata.version("aimclr_fast")
    except importlib.metadata.PackageNotFoundError:
        installed = "0+unknown"
    assert run(code).strip() == installed


def test_star_and_unknown_names():
    code = "from aimclr_fast import *; print(Encoder, Error, data, functional, load_encoder, nn)"
    assert "aimclr_fast" in run(code)
    with pytest.raises(AttributeError, match="'aimclr_fast' has no attribute 'AimCLR'"):
        _ = aimclr_fast.AimCLR  # type: ignore[attr-defined]


def test_all_errors_have_one_base():
    found = exceptions()
    assert found.pop("Error") is aimclr_fast.Error
    assert len(found) >= len(BASES)
    apart = [name for name, kind in found.items() if not issubclass(kind, aimclr_fast.Error)]
    assert not apart


@pytest.mark.parametrize(("name", "base"), BASES.items())
def test_errors_keep_their_built_in_bases(name, base):
    assert issubclass(exceptions()[name], base)
    assert base.__name__ in dir(builtins)


def test_one_except_clause_catches_what_a_user_meets(tmp_path):
    with pytest.raises(aimclr_fast.Error, match="no such folder"):
        aimclr_fast.data.open_store(tmp_path / "none")
    with pytest.raises(aimclr_fast.Error, match="no such"):
        aimclr_fast.load_encoder(tmp_path / "none.pt")
