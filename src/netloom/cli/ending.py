"""The order to end: SIGTERM or SIGINT, waited for by the main thread.

Python runs its handlers in the main thread alone, and wakes it only for a signal that the kernel
gave to that thread. What came while the process stood still (SIGSTOP, a debugger, a frozen cgroup)
the kernel gives to whichever thread runs first: one that waited for a lock would wait for ever. So
each signal is a byte in a pipe (``signal.set_wakeup_fd``), whatever thread got it, and nothing is
done in a handler that another part of the same thread may be at.
"""

from __future__ import annotations

import logging
import os
import select
import signal

_log = logging.getLogger(__name__)
_NUMBERS = (signal.SIGTERM, signal.SIGINT)


class Ending:
    """Whether the process was told to end. To be made, and asked, by the main thread."""

    def __init__(self) -> None:
        self._told, teller = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(teller, warn_on_full_buffer=False)
        for number in _NUMBERS:
            signal.signal(number, lambda *_: None)
        self._came = False

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait for the order, ``timeout_s`` at most; tell whether it came, now or before."""
        if not self._came and select.select([self._told], [], [], timeout_s)[0]:
            self._came = True
            _log.info("%s: ending", signal.Signals(os.read(self._told, 1)[0]).name)
        return self._came
