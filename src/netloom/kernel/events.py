"""Kernel notifications, cut down to "which kinds to look at again"; implements ``KernelEvents``.

Two sockets listen: one to rtnetlink, one to nftables. What cannot be news is dropped by a filter in
the kernel (:mod:`netloom.kernel.sieve`), the rest is judged by :mod:`netloom.kernel.news`.
"""

from __future__ import annotations

import errno
import math
import os
import select
import socket
import threading
import time
from collections.abc import Container, Iterable, Iterator
from typing import Protocol

from netloom.core.admission import TABLE
from netloom.kernel import sieve
from netloom.kernel.known import Known
from netloom.kernel.lookup import Lookup
from netloom.kernel.netlink import Netlink, open_socket, split
from netloom.kernel.news import EVERYTHING, NOTHING, News
from netloom.model.errors import NetloomError
from netloom.model.kernel import NFT_TABLE

_NETLINK_NETFILTER = 12
_NFNLGRP_NFTABLES = 7
#: RTNLGRP_: link, neighbours, traffic control, IPv4 and IPv6 addresses, routes and settings.
_GROUPS = (1, 3, 4, 5, 7, 9, 11, 24, 25)
_DATAGRAM_BYTES = 64 << 10
_MOST_AT_ONCE = 4096  # datagrams of one drain: a kernel that never stops talking must not hold us
_TABLE = NFT_TABLE.encode() + b"\0"
_FAMILIES = (bytes((socket.AF_INET,)), bytes((socket.AF_INET6,)))
_NFT = frozenset({"nft", "qdisc"})  # rate limits of containers are policed by nft rules
_IPTABLES = TABLE.encode() + b"\0"
_ADMISSION = frozenset({"admission"})


class Watched(Protocol):
    """Processes of ours, whose end is news."""

    def fileno(self) -> int:
        """Return a descriptor that is readable when one has ended."""
        ...

    def drain(self) -> frozenset[str]:
        """Take in what has ended; return the kinds to read again."""
        ...


class NetlinkEvents:
    """Listens in the network namespace of the thread that makes it.

    ``known`` is the writer's, ``own_ports`` are the ports of its sockets, ``watched`` are
    processes of ours. :meth:`wait` is for one thread; :meth:`close` may be called from any.
    """

    def __init__(
        self, known: Known, own_ports: Iterable[int], watched: Iterable[Watched] = ()
    ) -> None:
        self._closed = False
        self._closing, self._in_use = threading.Lock(), threading.Lock()
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._queries = Netlink()
        self._news = News(known, Lookup(self._queries))
        self._rt = open_socket(groups=_GROUPS)
        # Its port is bound and its groups are joined: from here on nothing is missed, and what
        # came before the filter was there is judged like the rest.
        sieve.attach(self._rt, own_ports)
        self._nft = _nftables()
        self._watched = tuple(watched)
        self._poll = select.poll()
        for one in (self._rt, self._nft, *self._watched):
            if one is not None:
                self._poll.register(one, select.POLLIN)
        self._poll.register(self._wake, select.POLLIN)

    def wait(self, timeout_s: float | None) -> frozenset[str]:
        """Block until another hand changed something; return the kinds to read again.

        Empty when ``timeout_s`` passed or :meth:`close` was called.
        """
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        with self._in_use:
            while not self._closed:
                left_ms = None
                if deadline is not None:
                    left_ms = max(0, math.ceil((deadline - time.monotonic()) * 1000))
                ready = {fd for fd, _ in self._poll.poll(left_ms)}
                kinds = self._drain(ready)
                if kinds or not ready:
                    return kinds
        return NOTHING

    def close(self) -> None:
        """End; wakes a blocked :meth:`wait`; idempotent."""
        with self._closing:
            if self._closed:
                return
            self._closed = True
        os.eventfd_write(self._wake, 1)
        with self._in_use:  # the waiter has left: nobody polls what is closed here
            self._queries.close()
            self._rt.close()
            if self._nft is not None:
                self._nft.close()
            os.close(self._wake)

    def _drain(self, ready: Container[int]) -> frozenset[str]:
        """Take in all that is queued."""
        kinds = NOTHING
        if self._closed:
            return kinds
        if self._rt.fileno() in ready:
            for data in _queued(self._rt):
                if kinds == EVERYTHING:
                    continue
                kinds |= self._judge(data)
        if self._nft is not None and self._nft.fileno() in ready:
            for data in _queued(self._nft):
                kinds |= _judge_nft(data)
        for one in self._watched:
            if one.fileno() in ready:
                kinds |= one.drain()
        return kinds

    def _judge(self, data: bytes | None) -> frozenset[str]:
        if data is None:
            return EVERYTHING
        kinds = NOTHING
        try:
            for kind, _, _, payload in split(data):
                kinds |= self._news.kinds(kind, payload)
        except NetloomError:
            return EVERYTHING  # what cannot be judged has to be looked at
        return kinds


def _judge_nft(data: bytes | None) -> frozenset[str]:
    """Judge a datagram of nftables; what was lost may have told of all that is read from there."""
    if data is None:
        return _NFT | _ADMISSION
    kinds = _NFT if _TABLE in data else NOTHING
    for _, _, _, payload in split(data) if _IPTABLES in data else ():
        # The name is that of a chain's type, too: our own table is of another family, though.
        if payload[:1] in _FAMILIES and _IPTABLES in payload:
            return kinds | _ADMISSION
    return kinds


def _queued(sock: socket.socket) -> Iterator[bytes | None]:
    """Yield what waits in the socket; None where notifications were lost."""
    for _ in range(_MOST_AT_ONCE):
        try:
            yield sock.recv(_DATAGRAM_BYTES, socket.MSG_DONTWAIT)
        except OSError as error:
            if error.errno == errno.EAGAIN:
                return
            if error.errno != errno.ENOBUFS:
                raise
            yield None


def _nftables() -> socket.socket | None:
    """Listen to nftables; None on a kernel without it, where nothing can be changed either."""
    try:
        return open_socket(_NETLINK_NETFILTER, [_NFNLGRP_NFTABLES])
    except OSError as error:
        if error.errno in (errno.EPROTONOSUPPORT, errno.EINVAL, errno.EPERM):
            return None
        raise
