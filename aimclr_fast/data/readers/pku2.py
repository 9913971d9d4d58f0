"""PKU-MMD II: see :mod:`aimclr_fast.data.readers._pku`."""

from __future__ import annotations

from pathlib import Path

from aimclr_fast.data.readers._base import Options, Plan
from aimclr_fast.data.readers._pku import plan_pku

SUMMARY = "PKU-MMD II: a folder with skeleton/, label/ and the split lists"
OPTIONS = ("max_bodies",)


def plan(source: Path, options: Options) -> Plan:
    """Every labeled action is one sample; both splits, where their lists are there."""
    return plan_pku(source, options, title="PKU-MMD II")
