"""A host of flannel's network among thousands: foreign leases in a real etcd, as flannel has them.

Two namespaces joined by a veth pair: in one the host that is measured, in the other etcd. Each
foreign lease has an etcd lease of its own, as every daemon asks for its own.
"""

from __future__ import annotations

import ipaddress
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from netloom.core.backends.vxlan import tunnel_mac
from netloom.core.definition import parse
from netloom.kernel import namespaces
from netloom.lab.etcd import Member
from netloom.lab.waiting import wait_until
from netloom.model.datastore import Delete, Put, Store, Transaction
from netloom.model.errors import Unavailable
from netloom.model.host import Block, Host
from netloom.model.keys import ROOT, block_key, host_key, network_key
from netloom.store.etcd.store import EtcdStore
from netloom.store.etcd.url import Endpoint
from netloom.store.flannel.layout import DEFAULT_PREFIX, DEFAULT_TTL_S
from netloom.store.flannel.lease import Lease, render_key

_BATCH = 100  # etcd takes 128 operations at once
NETWORK = "default"
_POOL = ipaddress.IPv4Network("10.0.0.0/8")
_UNDERLAY = ipaddress.IPv4Network("172.16.0.0/12")
#: What the host and etcd have of the underlay; peers come after them.
_OWN, _ETCD = (_UNDERLAY.network_address + number for number in (1, 2))
_CARD = "ens33"
_ROOT = f"{DEFAULT_PREFIX}/"
_CONFIG = {"Network": str(_POOL), "SubnetLen": 24, "Backend": {"Type": "vxlan"}}
_START_S = 30.0


def block(number: int) -> ipaddress.IPv4Network:
    """Return the block of the foreign host ``number``; flannel chooses among the first hundred."""
    return ipaddress.IPv4Network((_POOL.network_address + (number + 256) * 256, 24))


def lease(number: int) -> tuple[str, bytes]:
    """Return key and value of a foreign host's lease, as flannel's daemon writes them."""
    address = _UNDERLAY.network_address + 256 + number
    mac = tunnel_mac(NETWORK, f"host-{number:05d}")
    value = Lease(address, None, "vxlan", {"VNI": 1, "VtepMAC": mac}).render()
    return f"{_ROOT}subnets/{render_key((block(number),))}", value


def records(number: int) -> list[Put]:
    """Return the same foreign host in our own layout."""
    name = f"host-{number:05d}"
    address = _UNDERLAY.network_address + 256 + number
    host = Host(name, name, address, macs={NETWORK: tunnel_mac(NETWORK, name)})
    held = Block(NETWORK, block(number), name, confirmed=True)
    return [
        Put(host_key(host.id), json.dumps(host.render()).encode()),
        Put(block_key(NETWORK, held.cidr), json.dumps(held.render()).encode()),
    ]


