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
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from netloom.kernel import capabilities
from netloom.kernel.bird.control import CONFIG, SOCKET, Control
from netloom.kernel.commands import find, missing, run
from netloom.kernel.namespaces import identity
from netloom.model.errors import Conflict, KernelRejected, NetloomError, NotPermitted, Unavailable

PROGRAM = "bird"
OLDEST = (2, 0, 8)
START_PATIENCE_S = 10.0
END_PATIENCE_S = 3.0
_ERRORS = "bird.err"
_BIND = "CAP_NET_BIND_SERVICE"
#: From which port on nobody needs a right to listen.
_FREE_PORTS = Path("/proc/sys/net/ipv4/ip_unprivileged_port_start")
_ARGUMENTS = ("-f", "-c", CONFIG, "-s", SOCKET)
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


def complaint(file: Path) -> str:
    """Return what BIRD says is wrong with a configuration; "" for nothing. Raises Unavailable."""
    done = run(require_version(), "-p", "-c", str(file), timeout_s=START_PATIENCE_S)
    said = done.error.strip().removeprefix(f"{PROGRAM}: ").replace(str(file), file.name)
    return (said or done.complaint) if done.code else ""


def start(directory: Path, *, recover: bool) -> subprocess.Popen[bytes]:
    """Start BIRD with the configuration in ``directory``; return when it answers.

    ``recover``: routes of an earlier one are in the kernel, and stay until it knows better (-R,
    graceful restart). Raises Conflict, KernelRejected, NotPermitted, Unavailable.
    """
    path = require_version()
    errors = directory / _ERRORS
    with errors.open("wb") as stderr:
        child = subprocess.Popen(
            [path, *_ARGUMENTS, *(["-R"] if recover else [])],
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
            hint="run as root, or with CAP_NET_ADMIN, CAP_NET_RAW and " + _BIND,
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


def require_right(pid: int, port: int) -> None:
    """Refuse a BIRD that may not listen at ``port``, a TCP port.

    Raises NotPermitted where this process may not either, Unavailable where it may: then one that
    it starts anew may, too.
    """
    free = int(_FREE_PORTS.read_text("ascii"))
    if port >= free or capabilities.holds(capabilities.NET_BIND_SERVICE, pid):
        return
    text = f"BIRD may not listen at TCP port {port} for its BGP peers: it has no {_BIND}"
    if capabilities.holds(capabilities.NET_BIND_SERVICE):
        raise Unavailable(text, hint="nothing to do: it is started anew, with what the agent has")
    raise NotPermitted(
        text,
        hint=f"give the agent {_BIND} (systemd: CapabilityBoundingSet=, and AmbientCapabilities= "
        f"for a user other than root), or set listenPort to {free} or above",
    )


def end_strays(directory: Path, but: int = 0) -> bool:
    """End BIRDs of ours that nobody can talk to; tell whether there were any.

    The file of their socket is gone, or the whole directory, and they have our port.
    """
    found = [pid for pid in _started_in(directory) if pid != but]
    for pid in found:
        kill(pid)
    return bool(found)


def _started_in(directory: Path) -> Iterator[int]:
    """Yield the BIRDs that were started in ``directory``, as we do it, in this namespace."""
    here, arguments = os.path.realpath(directory), [word.encode() for word in _ARGUMENTS]
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        with suppress(OSError):  # gone meanwhile
            proc = Path("/proc", entry)
            if (proc / "comm").read_bytes().strip() != PROGRAM.encode():
                continue
            place = os.readlink(proc / "cwd").removesuffix(" (deleted)")
            said = (proc / "cmdline").read_bytes().split(b"\0")[1 : 1 + len(arguments)]
            there = os.stat(proc / "ns/net")
            if place == here and said == arguments and (there.st_dev, there.st_ino) == identity():
                yield int(entry)


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
