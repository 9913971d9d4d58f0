"""SkeletonCLR: momentum contrast between two normal views (Li et al., CVPR 2021, section 3.1)."""

from __future__ import annotations

from .aimclr import AimCLRMethod
from .methods import Parts

METHOD = AimCLRMethod(
    "momentum contrast between two normal views: AimCLR with extreme, eadm, d3m and nnm off",
    Parts(extreme=False, eadm=False, d3m=False, nnm=False),
)
