"""A real etcd cluster in namespaces of the test's own: started, hurt, cut off, brought back.

Each member has a namespace; so has the switch that joins them, and so have the clients, which is
where the test itself goes (:func:`inside`) while it uses the cluster.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tests.conftest import Netns, _remove

from netloom.kernel import namespaces
from netloom.lab.etcd import CLIENT_PORT, Member, datastore_url, initial_cluster, plan_members
from netloom.model.errors import Unavailable
from netloom.store.etcd.gateway import Gateway
from netloom.store.etcd.url import parse_url

PATIENCE_S = 90.0
_NET = "10.99.0."
_CTL = ("--dial-timeout=60s", "--command-timeout=60s")
_CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


@contextlib.contextmanager
def inside(netns: Netns) -> Iterator[None]:
    """Take this thread, and all threads and processes it starts, into a namespace and back."""
    before = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    there = os.open(netns.path, os.O_RDONLY)
    try:
        assert _libc.setns(there, _CLONE_NEWNET) == 0, os.strerror(ctypes.get_errno())
        try:
            yield
        finally:
            assert _libc.setns(before, _CLONE_NEWNET) == 0, os.strerror(ctypes.get_errno())
    finally:
        os.close(there)
        os.close(before)


class EtcdCluster:
    """``size`` members. ``tls`` are etcd's flags for the clients' side."""

    def __init__(
        self, run_id: str, name: str, size: int, directory: Path, tls: Sequence[str] = ()
    ) -> None:
        self.directory = directory
        self.members = plan_members([f"{_NET}{10 + n}" for n in range(1, size + 1)], directory)
        self.tls = tls
        self._prefix = f"nl-t{run_id}-{name}"
        self._places: dict[str, Netns] = {}
        self._processes: dict[str, subprocess.Popen[str]] = {}
        self._switch = self._make("sw")
        self._switch.sh("ip link add lan type bridge")
        self._switch.sh("ip link set lan up")
        self.client = self._join("client", f"{_NET}100")
        for member in self.members:
            self._join(member.name, member.address)

    @property
    def url(self) -> str:
        """The URL of all members, in the order of their names."""
        return datastore_url(self.members)

    def place(self, member: Member) -> Netns:
        """Return a member's namespace."""
        return self._places[member.name]

    def start(self, *members: Member, extra: Sequence[str] = ()) -> None:
        """Start members, all by default; :meth:`settled` waits until they serve."""
        for member in members or self.members:
            command = [*member.command(self.members, tls=self.tls), *extra]
            with open(self.directory / f"{member.name}.log", "ab") as log:
                self._processes[member.name] = self.place(member).popen(
                    *command, stdout=log, stderr=log, stdin=subprocess.DEVNULL
                )

    def settled(self, url: str = "") -> None:
        """Wait until every running member answers a question that needs a leader."""
        for member in self.members:
            if member.name in self._processes:
                self._await(member, url)

    def listening(self, port: int = CLIENT_PORT) -> None:
        """Wait until the first member accepts connections, whatever it then says."""
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError):
                socket.create_connection((self.members[0].address, port), 1).close()
                return
        raise AssertionError(f"nobody listens on port {port}")

    def kill(self, *members: Member) -> None:
        """End members as a power cut would; all by default."""
        for member in members or self.members:
            process = self._processes.pop(member.name, None)
            if process:
                process.kill()
                process.wait()

    def hang(self, member: Member) -> None:
        """Stop a member without closing a connection; :meth:`resume` lets it go on."""
        self._processes[member.name].send_signal(signal.SIGSTOP)

    def resume(self, member: Member) -> None:
        self._processes[member.name].send_signal(signal.SIGCONT)

    def cut(self, *members: Member) -> None:
        """Make the network swallow all of a member's packets, without a word."""
        for member in members:
            self.place(member).run("nft", "-f", "-", input=_BLACK_HOLE)

    def mend(self, *members: Member) -> None:
        for member in members:
            self.place(member).sh("nft delete table inet hole")

    def isolate(self, member: Member) -> None:
        """Cut a member off from the others, not from its clients."""
        self.place(member).run("nft", "-f", "-", input=_ALONE)

    def heal(self) -> None:
        """Make the cluster whole: no holes, every member runs and serves."""
        for member in self.members:
            self.place(member).sh("nft flush ruleset")
            if member.name in self._processes:
                self.resume(member)
            else:
                self.start(member)
        self.settled()

    def leader(self) -> Member:
        """Return the member that leads now."""
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            for member in self.members:
                with contextlib.suppress(Unavailable):
                    status = self.call("/v3/maintenance/status", {}, [member])
                    if status.get("leader") == status["header"]["member_id"]:
                        return member
        raise AssertionError("no leader was elected")

    def call(self, path: str, request: dict[str, Any], members: Sequence[Member] = ()) -> Any:
        """Ask the cluster, as an operator would with curl, until it answers.

        The thread must be inside.
        """
        deadline = time.monotonic() + PATIENCE_S
        gateway = Gateway(parse_url(datastore_url(members or self.members)))
        try:
            while True:
                try:
                    return gateway.call(path, request).data
                except Unavailable:
                    if time.monotonic() > deadline:
                        raise
        finally:
            gateway.close()

    def ctl(self, *arguments: str) -> str:
        """Run etcdctl at the clients' place, until etcd has done what it is told."""
        endpoints = ",".join(member.endpoint for member in self.members)
        words = ["env", "ETCDCTL_API=3", "etcdctl", *_CTL, "--endpoints", endpoints, *arguments]
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                return self.client.run(*words)
            except AssertionError as error:
                if "already" in str(error):
                    return ""  # an attempt of unknown outcome was done
                if "timed out" not in str(error) or time.monotonic() > deadline:
                    raise

    def wipe(self) -> None:
        """Delete every key and lease."""
        for lease in self.call("/v3/lease/leases", {}).get("leases", ()):
            self.call("/v3/lease/revoke", {"ID": lease["ID"]})
        self.call("/v3/kv/deleterange", {"key": "AA==", "range_end": "AA=="})

    def compact(self, members: Sequence[Member] = ()) -> None:
        """Forget the history that there is, asking ``members``."""
        revision = self.call("/v3/kv/range", {"key": "AA=="}, members)["header"]["revision"]
        self.call("/v3/kv/compaction", {"revision": revision}, members)

    def save(self, path: Path) -> None:
        """Take a snapshot of the first member."""
        endpoint = self.members[0].endpoint
        self.client.run("env", "ETCDCTL_API=3", "etcdctl", *_CTL, "--endpoints", endpoint,
                        "snapshot", "save", str(path))  # fmt: skip

    def restore(self, path: Path, token: str = "netloom") -> None:
        """Put a snapshot in the place of every (stopped) member's data."""
        for member in self.members:
            shutil.rmtree(member.data)
            self.client.run(
                "env", "ETCDCTL_API=3", "etcdctl", "snapshot", "restore", str(path),
                "--name", member.name, "--data-dir", str(member.data),
                "--initial-cluster", initial_cluster(self.members),
                "--initial-advertise-peer-urls", member.peer_url,
                "--initial-cluster-token", token,
            )  # fmt: skip

    def close(self) -> None:
        """End all members and remove all namespaces."""
        self.kill()
        for place in reversed(self._places.values()):
            _remove(place.name)

    def _await(self, member: Member, url: str) -> None:
        wanted = parse_url(url or datastore_url([member]))
        deadline = time.monotonic() + PATIENCE_S
        why = "not asked"
        while time.monotonic() < deadline and self._processes[member.name].poll() is None:
            gateway = Gateway(wanted)
            try:
                gateway.call("/v3/kv/range", {"key": "AA=="})
                return
            except Unavailable as error:
                why = str(error)
            finally:
                gateway.close()
        log = (self.directory / f"{member.name}.log").read_text()[-2000:]
        raise AssertionError(f"{member.name} does not serve: {why}\n{log}")

    def _make(self, name: str) -> Netns:
        place = Netns(f"{self._prefix}-{name}")
        namespaces.create(place.name)
        self._places[name] = place
        place.sh("ip link set lo up")
        return place

    def _join(self, name: str, address: str) -> Netns:
        place = self._make(name)
        place.run("ip", "link", "add", "eth0", "type", "veth", "peer", "name", name[-12:], "netns",
                  self._switch.path)  # fmt: skip
        place.sh(f"ip address add {address}/24 dev eth0")
        place.sh("ip link set eth0 up")
        self._switch.sh(f"ip link set {name[-12:]} master lan up")
        return place


_BLACK_HOLE = """
table inet hole {
  chain in { type filter hook input priority -300; iifname "eth0" drop; }
  chain out { type filter hook output priority -300; oifname "eth0" drop; }
}
"""

_ALONE = """
table inet hole {
  chain in { type filter hook input priority -300; tcp dport 2380 drop; tcp sport 2380 drop; }
  chain out { type filter hook output priority -300; tcp dport 2380 drop; tcp sport 2380 drop; }
}
"""


@contextlib.contextmanager
def cluster(
    run_id: str, name: str, size: int, directory: Path, tls: Sequence[str] = ()
) -> Iterator[EtcdCluster]:
    """Run a cluster, with this thread at its clients' place."""
    made = EtcdCluster(run_id, name, size, directory, tls)
    try:
        with inside(made.client):
            made.start()
            if not tls:
                made.settled()
            yield made
    finally:
        made.close()
