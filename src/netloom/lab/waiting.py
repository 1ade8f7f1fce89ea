"""Waiting for a condition with a deadline: the one place where the lab looks again and again."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from netloom.model.errors import Unavailable

T = TypeVar("T")


def wait_until(
    condition: Callable[[], T], *, deadline_s: float, what: str, pause_s: float = 0.01
) -> T:
    """Return the first true value of ``condition``.

    Raises Unavailable, saying ``what`` was waited for and what the condition last returned, when
    ``deadline_s`` passed. What the condition raises is the caller's.
    """
    deadline = time.monotonic() + deadline_s
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            last = f"; last seen: {value!r}" if value not in (None, False) else ""
            raise Unavailable(f"waited {deadline_s:g} s for {what}, in vain{last}")
        time.sleep(pause_s)
