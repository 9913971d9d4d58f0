"""The methods as sets of AimCLR's parts."""

from __future__ import annotations

from dataclasses import dataclass

# Parts that cannot be without the extreme view, and why.
_NEED_EXTREME = {
    "eadm": "energy-based dropping drops from the extreme view",
    "d3m": "distributions are matched to those of the extreme view",
}


@dataclass(frozen=True)
class Parts:
    """Which parts of AimCLR are on; all of them are the method, none of them is SkeletonCLR.

    Attributes:
        extreme: the extreme view is encoded (section 3.2).
        eadm: its feature map is also pooled after energy-based dropping (section 3.3).
        d3m: its rows learn the query's distribution (section 3.4). Without it their InfoNCE is
            taken, as the query's: the key itself is what they must be near to.
        nnm: the queue's nearest neighbours join the positives once mining starts (section 3.5).

    Raises:
        ValueError: a part is on whose extreme view is off.
    """

    extreme: bool = True
    eadm: bool = True
    d3m: bool = True
    nnm: bool = True

    def __post_init__(self) -> None:
        for name, reason in _NEED_EXTREME.items():
            if getattr(self, name) and not self.extreme:
                raise ValueError(f"{name} is on, but extreme is off: {reason}")


METHODS = {
    "aimclr": Parts(),
    # Momentum contrast between two normal views (Li et al., CVPR 2021, section 3.1).
    "skeletonclr": Parts(extreme=False, eadm=False, d3m=False, nnm=False),
}
