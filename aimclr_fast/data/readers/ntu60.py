"""NTU RGB+D (Shahroudy et al., CVPR 2016): 56,880 recordings, 60 classes, setups 1 to 17."""

from __future__ import annotations

from pathlib import Path

from aimclr_fast.data.readers._base import Options, Plan
from aimclr_fast.data.readers._ntu import plan_ntu
from aimclr_fast.data.splits import NTU60_SPLITS

SUMMARY = "NTU RGB+D 60: .skeleton files in a folder, or the zip files as distributed"
OPTIONS = ("bodies", "max_bodies", "missing")
CITATION = (
    "A. Shahroudy, J. Liu, T.-T. Ng, G. Wang. NTU RGB+D: A Large Scale Dataset for 3D Human "
    "Activity Analysis. CVPR 2016."
)


def plan(source: Path, options: Options) -> Plan:
    """Samples beyond setup 17 or action 60 belong to NTU RGB+D 120 and are left out."""
    return plan_ntu(
        source,
        options,
        setups=17,
        actions=60,
        splits=NTU60_SPLITS,
        title="NTU RGB+D 60",
        citation=CITATION,
    )
