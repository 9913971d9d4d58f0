"""What the data check looks at and what it says (:mod:`aimclr_fast.data.sanity`)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from aimclr_fast.data.measures import Measures
from aimclr_fast.data.store import Store


@dataclass(frozen=True)
class Finding:
    """One line of a check.

    Attributes:
        check: name of the check.
        text: what was seen.
        odd: whether it needs attention.
        mend: the flag or step that would fix it, if it is odd.
    """

    check: str
    text: str
    odd: bool = False
    mend: str = ""

    def __str__(self) -> str:
        if not self.odd:
            return f"{self.check}: {self.text}"
        return f"odd: {self.text}" + (f" ({self.mend})" if self.mend else "")


@dataclass(frozen=True)
class Report:
    """What a check found.

    Attributes:
        looked_at: sequences whose coordinates were looked at, evenly spread over the store.
        sequences: sequences in the store.
        findings: in the order of the checks.
    """

    looked_at: int
    sequences: int
    findings: tuple[Finding, ...]

    @property
    def odd(self) -> list[Finding]:
        """The findings that need attention."""
        return [finding for finding in self.findings if finding.odd]

    def __str__(self) -> str:
        seen = f"{self.looked_at:,}"
        if self.looked_at < self.sequences:
            seen += f" of {self.sequences:,}"
        plain = [str(finding) for finding in self.findings if not finding.odd]
        odd = [str(finding) for finding in self.odd] or ["nothing odd"]
        return "\n  ".join([f"data check of {seen} sequences", *plain, *odd])


@dataclass(frozen=True)
class Case:
    """What a check looks at."""

    store: Store
    measures: Measures

    @cached_property
    def flat(self) -> bool:
        """Whether the store holds 2D poses: sizes are made up and bones shorten."""
        depth = self.measures.depth[np.isfinite(self.measures.depth)]
        return bool(len(depth)) and bool(depth.max() < 1e-6)

    @cached_property
    def ready(self) -> bool:
        """Whether others preprocessed the sequences."""
        return self.store.preprocessing is None

    def some(self, where: npt.NDArray[Any], names: int = 1) -> str:
        """``3 of 2,000 sequences (the first: NAME)``, those looked at for which ``where [n]``
        holds, with the first few names.
        """
        first = self.store.samples["name"][self.measures.rows[np.flatnonzero(where)[:names]]]
        named = ", ".join(map(str, first))
        return f"{where.sum():,} of {len(where):,} sequences (the first: {named})"


Check = Callable[[Case], Iterator[Finding]]
CHECKS: dict[str, Check] = {}


def check(function: Check) -> Check:
    """Register a check under its function's name."""
    CHECKS[function.__name__] = function
    return function
