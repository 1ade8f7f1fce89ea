"""The proxies of a host and their peers as kernel objects: read, applied, and watched.

A proxy is ours when it listens in our run directory, so all of them are read and a restarted agent
finds those of the one before. The connection to each stays open: the kernel ends it when the proxy
ends, and that is the notification.
"""

from __future__ import annotations

import select
import socket
import subprocess
import threading
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from netloom.kernel.netlink import Netlink
from netloom.kernel.readiness import await_ready
from netloom.kernel.udp import build, process
from netloom.kernel.udp.control import PATIENCE_S, Control
from netloom.model.addr import IPNetwork
from netloom.model.errors import KernelRejected, NetloomError, Unavailable
from netloom.model.kernel import KernelObject, UdpPeer, UdpProxy
from netloom.reconcile.contracts import Change, Outcome, Verb

UDP_KINDS = frozenset({"udp-proxy", "udp-peer"})
_Table = dict[IPNetwork, UdpPeer]


class UdpProxies:
    """The proxies that listen in ``directory``; None where there can be none.

    ``command`` starts one; None is what is installed. One thread reads and applies; :meth:`drain`
    is for the thread that polls :meth:`fileno`.
    """

    def __init__(
        self,
        directory: Path | None,
        command: Sequence[str] | None = None,
        patience_s: float = PATIENCE_S,
    ) -> None:
        self._directory = directory
        self.command = tuple(command or build.command())
        self._patience_s = patience_s
        self._controls: dict[str, Control] = {}
        self._tables: dict[str, _Table] = {}
        self._generation = 0
        #: The devices whose peers may leave packets for this host's kernel to unpack.
        self.unpacking: frozenset[str] = frozenset()
        self._children: list[subprocess.Popen[bytes]] = []
        self._stuck: dict[str, int] = {}
        self._guard = threading.Lock()
        self._ends = select.epoll()

    def fileno(self) -> int:
        """Return a descriptor that is readable when a proxy has ended."""
        return self._ends.fileno()

    def drain(self) -> frozenset[str]:
        """Take in that proxies have ended; return the kinds to read again."""
        with self._guard:
            if self._ends.closed:
                return frozenset()
            ended = [file for file, _ in self._ends.poll(0)]
            for file in ended:
                self._ends.unregister(file)
        return UDP_KINDS if ended else frozenset()

    def close(self) -> None:
        """Close the connections; the proxies run on; idempotent."""
        for device in list(self._controls):
            self._forget(device)
        with self._guard:
            self._ends.close()

    def read(self, kinds: Iterable[str]) -> list[KernelObject]:
        """Return the proxies that listen, and their peers."""
        wanted = UDP_KINDS.intersection(kinds)
        found: list[KernelObject] = []
        if not wanted or self._directory is None or not self._directory.is_dir():
            return found
        self._children = [child for child in self._children if child.poll() is None]
        for path in sorted(self._directory.glob("*.sock")):
            try:
                proxy, table = self._look(path.stem)
            except NetloomError:
                continue  # gone, or about to be ended: it is not there
            if "udp-proxy" in wanted:
                found.append(proxy)
            if "udp-peer" in wanted:
                found += table.values()
        return found

    def _look(self, device: str) -> tuple[UdpProxy, _Table]:
        try:
            control = self._connected(device)
            status = control.status()
            self._tables[device] = {peer.block: peer for peer in control.peers()}
        except NetloomError:
            control_of = self._controls.get(device)
            if control_of is not None:
                self._stuck[device] = control_of.pid
            self._forget(device)
            raise
        self._stuck.pop(device, None)
        self._generation = max(self._generation, status.generation)
        self._note_unpacking(device, status.unpacks)
        proxy = UdpProxy(device, status.local, status.port, status.version, status.shortcut)
        return proxy, self._tables[device]

    def _connected(self, device: str) -> Control:
        control = self._controls.get(device)
        if control is None:
            assert self._directory is not None
            control = self._controls[device] = Control(self._directory, device, self._patience_s)
            with self._guard:
                self._ends.register(control, select.EPOLLHUP | select.EPOLLRDHUP)
        return control

    def _meet(self, device: str) -> None:
        """Connect to a proxy that has just started, and hear what it can do.

        Its device has its carrier from it: what is sent before the kernel has switched it on is
        lost.
        """
        with suppress(OSError), Netlink() as netlink:  # no such device: it ends by itself
            await_ready(netlink, [socket.if_nametoindex(device)])
        self._note_unpacking(device, self._connected(device).status().unpacks)

    def _note_unpacking(self, device: str, unpacks: bool) -> None:
        others = self.unpacking - {device}
        self.unpacking = others | {device} if unpacks else others

    def _forget(self, device: str) -> None:
        control = self._controls.pop(device, None)
        if control is not None:
            with self._guard, suppress(OSError, ValueError):
                self._ends.unregister(control)
            control.close()

    def apply(self, changes: Sequence[Change]) -> list[Outcome]:
        """Try every change in order; the peers of one proxy are told it together."""
        verdicts: list[NetloomError | None] = [None] * len(changes)
        touched: dict[str, list[int]] = {}
        for place, change in enumerate(changes):
            obj = change.obj
            if isinstance(obj, UdpPeer):
                touched.setdefault(obj.link, []).append(place)
            elif isinstance(obj, UdpProxy):
                verdicts[place] = self._try(change.verb, obj)
                if change.verb is Verb.ADD and verdicts[place] is None:
                    touched.setdefault(obj.link, [])  # it waits for a table, be it an empty one
        for device, places in touched.items():
            error = self._tell(device, [changes[place] for place in places])
            for place in places:
                verdicts[place] = error
        return list(map(Outcome, changes, verdicts))

    def _try(self, verb: Verb, proxy: UdpProxy) -> NetloomError | None:
        try:
            if verb is Verb.DELETE:
                self._end(proxy.link)
            elif verb is Verb.ADD:
                self._start(proxy)
            else:
                self._take_over(proxy)
        except NetloomError as error:
            return error
        return None

    def _start(self, proxy: UdpProxy) -> None:
        if self._directory is None:
            raise Unavailable("there is no run directory for the UDP proxy to listen in")
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._forget(proxy.link)
        self._tables[proxy.link] = {}
        if proxy.link in self._stuck:
            process.end(self._stuck.pop(proxy.link))
        try:
            child = process.start(proxy, self._directory, self.command)
        except NetloomError:
            holders = list(process.holders(proxy.link))
            if not holders:
                raise
            for pid in holders:
                process.end(pid)
            child = process.start(proxy, self._directory, self.command)
        self._children.append(child)
        self._meet(proxy.link)

    def _take_over(self, proxy: UdpProxy) -> None:
        """Let a new process take device, socket and peers over; start anew if it cannot."""
        assert self._directory is not None
        table = self._tables.get(proxy.link, {})
        self._forget(proxy.link)
        try:
            child = process.start(proxy, self._directory, self.command, take_over=True)
            self._children.append(child)
            self._meet(proxy.link)
        except KernelRejected:
            self._start(proxy)
            self._set(proxy.link, table)

    def _end(self, device: str) -> None:
        control = self._controls.get(device)
        pid = control.pid if control else 0
        self._forget(device)
        self._tables.pop(device, None)
        if pid:
            process.end(pid)

    def _tell(self, device: str, changes: Sequence[Change]) -> NetloomError | None:
        table = dict(self._tables.get(device, {}))
        for change in changes:
            peer = change.obj
            assert isinstance(peer, UdpPeer)
            if change.verb is Verb.DELETE:
                table.pop(peer.block, None)
            else:
                table[peer.block] = peer
        try:
            self._set(device, table)
        except NetloomError as error:
            only_less = all(change.verb is Verb.DELETE for change in changes)
            return None if only_less and isinstance(error, Unavailable) else error
        return None

    def _set(self, device: str, table: _Table) -> None:
        self._generation += 1
        if self._directory is None:
            raise Unavailable(f"the UDP proxy of {device} does not run")
        self._connected(device).replace_peers(table.values(), self._generation)
        self._tables[device] = table
