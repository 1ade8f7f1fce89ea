"""Damage done by hand, and how long the agent takes to mend it, by the kernel's own notices.

A monitor (``ip monitor``, ``bridge monitor``, ``nft monitor``) runs beside the damage and says when
a thing went and when it was back; nothing is polled while the clock runs.
"""

from __future__ import annotations

import queue
import re
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from netloom.lab.place import Place
from netloom.lab.waiting import wait_until
from netloom.model.errors import Unavailable

PATIENCE_S = 20.0

Notices = queue.SimpleQueue[tuple[float, str]]


@dataclass(frozen=True, slots=True)
class Damage:
    """One act of damage: the command, the monitor to watch, and the patterns to look for.

    A line that matches ``gone`` starts the clock, the ``times``-th later one that matches ``back``
    stops it.
    """

    command: tuple[str, ...]
    monitor: tuple[str, ...]
    gone: str
    back: str
    times: int = 1


def time_repair(place: Place, damage: Damage, patience_s: float = PATIENCE_S) -> float:
    """Do the damage; return the seconds from the loss to the repair.

    Raises Unavailable when it is not mended within ``patience_s``, CommandFailed when the damage
    could not be done.
    """
    with _watching(place, damage.monitor) as notices:
        place.exec(damage.command)
        deadline = time.monotonic() + patience_s
        lost = _await(notices, damage.gone, deadline, f"notice of `{' '.join(damage.command)}`")
        back = lost
        for _ in range(damage.times):
            back = _await(notices, damage.back, deadline, f"repair of `{' '.join(damage.command)}`")
    return back - lost


def _await(notices: Notices, pattern: str, deadline: float, what: str) -> float:
    """Return when the first notice that matches ``pattern`` came."""
    while True:
        try:
            came, line = notices.get(timeout=max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            raise Unavailable(f"waited for the {what}, in vain") from None
        if re.search(pattern, line):
            return came


@contextmanager
def _watching(place: Place, argv: tuple[str, ...]) -> Iterator[Notices]:
    """Run a monitor; yield its lines, each with the time at which it came."""
    notices: Notices = queue.SimpleQueue()
    monitor = place.popen(["stdbuf", "-oL", *argv], stdout=subprocess.PIPE)
    assert monitor.stdout is not None
    lines = monitor.stdout

    def read() -> None:
        for line in lines:
            notices.put((time.monotonic(), line.strip()))

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    try:
        wait_until(
            lambda: monitor.poll() is not None or _listens(monitor.pid),
            deadline_s=PATIENCE_S,
            what=f"`{' '.join(argv)}` to listen",
            pause_s=0.002,
        )
        yield notices
    finally:
        monitor.kill()
        monitor.wait()
        reader.join()
        lines.close()


def _listens(pid: int) -> bool:
    """Tell whether the process has a netlink socket that is in a multicast group."""
    try:
        table = Path(f"/proc/{pid}/net/netlink").read_text().splitlines()[1:]
    except OSError:
        return False
    fields = [line.split() for line in table]
    return any(int(field[2]) == pid and int(field[3], 16) != 0 for field in fields)
