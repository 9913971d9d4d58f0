"""Imports point one way, and each technology stays in its room."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from missing import require

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "aimclr_fast"
CSRC = ROOT / "csrc"

# What each room may import of the package, besides itself. Command lines (the other modules at the
# top) may import everything and nothing imports them; names with an underscore are small helpers
# that any room may use, bar the ones that stand alone.
ROOMS: dict[str, set[str]] = {
    "reference": set(),
    "native": set(),
    "layouts": set(),
    "triton_kernels": set(),
    "ops": {"reference", "native", "layouts", "triton_kernels"},
    "functional": {"ops", "reference", "layouts"},
    "config": {"functional", "ops", "reference", "layouts"},
    "nn": {"functional", "ops", "reference", "layouts", "native"},
    "pages": {"layouts"},
    "data": {"functional", "ops", "reference", "layouts", "native", "pages"},
    "inference": {"nn", "data", "functional", "ops", "reference", "layouts", "native"},
    "evaluation": {
        "inference", "nn", "data", "pages", "config", "functional", "ops", "reference", "layouts",
        "native",
    },
    "training": {
        "evaluation", "inference", "nn", "data", "config", "functional", "ops", "reference",
        "layouts", "native",
    },
    "tuning": {
        "training", "evaluation", "inference", "nn", "data", "config", "functional", "ops",
        "reference", "layouts", "native",
    },
}  # fmt: skip
# Rooms that stand alone, and what they may import from outside, besides the standard library.
OUTSIDE = {
    "reference": {"torch"},
    "native": {"torch"},
    "triton_kernels": {"torch", "triton"},
}


def room_of(module: str) -> str:
    """The room of a dotted name: "aimclr_fast.nn.stgcn" -> "nn"; the package itself -> ""."""
    return module.split(".")[1] if "." in module else ""


def modules() -> list[tuple[str, Path]]:
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found.append((".".join(parts[:-1] if parts[-1] == "__init__" else parts), path))
    return found


def imported(module: str, path: Path, tree: ast.AST) -> set[str]:
    """Dotted names that the nodes of `tree`, a part of `module`, import."""
    names: set[str] = set()
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*parents, base]).rstrip(".")
            # `from aimclr_fast import nn` may name a module or a value of the package; a name with
            # an underscore is taken for a module.
            whole = base == "aimclr_fast"
            names.update(
                f"{base}.{a.name}" if whole or a.name.startswith("_") else base for a in node.names
            )
    return names


def private_imports(module: str, names: set[str]) -> list[str]:
    """Those of `names` that are private to a folder that `module` is not in.

    `aimclr_fast.ops._checks` is for `aimclr_fast.ops` and what is below it; a private module at the
    top of the package is for all.
    """
    found = []
    for name in sorted(name for name in names if name.startswith("aimclr_fast.")):
        parts = name.split(".")
        for depth, part in enumerate(parts):
            folder = ".".join(parts[:depth])
            inside = module == folder or module.startswith(f"{folder}.")
            if depth > 1 and re.match("_[^_]", part) and not inside:
                found.append(name)
                break
    return found


def violations(module: str, path: Path, source: str) -> list[str]:
    """The imports of `source` that break the rules, worded for a person."""
    room, names = room_of(module), imported(module, path, ast.parse(source))
    inside = {name for name in names if name.split(".")[0] == "aimclr_fast"}
    outside = {name.split(".")[0] for name in names - inside} - set(sys.stdlib_module_names)
    targets = {room_of(name) for name in inside}
    found = []
    if room in ROOMS:
        helpers = set() if room in OUTSIDE else {t for t in targets if t.startswith("_")}
        allowed = ROOMS[room] | {room, "", *helpers}
        found += [f"{module} imports aimclr_fast.{t}" for t in sorted(targets - allowed)]
    elif room.startswith("_"):
        found += [f"the helper {module} imports {t}" for t in sorted(targets & ROOMS.keys())]
    if room in OUTSIDE:
        found += [f"{module} imports {name}" for name in sorted(outside - OUTSIDE[room])]
    found += [f"{module} imports the private {name}" for name in private_imports(module, names)]
    return found


@pytest.mark.parametrize(("module", "path"), modules(), ids=lambda value: str(value))
def test_imports_point_one_way(module, path):
    assert not violations(module, path, path.read_text())


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("aimclr_fast.reference.x", "import numpy"),
        ("aimclr_fast.reference.x", "def f():\n    from aimclr_fast.ops import philox"),
        ("aimclr_fast.native", "import triton"),
        ("aimclr_fast.triton_kernels.x", "from aimclr_fast import ops"),
        ("aimclr_fast.triton_kernels.x", "from ..ops import philox"),
        ("aimclr_fast.ops.x", "from aimclr_fast.nn.stgcn import STGCN"),
        ("aimclr_fast.functional", "import aimclr_fast.training"),
        ("aimclr_fast.config", "from aimclr_fast.training.job import Job"),
        ("aimclr_fast.nn.x", "from aimclr_fast.data import store"),
        ("aimclr_fast.data.x", "from .. import nn\nfrom aimclr_fast.nn import STGCN"),
        ("aimclr_fast.inference.x", "from aimclr_fast.evaluation import knn"),
        ("aimclr_fast.inference.x", "from aimclr_fast.training.loop import fit"),
        ("aimclr_fast.evaluation.x", "from aimclr_fast.training.loop import fit"),
        ("aimclr_fast.training.x", "from aimclr_fast import train"),
        ("aimclr_fast._files", "from aimclr_fast.ops import philox"),
        ("aimclr_fast.nn.x", "from aimclr_fast.ops._checks import check_dtype"),
        ("aimclr_fast.nn.x", "from aimclr_fast.ops import _checks"),
        ("aimclr_fast.nn.x", "import aimclr_fast.ops._checks as checks"),
        ("aimclr_fast.nn.x", "def f():\n    from ..ops._checks import check_dtype"),
        ("aimclr_fast.nn.x", "from aimclr_fast.ops.philox import _call"),
        ("aimclr_fast.evaluate", "from .evaluation._rooms import lobby"),
        ("aimclr_fast.data.x", "from aimclr_fast.data.readers._tables import outline"),
    ],
)
def test_the_rule_catches(module, source):
    path = ROOT / Path(*module.split(".")).with_suffix(".py")
    assert len(violations(module, path, source)) == 1


def test_every_folder_is_a_known_room():
    folders = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert folders <= ROOMS.keys()


def test_the_loader_needs_only_the_standard_library_at_import():
    path = PACKAGE / "native.py"
    tree = ast.parse(path.read_text())
    top = ast.Module([n for n in tree.body if not isinstance(n, ast.FunctionDef)], [])
    names = {name.split(".")[0] for name in imported("aimclr_fast.native", path, top)}
    assert names <= set(sys.stdlib_module_names)


@pytest.mark.slow
@pytest.mark.parametrize("module", ["training.loop", "inference.loading"])
def test_steps_and_encoders_run_where_only_torch_and_numpy_are(module):
    """As on machines for measuring: what shows and scores a run is not imported for a step."""
    absent = ["jsonargparse", "rich", "tensorboard", "sklearn", "scipy", "matplotlib", "PIL"]
    code = f"import sys; sys.modules.update(dict.fromkeys({absent})); import aimclr_fast.{module}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def native_sources() -> list[Path]:
    return sorted(p for p in CSRC.rglob("*") if p.suffix in {".h", ".cpp", ".cu", ".cuh"})


def includes(path: Path) -> list[str]:
    return re.findall(r'^\s*#\s*include\s*[<"]([^>"]+)[>"]', path.read_text(), re.MULTILINE)


def test_native_code_links_no_torch_and_binds_in_one_room():
    for path in native_sources():
        for header in includes(path):
            assert not re.match(r"(torch|ATen|c10)/", header), f"{path} includes {header}"
            if re.match(r"(pybind11/|Python\.h)", header):
                assert path.parent.name == "bindings", f"{path} includes {header}"
        if path.parent.name != "bindings":
            assert "pybind11" not in path.read_text(), f"{path} names pybind11"


def test_rooms_of_native_code_point_one_way():
    allowed = {
        "common": {"common"},
        "cpu": {"common", "cpu"},
        "cuda": {"common", "cuda"},
        "bindings": {"common", "cpu", "cuda", "bindings"},
    }
    for path in native_sources():
        for header in includes(path):
            target = header.split("/")[0]
            if target in allowed:
                room = path.relative_to(CSRC).parts[0]
                assert target in allowed[room], f"{path} includes {header}"


def test_a_folder_may_import_what_is_private_to_it():
    own = "from ._checks import check_dtype\nfrom aimclr_fast.ops._dispatch import choose"
    path = PACKAGE / "ops" / "x.py"
    assert not violations("aimclr_fast.ops.x", path, own)
    below = (
        "from aimclr_fast.data._columns import Columns\nfrom aimclr_fast._files import printable"
    )
    path = PACKAGE / "data" / "readers" / "x.py"
    assert not violations("aimclr_fast.data.readers.x", path, below)


# Complexity, branches, arguments and statements of a function; the numbers are in pyproject.toml.
LIMITS = ("C901", "PLR0912", "PLR0913", "PLR0915")
TOO_MUCH = f"""
def tangled({", ".join(f"a{i}" for i in range(13))}):
    if a0:
        pass
