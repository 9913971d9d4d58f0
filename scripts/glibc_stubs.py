"""Lets a library that is linked here load where glibc is older: python scripts/glibc_stubs.py OUT.

A linker binds each call to the newest version of a symbol that it sees. In OUT come libraries with
the names of glibc's and nothing in them but the older versions of those symbols that have a newer
one, as this machine's glibc lists them (it keeps them for programs linked long ago). Linked first,
they give what a build on a machine of that age gives. A symbol that only newer versions have is not
in them, and stays visible to `auditwheel`.
"""

from __future__ import annotations

import argparse
import re
import subprocess
from collections import defaultdict
from pathlib import Path

# Where symbols of libc were before version 2.34 put them into it; the names still exist.
HOMES = {
    "__pthread_": "libpthread.so.0",
    "dl": "libdl.so.2",
    "pthread_": "libpthread.so.0",
    "sem_": "libpthread.so.0",
    "shm_": "librt.so.1",
}
LINE = re.compile(r"\b(?:FUNC|IFUNC)\s.*\s(\w+)@@?GLIBC_([0-9.]+)$", re.MULTILINE)


def number(version: str) -> tuple[int, ...]:
    """A version to compare by."""
    return tuple(map(int, version.split(".")))


def older(library: str, limit: str) -> dict[str, str]:
    """Symbols of a library whose newest version is above `limit`, with the newest that is not."""
    file = subprocess.check_output(["gcc", f"-print-file-name={library}"], text=True).strip()
    table = subprocess.check_output(["readelf", "--dyn-syms", "--wide", file], text=True)
    versions: dict[str, list[str]] = defaultdict(list)
    for name, version in LINE.findall(table):
        versions[name].append(version)
    found = {}
    for name, known in versions.items():
        old = [version for version in known if number(version) <= number(limit)]
        if old and number(max(known, key=number)) > number(limit):
            found[name] = max(old, key=number)
    return found


def home(name: str, library: str) -> str | None:
    """The library that had a symbol when it was of the older version, if that is known."""
    if library == "libc.so.6":
        return next((old for start, old in HOMES.items() if name.startswith(start)), None)
    return library


def write_stubs(out: Path, limit: str) -> list[Path]:
    """Write the libraries into `out`, for a link that is to load on glibc `limit`."""
    out.mkdir(parents=True, exist_ok=True)
    contents: dict[str, dict[str, str]] = defaultdict(dict)
    for library in ("libc.so.6", "libm.so.6"):
        for name, version in older(library, limit).items():
            if place := home(name, library):
                contents[place][name] = version
    written = []
    for library, symbols in contents.items():
        source, script = out / f"{library}.c", out / f"{library}.map"
        source.write_text("".join(f"void {name}(void) {{}}\n" for name in symbols))
        nodes = [
            f"GLIBC_{version} {{ {''.join(f'{n}; ' for n, v in symbols.items() if v == version)}}};"
            for version in sorted(set(symbols.values()), key=number)
        ]
        script.write_text("\n".join(nodes) + "\n")
        command = ["gcc", "-shared", "-nostdlib", "-fno-builtin", "-w", f"-Wl,-soname,{library}"]
        command += [f"-Wl,--version-script={script}", "-o", str(out / library), str(source)]
        subprocess.run(command, check=True)
        written.append(out / library)
    return written


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--glibc", default="2.28", help="the oldest to load on (default: 2.28)")
    given = parser.parse_args()
    for file in write_stubs(given.out, given.glibc):
        print(file)
