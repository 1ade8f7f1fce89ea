"""Damage done by hand, and how long the agent takes to mend it, by the kernel's own notices."""

from __future__ import annotations

import time
from dataclasses import dataclass

from netloom.lab.notices import Notices
from netloom.lab.place import Place
from netloom.model.errors import Unavailable

PATIENCE_S = 60.0


@dataclass(frozen=True, slots=True)
class Damage:
    """One act of damage: the command, the notice that it is done, the keys that must stand again.

    ``gone`` is (lost, key) as in :class:`~netloom.lab.notices.Notice`.
    """

    command: tuple[str, ...]
    gone: tuple[bool, str]
    back: frozenset[str]


def time_repair(place: Place, damage: Damage, patience_s: float = PATIENCE_S) -> float:
    """Do the damage; return the seconds from the command's start to the last notice of the repair.

    The loss itself comes a few milliseconds after that start. To count from its notice instead
    would be too kind: on a busy machine both notices are read at once.

    Raises Unavailable, naming what is missing, when it is not mended within ``patience_s``;
    CommandFailed when the damage could not be done.
    """
    with Notices(place) as notices:
        began = time.monotonic()
        place.exec(damage.command)
        missing: set[str] = set()
        done = False
        while True:
            try:
                notice = notices.next(began + patience_s)
            except Unavailable:
                what = ", ".join(sorted(missing)) if done else "notice of the damage"
                command = " ".join(damage.command)
                raise Unavailable(
                    f"`{command}` was not mended in {patience_s:g} s: still no {what}"
                ) from None
            if not done:
                done = (notice.lost, notice.key) == damage.gone
                missing = set(damage.back) if done else missing
            elif not notice.lost:
                missing.discard(notice.key)
                if not missing:
                    return notice.came_s - began
