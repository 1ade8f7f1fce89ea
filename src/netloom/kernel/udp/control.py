"""The control socket of a proxy: a SEQPACKET unix socket, one request and one answer at a time.

Everything is in network byte order. A request is ``magic u32, verb u32, body``, an answer ``magic
u32, errno u32, body``; errno 0 is well, and any other comes without a body.

==========  ====  ==================================  ==========================================
verb              body of the request                 body of the answer
==========  ====  ==================================  ==========================================
STATUS      1                                         ``_STATUS``, see :class:`Status`
GET         2                                         generation u64, entries
SET         3     generation u64, entries             (the table is replaced as a whole)
HAND_OVER   4                                         as GET, with the descriptors of device and
                                                      UDP socket (SCM_RIGHTS); the proxy ends
==========  ====  ==================================  ==========================================

A proxy sends nothing before it has a table, not even that there is no way: packets wait.
An entry is ``network u32, host u32, port u16, prefix length u8, unpacks u8``. A table
that does not parse is refused with EINVAL as a whole, what is no request with EPROTO.
"""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from netloom.model.errors import KernelRejected, Unavailable
from netloom.model.kernel import UdpPeer

MAGIC = 0x4E4C5531
STATUS, GET, SET, HAND_OVER = range(1, 5)
COUNTERS = ("sent", "received", "no_peer", "expired", "malformed", "send_failed", "write_failed")
#: How long a proxy may take for an answer. One that takes longer is stuck: it does nothing else
#: than carry packets and answer.
PATIENCE_S = 5.0
_HEAD = struct.Struct("!II")
_GENERATION = struct.Struct("!Q")
_ENTRY = struct.Struct("!4s4sHB?")
_STATUS = struct.Struct(f"!I4sHHH2xQ{len(COUNTERS)}Q16s32s")
_WANTED, _ATTACHED = 1, 2
_MOST_BYTES = 16 + _ENTRY.size * 65536


@dataclass(frozen=True, slots=True)
class Status:
    """What a proxy says of itself. ``counters``: what became of packets since it started.

    ``shortcut``: it shall let the kernel carry packets. ``unpacks``: the kernel does, for those
    that come in; otherwise ``errno`` says why not.
    """

    pid: int
    device: str
    local: ipaddress.IPv4Address
    port: int
    version: str
    generation: int
    counters: dict[str, int]
    shortcut: bool
    unpacks: bool
    errno: int


class Control:
    """One connection to the proxy of ``device``. It ends when the proxy does: poll it for HUP.

    Raises Unavailable when nobody listens.
    """

    def __init__(self, directory: Path, device: str, patience_s: float = PATIENCE_S) -> None:
        self.device = device
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            self._socket.settimeout(patience_s)
            self._socket.setsockopt(
                socket.SOL_SOCKET, getattr(socket, "SO_SNDBUFFORCE", 32), 2 * _MOST_BYTES
            )
            # By the directory's descriptor: a path of a socket has at most 107 characters.
            folder = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                self._socket.connect(f"/proc/self/fd/{folder}/{device}.sock")
            finally:
                os.close(folder)
        except OSError as error:
            self._socket.close()
            raise Unavailable(f"the UDP proxy of {device} does not listen: {error}") from None

    def fileno(self) -> int:
        """Return the descriptor, for poll."""
        return self._socket.fileno()

    def close(self) -> None:
        """Close the connection; idempotent."""
        self._socket.close()

    @property
    def pid(self) -> int:
        """The process at the other end, as the kernel knows it."""
        data = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        return int(struct.unpack("=iII", data)[0])

    def status(self) -> Status:
        """Ask for the status. Raises Unavailable."""
        body = self._ask(STATUS)
        pid, local, port, shortcut, number, generation, *rest = _STATUS.unpack(body)
        *counters, device, version = rest
        return Status(
            pid,
            device.rstrip(b"\0").decode(),
            ipaddress.IPv4Address(local),
            port,
            version.rstrip(b"\0").decode(),
            generation,
            dict(zip(COUNTERS, counters, strict=True)),
            bool(shortcut & _WANTED),
            bool(shortcut & _ATTACHED),
            number,
        )

    def peers(self) -> list[UdpPeer]:
        """Ask for the table of peers. Raises Unavailable."""
        body = self._ask(GET)
        return [
            UdpPeer(
                self.device,
                ipaddress.IPv4Network((network, length)),
                ipaddress.IPv4Address(host),
                port,
                unpacks,
            )
            for network, host, port, length, unpacks in _ENTRY.iter_unpack(body[_GENERATION.size :])
        ]

    def replace_peers(self, peers: Iterable[UdpPeer], generation: int) -> None:
        """Set the table as a whole. Raises Unavailable."""
        entries = (
            _ENTRY.pack(
                peer.block.network_address.packed,
                peer.remote.packed,
                peer.port,
                peer.block.prefixlen,
                peer.unpacks,
            )
            for peer in peers
        )
        self._ask(SET, _GENERATION.pack(generation) + b"".join(entries))

    def _ask(self, verb: int, body: bytes = b"") -> bytes:
        try:
            self._socket.send(_HEAD.pack(MAGIC, verb) + body)
            answer = self._socket.recv(_MOST_BYTES)
        except TimeoutError:
            raise Unavailable(f"the UDP proxy of {self.device} does not answer") from None
        except OSError as error:
            raise Unavailable(f"the UDP proxy of {self.device} is gone: {error}") from None
        if len(answer) < _HEAD.size:
            raise Unavailable(f"the UDP proxy of {self.device} is gone")
        magic, number = _HEAD.unpack_from(answer)
        if magic != MAGIC:
            number = errno.EPROTO
        if number:
            raise KernelRejected("ask", f"the UDP proxy of {self.device}", number)
        return answer[_HEAD.size :]
