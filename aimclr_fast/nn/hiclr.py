"""HiCLR: views of growing strength, each taught by the next weaker one."""

from __future__ import annotations

from .contrast import ContrastMethod
from .methods import Parts

METHOD = ContrastMethod(
    "HiCLR (Zhang et al., AAAI 2023): a chain of views of growing strength, the last one masked",
    Parts(eadm=False, masked=True, chain=True),
)
