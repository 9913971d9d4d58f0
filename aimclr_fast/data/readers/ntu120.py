"""NTU RGB+D 120 (Liu et al., TPAMI 2019): 114,480 recordings, 120 classes, setups 1 to 32."""

from __future__ import annotations

from pathlib import Path

from aimclr_fast.data.readers._base import Options, Plan
from aimclr_fast.data.readers._ntu import plan_ntu
from aimclr_fast.data.splits import NTU120_SPLITS

SUMMARY = "NTU RGB+D 120: .skeleton files in a folder, or both zip files as distributed"
OPTIONS = ("bodies", "max_bodies", "missing")
CITATION = (
    "J. Liu, A. Shahroudy, M. Perez, G. Wang, L.-Y. Duan, A. C. Kot. NTU RGB+D 120: A Large-Scale "
    "Benchmark for 3D Human Activity Understanding. TPAMI 2019."
)


def plan(source: Path, options: Options) -> Plan:
    """All setups and actions."""
    return plan_ntu(
        source,
        options,
        setups=32,
        actions=120,
        splits=NTU120_SPLITS,
        title="NTU RGB+D 120",
        citation=CITATION,
    )
