"""SkeletonCLR: momentum contrast between two normal views (Li et al., CVPR 2021, section 3.1)."""

from __future__ import annotations

from .contrast import ContrastMethod
from .methods import Parts

METHOD = ContrastMethod(
    "momentum contrast between two normal views: AimCLR with extreme, eadm, d3m and nnm off",
    Parts(extreme=False, eadm=False, d3m=False, nnm=False),
    always=("d3m_extreme", "d3m_dropped"),  # 0, as in earlier versions
)
