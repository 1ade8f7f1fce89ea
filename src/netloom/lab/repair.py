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
from collections.abc import Callable, Iterator
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

    The repair is the ``times``-th line that matches ``back`` after one that matched ``gone``.
    """

    command: tuple[str, ...]
    monitor: tuple[str, ...]
    gone: str
    back: str
    times: int = 1


def time_repair(place: Place, damage: Damage, patience_s: float = PATIENCE_S) -> float:
    """Do the damage; return the seconds from the command's start to the notice of the repair.

    The loss itself comes a few milliseconds after that start. To count from its notice instead
    would be too kind: on a busy machine both notices are read at once.

    Raises Unavailable when it is not mended within ``patience_s``, CommandFailed when the damage
    could not be done.
    """
    with _watching(place, damage.monitor) as notices:
        began = time.monotonic()
        deadline = began + patience_s
        place.exec(damage.command)
        back = _await(notices, damage.gone, deadline, f"notice of `{' '.join(damage.command)}`")
        for _ in range(damage.times):
            back = _await(notices, damage.back, deadline, f"repair of `{' '.join(damage.command)}`")
    return back - began


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
            _settled(monitor),
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


def _settled(monitor: subprocess.Popen[str]) -> Callable[[], bool]:
    """Return a condition: subscribed, and asleep with nothing to read since it was last asked.

    To be subscribed is not enough. The tools of iproute2 begin by listing all links on the same
    socket, and what is notified while they do is dropped (`ll_init_map` in its source).
    """
    slept = ""

    def look() -> bool:
        nonlocal slept
        if monitor.poll() is not None:
            raise Unavailable(f"the monitor ended with {monitor.returncode}")
        before, slept = slept, _sleep(monitor.pid)
        return bool(slept) and slept == before

    return look


def _sleep(pid: int) -> str:
    """Name the sleep that a subscribed process with nothing to read is in; "" when in none."""
    table = Path(f"/proc/{pid}/net/netlink").read_text().splitlines()[1:]
    # Columns: socket, protocol, port id, groups, bytes to read, …
    sockets = [line.split() for line in table]
    mine = [each for each in sockets if int(each[2]) == pid and int(each[3], 16) != 0]
    if not mine or any(int(each[4]) for each in mine):
        return ""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    status = dict(line.split(":", 1) for line in lines)
    asleep = status["State"].split()[0] == "S"
    return status["voluntary_ctxt_switches"] if asleep else ""
