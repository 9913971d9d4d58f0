"""SkeleMixCLR: rows of what was pasted from another sequence, and rows of what is left.

SkeleMixCLR+ takes three mixes of each sequence.
"""

from __future__ import annotations

from .contrast import ContrastMethod
from .methods import Parts

PUBLISHED = {
    "model": {"temperature": 0.2, "graph": "directed"},
    "optim": {"milestones": [300], "mining_epoch": 0},
}


def _with(mixes: int, name: str, text: str) -> ContrastMethod:
    parts = Parts(extreme=False, eadm=False, d3m=False, nnm=False, mixes=mixes, norm_head=True)
    return ContrastMethod(text, parts, name=name, published=PUBLISHED)


METHODS = [
    _with(1, "skelemixclr", "SkeleMixCLR (Chen et al., 2022): parts of sequences are exchanged"),
    _with(3, "skelemixclr+", "SkeleMixCLR with three mixes of each sequence"),
]
