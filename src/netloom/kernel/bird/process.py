"""Starting BIRD and ending it. It is a process of its own and outlives the agent that started it.

All its files are in our run directory, which it runs in, so that names in them are short; it never
sees the machine's own ``/run/bird`` or ``/etc/bird``.
"""

from __future__ import annotations

import errno
import os
import re
import select
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path

from netloom.kernel.bird.control import CONFIG, SOCKET, Control
from netloom.kernel.commands import find, missing, run
from netloom.kernel.namespaces import identity
from netloom.model.errors import Conflict, KernelRejected, NetloomError, NotPermitted, Unavailable

PROGRAM = "bird"
OLDEST = (2, 0, 8)
START_PATIENCE_S = 10.0
END_PATIENCE_S = 3.0
_ERRORS = "bird.err"
_VERSION = re.compile(r"(\d+)\.(\d+)(?:\.(\d+))?")


def require_version() -> str:
    """Return the path of a BIRD that is new enough. Raises Unavailable with the remedy."""
    path = find(PROGRAM)
    if not path:
        raise missing(PROGRAM)
    done = run(path, "--version", timeout_s=5.0)
    said = (done.output or done.error).strip()
    match = _VERSION.search(said)
    version = tuple(int(part or 0) for part in match.groups()) if match else ()
    if version < OLDEST:
        least = ".".join(map(str, OLDEST))
        raise Unavailable(
            f"{path} is too old, or no BIRD: it says {said!r}, and {least} is needed",
            hint="install BIRD 2 (Debian's package bird2)",
        )
    return path


def start(directory: Path, *, recover: bool) -> subprocess.Popen[bytes]:
    """Start BIRD with the configuration in ``directory``; return when it answers.

    ``recover``: routes of an earlier one are in the kernel, and stay until it knows better (-R,
    graceful restart). Raises Conflict, KernelRejected, NotPermitted, Unavailable.
    """
    path = require_version()
    errors = directory / _ERRORS
    with errors.open("wb") as stderr:
        child = subprocess.Popen(
            [path, "-f", "-c", CONFIG, "-s", SOCKET, *(["-R"] if recover else [])],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=stderr,
            start_new_session=True,  # what ends the agent does not end it
            env={},  # it lives longer than what the agent's environment may hold
            cwd=directory,
        )
    deadline = time.monotonic() + START_PATIENCE_S
    while child.poll() is None and time.monotonic() < deadline:
        with suppress(Unavailable), Control(directory, deadline - time.monotonic()):
            return child
        with suppress(subprocess.TimeoutExpired):
            child.wait(0.01)  # between its start and its socket
    child.kill()
    child.wait()
    raise _refusal(directory, errors.read_text("utf-8", "replace").strip())


def _refusal(directory: Path, said: str) -> NetloomError:
    if "another BIRD" in said:
        return Conflict(
            f"another BIRD listens on {directory / SOCKET}",
            hint=f"end it (birdc -s {directory / SOCKET} down), or use another --run-dir",
        )
    if "ermission" in said or "not permitted" in said:
        return NotPermitted(
            f"BIRD may not start: {said}",
            hint="run as root, or with CAP_NET_ADMIN, CAP_NET_RAW and CAP_NET_BIND_SERVICE",
        )
    return KernelRejected("start", "BIRD", errno.EIO, said or "it did not answer")


def require_ours(pid: int, directory: Path) -> None:
    """Refuse a process that listens in our place and is no BIRD in this namespace.

    Raises Conflict.
    """
    try:
        name = Path(f"/proc/{pid}/comm").read_text("ascii", "replace").strip()
        there = os.stat(f"/proc/{pid}/ns/net")
    except OSError:
        return  # gone meanwhile
    if name != PROGRAM or (there.st_dev, there.st_ino) != identity():
        raise Conflict(
            f"{directory / SOCKET} is held by another: process {pid} ({name})",
            hint="end it, or use another --run-dir",
        )


def kill(pid: int) -> None:
    """End one that does not answer, and return when it is gone. Peers keep its routes.

    It gets no chance to say farewell, since peers would drop its routes then.
    """
    with suppress(OSError):  # gone already
        handle = os.pidfd_open(pid)
        try:
            signal.pidfd_send_signal(handle, signal.SIGKILL)
            select.select([handle], [], [], END_PATIENCE_S)
        finally:
            os.close(handle)


def wait(pid: int) -> None:
    """Wait for the end of one that was told to; kill it when it does not come."""
    with suppress(OSError):  # gone already
        handle = os.pidfd_open(pid)
        try:
            if select.select([handle], [], [], END_PATIENCE_S)[0]:
                return
        finally:
            os.close(handle)
    kill(pid)
