"""Ctrl-C and SIGTERM: a run saves first, then stops."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType

from aimclr_fast._errors import Error


class StoppedError(Error):
    """A run was asked to stop, and has saved what it needs to go on.

    Attributes:
        signum: number of the signal.
    """

    def __init__(self, signum: int, message: str) -> None:
        super().__init__(message)
        self.signum = signum


class _NowError(Exception):
    """Raised from the handler where a run may be interrupted at once."""


class StopSignals:
    """Takes SIGINT and SIGTERM while it is active, as a context manager.

    A second signal has its usual effect, for users who cannot wait for the step to end. Among
    several processes it has none: the launcher forwards signals that each has already received.

    Args:
        alone: whether this is the only process.

    Attributes:
        received: the signal that came, if any.
    """

    def __init__(self, *, alone: bool = True) -> None:
        self._alone = alone
        self.received: int | None = None
        self._at_once = False
        self._usual: dict[int, object] = {}

    def __enter__(self) -> StopSignals:
        if threading.current_thread() is threading.main_thread():
            for signum in (signal.SIGINT, signal.SIGTERM):
                self._usual[signum] = signal.signal(signum, self._handle)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._restore()

    def _restore(self) -> None:
        for signum, usual in self._usual.items():
            signal.signal(signum, usual)  # type: ignore[arg-type]
        self._usual.clear()

    def _handle(self, signum: int, frame: FrameType | None) -> None:
        self.received = signum
        if self._alone:
            self._restore()
            if self._at_once:
                raise _NowError

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """Within the block, a signal ends it at once: for work that a resumed run repeats, and that
        writes files whole or not at all.

        With several processes it does not: they must stop together.
        """
        try:
            self._at_once = True
            yield
            self._at_once = False
        except _NowError:
            self._at_once = False
