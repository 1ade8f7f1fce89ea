"""Whether the daemon still answers, has the configuration that we gave it, and does all of it.

Its end is told by the kernel; that it is stuck, or that another hand configured it or disabled a
part of it, is told by nobody. So it is asked every few seconds, by a thread of its own, since one
that is stuck keeps who asks waiting. A finding says only "look again", and once: what follows is
the engine's.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

from netloom.kernel.bird.apply import standing_mark
from netloom.kernel.bird.control import Control
from netloom.kernel.bird.sessions import resting
from netloom.model.errors import Unavailable

#: One question takes well below a millisecond of the daemon's time and ours.
PERIOD_S = 3.0
PATIENCE_S = 2.0


class Pulse:
    """Asks the BIRD in ``directory``; calls ``found`` from its own thread when it is not as told.

    It is silent until :meth:`expect` has said what should be there.
    """

    def __init__(
        self, directory: Path, found: Callable[[], None], period_s: float = PERIOD_S
    ) -> None:
        self._directory = directory
        self._found = found
        self._period_s = period_s
        self._expected = ""
        self._told = False
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def expect(self, mark: str) -> None:
        """Say which configuration the daemon has, by its mark; "" for no daemon."""
        self._expected, self._told = mark, False
        if mark and self._thread is None and not self._ended.is_set():
            self._thread = threading.Thread(target=self._run, name="bird-pulse", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """Ask no more; idempotent."""
        self._ended.set()

    def _run(self) -> None:
        while not self._ended.wait(self._period_s):
            expected = self._expected
            if not expected or self._told or self._is_well(expected):
                continue
            if expected == self._expected and not self._ended.is_set():
                self._told = True
                self._found()

    def _is_well(self, expected: str) -> bool:
        try:
            with Control(self._directory, PATIENCE_S) as control:
                return standing_mark(control) == expected and not resting(control)
        except Unavailable:
            return False