""" + "".join(f"    elif a0 == {i}:\n        print()\n" for i in range(1, 50))


def ruff(*arguments: str, source: str = "") -> subprocess.CompletedProcess[str]:
    require(shutil.which("ruff"), "ruff was not found")
    return subprocess.run(
        ["ruff", "check", "--no-cache", "--output-format", "concise", *arguments],
        input=source, capture_output=True, text=True, cwd=ROOT, check=False,
    )  # fmt: skip


def test_functions_are_simple():
    """A file may be as long as reads best; a function may not be a maze."""
    done = ruff("--select", ",".join(LIMITS), "aimclr_fast", "tests", "benchmarks", "scripts")
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("folder", ["aimclr_fast/nn", "tests", "benchmarks", "scripts"])
def test_the_limits_catch_a_maze(folder):
    done = ruff("--stdin-filename", f"{folder}/x.py", "-", source=TOO_MUCH)
    assert done.returncode == 1, done.stderr
    for rule in LIMITS:
        assert f" {rule} " in done.stdout, done.stdout


def test_the_page_on_architecture_names_files_that_exist():
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    paths = re.findall(r"`((?:aimclr_fast|csrc|tests)/[\w/.]*)`", page)
    assert len(paths) > 30
    missing = sorted({path for path in paths if not (ROOT / path).exists()})
    assert not missing
