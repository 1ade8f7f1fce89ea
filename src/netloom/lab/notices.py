"""What a host's kernel says of its changes, as it says it: who is gone, who stands.

The tools of iproute2 have monitors for this, but theirs drop what is said while they start and end
at the first namespace that goes away beside them. This one has joined its groups before the first
change, and names things by the keys of ``model/kernel.py``.
"""

from __future__ import annotations

import queue
import select
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass

from netloom.kernel import decode, namespaces, wire
from netloom.kernel.netlink import open_socket, split
from netloom.lab.listening import Listening
from netloom.lab.place import Place
from netloom.model.errors import Unavailable

_NETFILTER, _NFTABLES_GROUP = 12, 7
_NEW_GENERATION = 10 << 8 | 15  # NFNL_SUBSYS_NFTABLES, NFT_MSG_NEWGEN: a transaction is in force
_GROUPS = (1, 3, 5, 7, 9, 11)  # RTNLGRP_: link, neighbour, IPv4 and IPv6 addresses and routes
_DATAGRAM_BYTES = 64 << 10
_LOST = (wire.RTM_DELLINK, wire.RTM_DELADDR, wire.RTM_DELROUTE, wire.RTM_DELNEIGH)

#: The key of "the firewall has changed".
FIREWALL = "nft"


@dataclass(frozen=True, slots=True)
class Notice:
    """One thing is gone (``lost``) or stands, since ``came_s`` (monotonic).

    ``key`` is the object's key. For a link there is a second notice with the key ``port NAME``: it
    stands while the link is in a bridge.
    """

    came_s: float
    lost: bool
    key: str


class Notices(Listening):
    """The notices of a place, from entry to exit of the ``with``."""

    def __init__(self, place: Place) -> None:
        self._queue: queue.SimpleQueue[Notice] = queue.SimpleQueue()
        netns = namespaces.path(place.namespace)
        self._route, self._nft, self._names = namespaces.in_namespace(
            netns,
            lambda: (
                open_socket(groups=_GROUPS),
                open_socket(_NETFILTER, [_NFTABLES_GROUP]),
                dict(socket.if_nameindex()),
            ),
        )
        self._ended, self._ending = socket.socketpair()
        super().__init__()

    def begin(self) -> None:
        """Read what came since the groups were joined."""
        self.reader.start()

    def end(self) -> None:
        """Leave the groups."""
        self._ending.close()
        self.join()
        for each in (self._route, self._nft, self._ended):
            each.close()

    def next(self, deadline_s: float) -> Notice:
        """Return the next notice. Raises Unavailable when ``deadline_s`` (monotonic) has passed."""
        try:
            return self._queue.get(timeout=max(0.0, deadline_s - time.monotonic()))
        except queue.Empty:
            raise Unavailable("the kernel said nothing more") from None

    def read(self) -> None:
        """Take in what the kernel says."""
        while True:
            ready, _, _ = select.select([self._route, self._nft, self._ended], [], [])
            came = time.monotonic()
            if self._ended in ready:
                return
            for each in ready:
                data = each.recv(_DATAGRAM_BYTES)
                for kind, _, _, payload in split(data):
                    found = self._rtnetlink(kind, payload) if each is self._route else _nft(kind)
                    for lost, key in found:
                        self._queue.put(Notice(came, lost, key))

    def _rtnetlink(self, kind: int, payload: bytes) -> Iterator[tuple[bool, str]]:
        lost = kind in _LOST
        if kind in (wire.RTM_NEWLINK, wire.RTM_DELLINK):
            yield from self._link(payload, lost=lost)
        elif kind in (wire.RTM_NEWADDR, wire.RTM_DELADDR):
            for address in decode.addresses([payload], self._names):
                yield lost, address.key
        elif kind in (wire.RTM_NEWROUTE, wire.RTM_DELROUTE):
            for route in decode.routes([payload], self._names):
                yield lost, route.key
        elif kind in (wire.RTM_NEWNEIGH, wire.RTM_DELNEIGH):
            yield from self._neighbour(payload, lost=lost)

    def _link(self, payload: bytes, *, lost: bool) -> Iterator[tuple[bool, str]]:
        if payload[0] == wire.AF_BRIDGE:
            return  # the bridge's own view of a port
        (link,) = decode.links([payload])
        self._names[link.index] = link.name
        yield lost, link.key
        yield lost or link.master is None, f"port {link.name}"

    def _neighbour(self, payload: bytes, *, lost: bool) -> Iterator[tuple[bool, str]]:
        if payload[0] == wire.AF_BRIDGE:
            for entry in decode.fdb([payload], self._names):
                yield lost, entry.key
            return
        _, index, state, *_ = wire.NEIGHBOUR_HEADER.unpack_from(payload)
        if not lost and state & wire.NUD_PERMANENT:
            for neighbour in decode.neighbours([payload], self._names):
                yield False, neighbour.key
            return
        # What a lost neighbour was is no longer in the message, only where. One that a packet
        # wanted in the very moment of its deletion stays, unresolved, and no deletion is told.
        fields = dict(wire.attributes(payload, wire.NEIGHBOUR_HEADER.size))
        if wire.NDA_DST in fields and index in self._names:
            address = decode.ip_address(fields[wire.NDA_DST])
            yield True, f"neighbour {address} dev {self._names[index]}"


def _nft(kind: int) -> Iterator[tuple[bool, str]]:
    if kind == _NEW_GENERATION:
        yield False, FIREWALL
