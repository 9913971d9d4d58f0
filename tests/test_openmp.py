"""How threads wait: commands settle it before OpenMP is loaded, and nothing else does."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
from children import child_environment

from aimclr_fast import _openmp

COMMANDS = ("train", "tune", "evaluate", "prepare", "export")
# Ends where a module first imports another package: all of them that load OpenMP come later.
PROGRAM = """
import os, runpy, sys

class Outside:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] not in {"aimclr_fast", *sys.stdlib_module_names}:
            print(name, os.environ.get("OMP_WAIT_POLICY"), os.environ.get("GOMP_SPINCOUNT"))
            sys.exit()

sys.meta_path.insert(0, Outside())
runpy.run_module(sys.argv[1], run_name=sys.argv[2], alter_sys=True)
"""


def seen_at_first_import(command: str, name: str, **settings: str) -> str:
    environment = child_environment(**settings)
    for setting in {*_openmp.SETTINGS} - {*settings}:
        environment.pop(setting, None)
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, f"aimclr_fast.{command}", name],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    package, seen = done.stdout.strip().split(" ", 1)
    assert package
    return seen


@pytest.mark.parametrize("command", COMMANDS)
def test_threads_of_a_command_wait_briefly(command):
    assert seen_at_first_import(command, "__main__") == f"None {_openmp.SPINS}"


def test_what_the_user_has_set_stays():
    assert seen_at_first_import("train", "__main__", GOMP_SPINCOUNT="7") == "None 7"
    assert seen_at_first_import("train", "__main__", OMP_WAIT_POLICY="active") == "active None"


@pytest.mark.parametrize("command", COMMANDS)
def test_an_import_changes_nothing(command):
    assert seen_at_first_import(command, f"aimclr_fast.{command}") == "None None"


@pytest.mark.skipif(sys.platform != "linux", reason="torch brings another OpenMP")
def test_openmp_reads_it():
    environment = child_environment(OMP_DISPLAY_ENV="verbose")
    for setting in _openmp.SETTINGS:
        environment.pop(setting, None)
    program = "from aimclr_fast import _openmp; _openmp.wait_briefly(); import torch"
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    counts = re.findall(r"GOMP_SPINCOUNT = '(\d+)'", done.stderr)
    if not counts:
        pytest.skip("this torch has no GNU OpenMP")
    assert set(counts) == {str(_openmp.SPINS)}
