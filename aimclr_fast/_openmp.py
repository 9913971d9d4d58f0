"""How the threads of OpenMP wait for each other."""

from __future__ import annotations

import os

#: What a user may have set: then nothing is changed.
SETTINGS = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
#: Rounds, some 50 microseconds. By default GNU's OpenMP, torch's on Linux, spins 300,000.
SPINS = 1000


def wait_briefly() -> None:
    """Let threads spin for a moment and then sleep, unless the environment says how they wait.

    A thread that spins for milliseconds after each operation uses up its share of a core that
    another process wants, too. When there is work again it has to wait for its turn, and all other
    threads wait for it: on two cores, one of them busy, a training step took up to eight times as
    long as in one thread.

    For commands, before they import torch: OpenMP reads the environment once, when it is loaded. A
    library must not change this for the process that imports it. Child processes inherit it.
    """
    if not any(name in os.environ for name in SETTINGS):
        os.environ["GOMP_SPINCOUNT"] = str(SPINS)
