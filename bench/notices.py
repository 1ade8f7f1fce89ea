"""The kernel's route notices in one namespace: how a bench sees what an agent did, and when."""

from __future__ import annotations

import socket
import time

from netloom.kernel import namespaces, wire
from netloom.kernel.netlink import NETLINK_ROUTE, open_socket, split

_IPV4_ROUTES = 7  # RTNLGRP_IPV4_ROUTE
_RECEIVE_BUFFER_FORCED = 33  # SO_RCVBUFFORCE
_BUFFER_BYTES = 64 << 20  # thousands of routes may come before this process is run again


class Notices:
    """A listener in the namespace called ``netns``; whoever makes it closes it."""

    def __init__(self, netns: str) -> None:
        self._socket: socket.socket = namespaces.in_namespace(
            namespaces.path(netns), lambda: open_socket(NETLINK_ROUTE, [_IPV4_ROUTES])
        )
        self._socket.setsockopt(socket.SOL_SOCKET, _RECEIVE_BUFFER_FORCED, _BUFFER_BYTES)

    def close(self) -> None:
        """Stop listening."""
        self._socket.close()

    def wait(self, kind: int, destination: bytes, deadline_s: float = 10.0) -> float:
        """Return when the notice of ``kind`` about ``destination`` was read. Raises TimeoutError.

        Times are those of ``time.perf_counter``.
        """
        end = time.perf_counter() + deadline_s
        while True:
            data, now = self._receive(end, f"notice {kind} of {destination.hex('.')}")
            for found, _, _, payload in split(data):
                if found == kind and destination in payload:
                    return now

    def wait_for(self, wanted: int, length: int = 24, deadline_s: float = 120.0) -> float:
        """Return when the ``wanted``-th of the main table's new routes to a /``length`` was read.

        Each destination counts once. Raises TimeoutError.
        """
        end = time.perf_counter() + deadline_s
        seen: set[bytes] = set()
        while True:
            data, now = self._receive(end, f"{wanted} routes, {len(seen)} came")
            for kind, _, _, payload in split(data):
                header = wire.ROUTE_HEADER.unpack_from(payload)
                if kind != wire.RTM_NEWROUTE or header[1] != length:
                    continue
                if header[4] == wire.RT_TABLE_MAIN:
                    fields = dict(wire.attributes(payload, wire.ROUTE_HEADER.size))
                    seen.add(fields[wire.RTA_DST])
            if len(seen) >= wanted:
                return now

    def _receive(self, end: float, what: str) -> tuple[bytes, float]:
        self._socket.settimeout(max(0.001, end - time.perf_counter()))
        try:
            return self._socket.recv(1 << 18), time.perf_counter()
        except TimeoutError:
            raise TimeoutError(f"waited in vain for {what}") from None
