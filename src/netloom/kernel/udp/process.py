"""Starting a proxy and ending one. A proxy outlives the agent that started it."""

from __future__ import annotations

import errno
import os
import select
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from netloom.kernel.namespaces import identity
from netloom.model.errors import Conflict, KernelRejected, NetloomError, NotPermitted
from netloom.model.fields import whole_number
from netloom.model.kernel import UdpProxy
from netloom.model.wording import describe

START_PATIENCE_S = 10.0
END_PATIENCE_S = 2.0
#: What a command line of ours holds, compiled or not.
_MARKS = (b"netloom-udp", b"udp/proxy.py")


def start(
    proxy: UdpProxy, directory: Path, command: Sequence[str], *, take_over: bool = False
) -> subprocess.Popen[bytes]:
    """Start a proxy and return when it carries packets.

    ``command`` is the program (see ``build.command``). Its environment is empty, since it lives
    longer than what the agent's may hold. Raises KernelRejected, Conflict or NotPermitted.
    """
    words = [proxy.link, str(proxy.local), str(proxy.port), str(directory), proxy.version]
    words += [] if proxy.shortcut else ["plain"]
    words += ["take-over"] if take_over else []
    process = subprocess.Popen(
        [*command, *words],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        start_new_session=True,
        env={},
        cwd="/",
    )
    said = _first_words(process)
    if said == b"ready\n":
        return process
    process.kill()
    process.wait()
    raise _refusal(proxy, said.decode("utf-8", "replace").strip())


def _first_words(process: subprocess.Popen[bytes]) -> bytes:
    """Return all that a process says until it closes its output, or its time is over."""
    assert process.stdout is not None
    said, deadline = b"", time.monotonic() + START_PATIENCE_S
    with process.stdout as output:
        while (left_s := deadline - time.monotonic()) > 0:
            if not select.select([output], [], [], left_s)[0]:
                break
            data = os.read(output.fileno(), 4096)
            if not data:
                return said
            said += data
    return b"%d say that it is ready" % errno.ETIMEDOUT


def _refusal(proxy: UdpProxy, said: str) -> NetloomError:
    number, _, what = said.partition(" ")
    code = whole_number(number) or errno.EIO
    if (code, what) == (errno.EADDRINUSE, "bind"):
        return Conflict(
            f"UDP port {proxy.port} of {proxy.local} is taken",
            hint=f"see who has it (ss -lunp sport = :{proxy.port}), or choose another backend.port",
        )
    if code in (errno.EPERM, errno.EACCES):
        return NotPermitted(
            f"the UDP proxy of {proxy.link} may not {what}",
            hint="run as root, or with the capabilities CAP_NET_ADMIN and CAP_NET_RAW",
        )
    detail = f"it could not {what}" if what else said or "it ended at once"
    return KernelRejected("start", describe(proxy), code, detail)


def end(pid: int) -> None:
    """End a process and return when it is gone; one that does not listen to reason is killed."""
    with suppress(OSError):  # gone already
        handle = os.pidfd_open(pid)
        try:
            for number in (signal.SIGTERM, signal.SIGKILL):
                signal.pidfd_send_signal(handle, number)
                if select.select([handle], [], [], END_PATIENCE_S)[0]:
                    return
        finally:
            os.close(handle)


def holders(device: str) -> Iterator[int]:
    """Yield proxies that carry ``device`` in this namespace, whatever directory they listen in.

    Such a one is found where the run directory was lost while it ran.
    """
    here = identity()
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        with suppress(OSError):
            line = (entry / "cmdline").read_bytes()
            if any(mark in line for mark in _MARKS) and device.encode() in line.split(b"\0"):
                status = (entry / "ns/net").stat()
                if (status.st_dev, status.st_ino) == here:
                    yield int(entry.name)
