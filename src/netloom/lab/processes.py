"""Processes of a lab: named by pid and start time, found by namespace, ended with certainty."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from netloom.model.errors import Unavailable
from netloom.model.fields import Fields

#: Every process that a lab starts carries this in its environment: ``<lab>/<node>``.
MARK = "NETLOOM_LAB_MEMBER"
KILL_PATIENCE_S = 30.0


@dataclass(frozen=True, slots=True)
class Process:
    """One process. ``start`` (ticks since boot) tells it from a later one with the same pid."""

    pid: int
    start: int

    @classmethod
    def of(cls, pid: int) -> Process | None:
        """Return the living process ``pid``, or None; a zombie is not alive."""
        try:
            stat = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace")
            fields = stat.rpartition(")")[2].split()
        except (OSError, ValueError):
            return None
        return None if fields[0] in "ZX" else cls(pid, int(fields[19]))

    @classmethod
    def parse(cls, data: object) -> Process:
        """Parse what :meth:`render` writes."""
        fields = Fields(data, "process")
        return cls(fields.take_int("pid", 0, 1, 1 << 22), fields.take_int("start", 0, 0, 1 << 62))

    def render(self) -> dict[str, int]:
        """Return the JSON form."""
        return {"pid": self.pid, "start": self.start}

    @property
    def alive(self) -> bool:
        """Tell whether this very process runs."""
        return Process.of(self.pid) == self

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to this very process; gone is well.

        The pidfd is opened before the start time is read: a pid that was dealt anew in between
        is never hit.
        """
        try:
            fd = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return
        try:
            if self.alive:
                with suppress(ProcessLookupError):
                    signal.pidfd_send_signal(fd, number)
        finally:
            os.close(fd)


def myself() -> Process:
    """Return the calling process."""
    process = Process.of(os.getpid())
    assert process is not None
    return process


def by_namespace() -> dict[tuple[int, int], list[int]]:
    """Return the living pids of each network namespace, by the namespace's (device, inode)."""
    found: dict[tuple[int, int], list[int]] = {}
    for pid in _pids():
        with suppress(OSError):
            status = os.stat(f"/proc/{pid}/ns/net")
            found.setdefault((status.st_dev, status.st_ino), []).append(pid)
    return found


def members(lab: str) -> list[Process]:
    """Return the processes whose environment says that this lab started them."""
    wanted = f"{MARK}={lab}/".encode()
    found = []
    for pid in _pids():
        with suppress(OSError):
            environment = Path(f"/proc/{pid}/environ").read_bytes()
            if any(item.startswith(wanted) for item in environment.split(b"\0")):
                process = Process.of(pid)
                if process:
                    found.append(process)
    return found


def end(processes: Iterable[Process], spare: Collection[int] = ()) -> None:
    """Kill the processes and return when they are gone, except those whose pid is in ``spare``.

    Raises Unavailable naming the pids of those that outlive SIGKILL.
    """
    left = [process for process in processes if process.pid not in spare]
    for process in left:
        process.signal(signal.SIGKILL)
    deadline = time.monotonic() + KILL_PATIENCE_S
    while left:
        left = [process for process in left if not gone(process)]
        if left and time.monotonic() > deadline:
            pids = ", ".join(str(process.pid) for process in left)
            raise Unavailable(f"killed, yet still there: process {pids}")
        if left:
            time.sleep(0.005)


def ancestry() -> list[int]:
    """Return the pids of the calling process and of all above it."""
    pids, pid = [], os.getpid()
    while pid > 1:
        pids.append(pid)
        try:
            stat = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace")
        except OSError:
            break
        pid = int(stat.rpartition(")")[2].split()[1])
    return pids


def start_detached(
    argv: Sequence[str], environment: Mapping[str, str], log: Path
) -> Process | None:
    """Start a process that outlives us, in a session of its own, with its output in ``log``.

    None when it has ended already.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    with open(os.open(log, flags, 0o600), "ab") as file:
        child = subprocess.Popen(
            argv,
            env=environment,
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            start_new_session=True,
        )
    child.returncode = 0  # keep Popen from complaining that it still runs
    _detached.add(child.pid)
    return Process.of(child.pid)


def gone(process: Process) -> bool:
    """Tell whether the process has ended; a detached one of ours is reaped on the way."""
    if process.pid in _detached:
        with suppress(ChildProcessError):
            if os.waitpid(process.pid, os.WNOHANG) == (0, 0):
                return False
        _detached.discard(process.pid)
    return not process.alive


#: Children of this very process for which no Popen waits.
_detached: set[int] = set()


def _pids() -> list[int]:
    return [int(entry) for entry in os.listdir("/proc") if entry.isdigit()]
