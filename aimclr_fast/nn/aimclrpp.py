"""AimCLR++: AimCLR without dropping and with more neighbors, and its three streams in one.

Phases: without mining; from optim.mining_epoch on with each row's neighbors within the stream; and
with several streams, from votes.epoch on, with the keys that enough streams agree on.
"""

from __future__ import annotations

from .contrast import ContrastMethod
from .methods import Parts

METHOD = ContrastMethod(
    "AimCLR++ (Guo et al., 2024): AimCLR without eadm; several streams learn together",
    Parts(eadm=False, cross_stream=True),
    name="aimclr++",
    published={
        "model": {"topk": 4, "d3m_weight": 1.0},
        "optim": {"epochs": 400, "milestones": [350]},
    },
)
