"""Ping many addresses at once from one network namespace: ICMP echo (RFC 792, RFC 4443).

A matrix of some hundred pairs would cost a process each with ping(8); here it costs a thread for
each place one pings from, and about as long as the slowest answer.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import struct
import time
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from netloom.model.addr import Family, IPAddress, parse_address
from netloom.model.errors import NotPermitted

_REQUEST: dict[Family, int] = {4: 8, 6: 128}
_REPLY: dict[Family, int] = {4: 0, 6: 129}
_PAYLOAD = b"netloom-" * 7  # 56 bytes, as ping(8) sends
_SOL_RAW, _ICMP_FILTER, _ICMP6_FILTER = 255, 1, 1


@dataclass(frozen=True, slots=True)
class Echo:
    """What became of one address: a round trip in milliseconds, or the reason for none."""

    address: IPAddress
    rtt_ms: float | None = None
    reason: str = ""


def echo(
    targets: Iterable[IPAddress], *, patience_s: float = 1.5, rounds: int = 3
) -> dict[IPAddress, Echo]:
    """Ping every target from the calling thread's namespace and return an answer for each.

    Whoever has not answered after a part of ``patience_s`` is asked again, ``rounds`` times in
    all: a first packet may be lost while a neighbour is being resolved. Raises NotPermitted
    without CAP_NET_RAW.
    """
    wanted = list(dict.fromkeys(targets))
    families: set[Family] = {address.version for address in wanted}
    asking = _Asking({family: _open(family) for family in families})
    try:
        for _ in range(rounds):
            left = [address for address in wanted if address not in asking.answered]
            if not left:
                break
            asking.ask(left)
            asking.listen(time.monotonic() + patience_s / rounds, left)
    finally:
        asking.close()
    return {
        address: asking.answered.get(
            address, Echo(address, None, asking.failed.get(address, "no answer"))
        )
        for address in wanted
    }


class _Asking:
    """Sockets, what was sent on them, and what came back."""

    def __init__(self, sockets: dict[Family, socket.socket]) -> None:
        self.answered: dict[IPAddress, Echo] = {}
        self.failed: dict[IPAddress, str] = {}
        self._sockets = sockets
        self._ident = int.from_bytes(os.urandom(2))
        self._sent: dict[int, tuple[IPAddress, float]] = {}
        self._sequence = 0

    def ask(self, targets: Iterable[IPAddress]) -> None:
        """Send one request to each; what the kernel says at once is remembered as the reason."""
        for address in targets:
            self._sequence = (self._sequence + 1) & 0xFFFF
            packet = _packet(address.version, self._ident, self._sequence)
            self._sent[self._sequence] = (address, time.monotonic())
            try:
                self._sockets[address.version].sendto(packet, (str(address), 0))
                self.failed.pop(address, None)
            except OSError as error:
                self.failed[address] = os.strerror(error.errno or errno.EIO)

    def listen(self, deadline: float, targets: Collection[IPAddress]) -> None:
        """Collect answers until all of ``targets`` have come, or the deadline."""
        waiting = {address for address in targets if address not in self.failed}
        while waiting:
            left_s = deadline - time.monotonic()
            ready, _, _ = select.select(list(self._sockets.values()), [], [], max(0.0, left_s))
            if not ready:
                return
            for sock in ready:
                family: Family = 4 if sock.family == socket.AF_INET else 6
                answer = self._read(sock, family)
                if answer:
                    self.answered.setdefault(answer.address, answer)
                    waiting.discard(answer.address)

    def close(self) -> None:
        for sock in self._sockets.values():
            sock.close()

    def _read(self, sock: socket.socket, family: Family) -> Echo | None:
        """Read one packet; None if it answers nothing that we asked."""
        data, origin = sock.recvfrom(2048)
        now = time.monotonic()
        start = (data[0] & 15) * 4 if family == 4 else 0  # IPv4 alone hands us its header
        if len(data) < start + 8:
            return None
        kind, _, _, ident, sequence = struct.unpack_from("!BBHHH", data, start)
        if kind != _REPLY[family] or ident != self._ident or sequence not in self._sent:
            return None
        address, sent = self._sent[sequence]
        if parse_address(origin[0].partition("%")[0], "origin") != address:
            return None
        return Echo(address, (now - sent) * 1000)


def _open(family: Family) -> socket.socket:
    try:
        if family == 4:
            sock = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
            passing = struct.pack("=I", 0xFFFFFFFF & ~(1 << _REPLY[4]))
            sock.setsockopt(_SOL_RAW, _ICMP_FILTER, passing)
        else:
            sock = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
            blocked = [0xFFFFFFFF] * 8
            blocked[_REPLY[6] // 32] &= ~(1 << _REPLY[6] % 32)
            sock.setsockopt(socket.IPPROTO_ICMPV6, _ICMP6_FILTER, struct.pack("=8I", *blocked))
    except PermissionError:
        raise NotPermitted("pinging needs the right CAP_NET_RAW", hint="run it as root") from None
    return sock


def _packet(family: Family, ident: int, sequence: int) -> bytes:
    """Build an echo request; the kernel fills in IPv6's checksum itself (RFC 3542 §3.1)."""
    head = struct.pack("!BBHHH", _REQUEST[family], 0, 0, ident, sequence)
    checksum = _checksum(head + _PAYLOAD) if family == 4 else 0
    return struct.pack("!BBHHH", _REQUEST[family], 0, checksum, ident, sequence) + _PAYLOAD


def _checksum(data: bytes) -> int:
    """Return the Internet checksum (RFC 1071) of an even number of bytes."""
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