@dataclass(slots=True)
class Leases:
    """The two namespaces, etcd in one of them, and the keys of ``size`` foreign hosts in it."""

    folder: Path
    netns: str
    far: str
    size: int
    store: Store
    _crowd: frozenset[str] = field(default_factory=frozenset)

    @property
    def endpoint(self) -> str:
        """Where etcd is, for the host."""
        return f"{_ETCD}:2379"

    @property
    def log(self) -> Path:
        """What the measured programs say."""
        return self.folder / "log"

    def fill(self) -> None:
        """Write configuration, leases and, beside them, the same in our own layout."""
        definition = parse(
            {
                "name": NETWORK,
                "preset": "flannel",
                "pools": [{"cidr": str(_POOL), "blockSize": 24}],
            }
        )
        puts = [
            Put(f"{_ROOT}config", json.dumps(_CONFIG).encode()),
            Put(network_key(NETWORK), json.dumps(definition.render()).encode()),
        ]
        for number in range(self.size):
            puts += [self.put(number), *records(number)]
        self._commit(puts)
        self._crowd = frozenset(self._keys())

    def put(self, number: int) -> Put:
        """Return the operation that makes the foreign host ``number`` join, with a fresh lease."""
        key, value = lease(number)
        return Put(key, value, self.store.grant(DEFAULT_TTL_S))

    def clean(self) -> None:
        """Take away what a measured host left in etcd and in its namespace: start cold again."""
        self._commit([Delete(key) for key in self._keys() if key not in self._crowd])
        _ip(self.far, "link del port")  # the namespace's own end would take it along too late
        namespaces.delete(self.netns)
        _join(self.netns, self.far)
        shutil.rmtree(self.folder / "state", ignore_errors=True)
        (self.folder / "subnet.env").unlink(missing_ok=True)

    def flannels(self, program: str) -> subprocess.Popen[bytes]:
        """Start a program that takes flannel's flags; the caller ends it."""
        flags = [f"-etcd-endpoints=http://{self.endpoint}", f"-iface={_CARD}"]
        return self._start([program, *flags, f"-subnet-file={self.folder / 'subnet.env'}"])

    def own(self) -> subprocess.Popen[bytes]:
        """Start our agent on its own layout; the caller ends it."""
        command = [sys.executable, "-m", "netloom", "agent", "--log-level", "warning"]
        return self._start([*command, "--datastore", f"etcd://{self.endpoint}"])

    def _start(self, command: Sequence[str]) -> subprocess.Popen[bytes]:
        state = self.folder / "state"
        # as installed: a file of ours that was changed just now is compiled once, not at each start
        around = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
        environment: Mapping[str, str] = {
            **around,
            "NETLOOM_STATE_DIR": str(state),
            "NETLOOM_RUN_DIR": str(state / "run"),
            "NETLOOM_SOCKET": str(state / "run" / "agent.sock"),
            "NETLOOM_HOST_ID": "bench",
            "NETLOOM_HOST_NAME": "bench",
        }
        with self.log.open("ab") as log:
            enter = ["nsenter", f"--net={namespaces.path(self.netns)}"]
            return subprocess.Popen([*enter, *command], env=environment, stderr=log, stdout=log)

    def _keys(self) -> Iterable[str]:
        for prefix in (_ROOT, ROOT, _ROOT[:-1] + "-netloom/"):
            yield from (entry.key for entry in self.store.list(prefix).entries)

    def _commit(self, operations: Sequence[Put | Delete]) -> None:
        for start in range(0, len(operations), _BATCH):
            self.store.commit(Transaction(operations[start : start + _BATCH]))


@contextmanager
def leases(size: int) -> Iterator[Leases]:
    """Make the namespaces, start etcd and fill it; take all away at the end."""
    folder = Path(tempfile.mkdtemp(prefix="netloom-bench-"))
    netns, far = (f"nl-bench{os.getpid()}{end}" for end in ("", "-etcd"))
    namespaces.create(far)
    etcd: subprocess.Popen[bytes] | None = None
    try:
        etcd = _etcd(far, folder)
        _join(netns, far)
        store = wait_until(lambda: _open(far), deadline_s=_START_S, what="etcd")
        assert store is not None
        with closing(store):
            made = Leases(folder, netns, far, size, store)
            made.fill()
            yield made
    finally:
        if etcd:
            etcd.kill()
            etcd.wait()
        for name in (netns, far):
            namespaces.delete(name)
        shutil.rmtree(folder, ignore_errors=True)


def _join(netns: str, far: str) -> None:
    """Make the measured host's namespace, with a card on etcd's bridge."""
    namespaces.create(netns)
    _ip(
        netns,
        "link set lo up",
        f"link add {_CARD} type veth peer name port netns {far}",
        f"addr add {_OWN}/{_UNDERLAY.prefixlen} dev {_CARD}",
        f"link set {_CARD} up",
    )
    _ip(far, "link set port master bridge up")


def _ip(netns: str, *lines: str) -> None:
    for line in lines:
        subprocess.run(["ip", "-n", netns, *line.split()], check=True)


def _etcd(far: str, folder: Path) -> subprocess.Popen[bytes]:
    _ip(
        far,
        "link set lo up",
        "link add bridge type bridge",
        f"addr add {_ETCD}/{_UNDERLAY.prefixlen} dev bridge",
        "link set bridge up",
    )
    member = Member("etcd1", str(_ETCD), folder / "etcd")
    with (folder / "etcd.log").open("wb") as log:
        enter = ["nsenter", f"--net={namespaces.path(far)}"]
        return subprocess.Popen([*enter, *member.command([member])], stderr=log, stdout=log)


def _open(far: str) -> Store | None:
    def dial(endpoint: Endpoint, timeout_s: float) -> socket.socket:
        address = (endpoint.host, endpoint.port)
        connection = namespaces.in_namespace(
            namespaces.path(far), lambda: socket.create_connection(address, timeout_s)
        )
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection

    try:
        return EtcdStore(f"etcd://{_ETCD}:2379", dial=dial)
    except Unavailable:
        return None
