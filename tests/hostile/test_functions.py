"""The public functions under arguments nobody should give; see functions.py for the promise."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from inspect import isfunction
from pathlib import Path

import pytest

from aimclr_fast import functional

PROGRAM = Path(__file__).with_name("functions.py")
#: Calls of each function; scripts/sanitize.sh and a long run by hand ask for more.
EXAMPLES = int(os.environ.get("HOSTILE_EXAMPLES") or 40)


def hostile(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(PROGRAM), *arguments]
    # A crash would end this process, so that of the functions is another one.
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=3600)


def test_each_call_is_computed_or_refused_clearly():
    done = hostile("--examples", str(EXAMPLES))
    assert done.returncode == 0, f"{done.stdout[-6000:]}\n{done.stderr[-6000:]}"
    counts = dict(re.findall(r"^(\w+: \w+) (\d+)$", done.stdout, re.MULTILINE))
    called = {name.split(":")[0] for name in counts}
    assert len(counts) == 2 * len(called), done.stdout
    public = {name for name in functional.__all__ if isfunction(getattr(functional, name))}
    assert called == public, done.stdout
    assert sum(map(int, counts.values())) >= len(public) * EXAMPLES
    print(done.stdout)


@pytest.mark.parametrize(
    ("spoil", "found"),
    [
        ("functional.eadm_pool = lambda **_: ctypes.string_at(0)", "Segmentation fault"),
        ("real = functional.eadm_pool;"
         "functional.eadm_pool = lambda x, backend, **o:"
         " [y + (backend == 'auto') for y in real(x, backend=backend, **o)]", "not close"),
    ],
)  # fmt: skip
def test_the_property_catches(spoil, found):
    code = (
        f"import ctypes, runpy, sys; from aimclr_fast import functional\n{spoil}\n"
        f"sys.path.insert(0, {str(PROGRAM.parent)!r})\n"
        f"sys.argv = ['functions.py', 'eadm_pool', '--examples', '30']\n"
        f"from inspect import isfunction\n"
        f"runpy.run_path({str(PROGRAM)!r}, run_name='__main__')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=600
    )
    assert done.returncode != 0
    assert found in done.stdout + done.stderr
