"""Waiting for a condition with a deadline: the one place where the lab looks again and again."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from netloom.model.errors import Unavailable

T = TypeVar("T")

#: A look is often a process that begins or an agent that answers: who has waited long looks less
#: often, and learns it later by this part of its wait at most.
_PART = 1 / 10
_LONGEST_PAUSE_S = 0.05
_LONGEST_REST_S = 0.5


def wait_until(
    condition: Callable[[], T], *, deadline_s: float, what: str, pause_s: float = 0.01
) -> T:
    """Return the first true value of ``condition``.

    ``pause_s`` is the shortest time between two looks. Raises Unavailable, saying ``what`` was
    waited for and what the condition last returned, when ``deadline_s`` passed: not before a look
    that began after it, since who waits may be kept from looking. What the condition raises is the
    caller's.
    """
    begun = time.monotonic()
    while True:
        looked_s = time.monotonic()
        waited_s = looked_s - begun
        value = condition()
        if value:
            return value
        if waited_s > deadline_s:
            last = f"; last seen: {value!r}" if value not in (None, False) else ""
            raise Unavailable(f"waited {deadline_s:g} s for {what}, in vain{last}")
        # Where a look takes long, more of them would only keep back what is waited for.
        rest_s = min((time.monotonic() - looked_s) / 2, _LONGEST_REST_S)
        time.sleep(max(pause_s, min(waited_s * _PART, _LONGEST_PAUSE_S), rest_s))
