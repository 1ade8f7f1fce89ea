"""etcd members as a lab's store: started in namespaces of their own on the lab's first segment.

Data that a lab throws away is never waited for on the disk (``--unsafe-no-fsync``); heartbeats come
fast, so that a new leader is elected within a second.
"""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from netloom.kernel import namespaces
from netloom.lab import processes, record, wiring
from netloom.lab.names import port_name
from netloom.lab.processes import MARK
from netloom.lab.topology import Topology
from netloom.lab.waiting import wait_until
from netloom.model.addr import IPNetwork
from netloom.model.datastore import Store
from netloom.model.errors import InvalidConfig, Unavailable
from netloom.store.etcd.store import EtcdStore
from netloom.store.etcd.url import Endpoint
from netloom.store.flannel.adapter import FlannelStore
from netloom.store.flannel.url import take_format

CLIENT_PORT, PEER_PORT = 2379, 2380
HEARTBEAT_MS, ELECTION_MS = 50, 500
PATIENCE_S = 60.0
_CARD = "eth0"
_FIRST_HOST = 240  # the members' addresses are the segment's .241 and so on


@dataclass(frozen=True, slots=True)
class Member:
    """One etcd member: its name, the address it listens on, the directory of its data."""

    name: str
    address: str
    data: Path

    @property
    def endpoint(self) -> str:
        """Return where clients reach it."""
        host = f"[{self.address}]" if ":" in self.address else self.address
        return f"{host}:{CLIENT_PORT}"

    @property
    def peer_url(self) -> str:
        """Return where the other members reach it."""
        return f"http://{self.endpoint.removesuffix(str(CLIENT_PORT))}{PEER_PORT}"

    def command(self, members: Sequence[Member], *, tls: Sequence[str] = ()) -> list[str]:
        """Return the command that starts it as one of ``members``.

        ``tls`` are etcd's flags for its clients' side, whose presence makes that side speak TLS.
        """
        client = f"{'https' if tls else 'http'}://{self.endpoint}"
        return [
            "etcd",
            *("--name", self.name, "--data-dir", str(self.data), "--unsafe-no-fsync"),
            *("--listen-client-urls", client, "--advertise-client-urls", client),
            *("--listen-peer-urls", self.peer_url, "--initial-advertise-peer-urls", self.peer_url),
            *("--initial-cluster", initial_cluster(members), "--initial-cluster-token", "netloom"),
            *("--heartbeat-interval", str(HEARTBEAT_MS), "--election-timeout", str(ELECTION_MS)),
            *("--log-level", "warn", "--logger", "zap", "--log-outputs", "stderr"),
            *tls,
        ]


def plan_members(addresses: Sequence[str], directory: Path) -> tuple[Member, ...]:
    """Return a member ``etcd1``, ``etcd2``, … for each address, its data below ``directory``."""
    return tuple(
        Member(f"etcd{number}", address, directory / f"etcd{number}")
        for number, address in enumerate(addresses, 1)
    )


def initial_cluster(members: Sequence[Member]) -> str:
    """Return the value of ``--initial-cluster``, for etcd and for a restored snapshot."""
    return ",".join(f"{member.name}={member.peer_url}" for member in members)


def datastore_url(members: Sequence[Member], options: str = "") -> str:
    """Return the URL that agents are given; ``options`` as behind its question mark."""
    place = "etcd://" + ",".join(member.endpoint for member in members)
    return f"{place}?{options}" if options else place


def agents_url(lab: str) -> str:
    """Return the URL that the lab's agents are given."""
    return datastore_url(members(lab), record.read_json(_directory(lab) / "options.json") or "")


def build(lab: str, topology: Topology, size: int, options: str = "") -> None:
    """Give the lab ``size`` members and start them; return when they serve.

    ``options`` are those of the agents' URL, such as ``format=flannel``.
    Raises InvalidConfig when etcd is not installed or the segment has no room, Unavailable.
    """
    if not shutil.which("etcd"):
        raise InvalidConfig(
            "the command 'etcd' is not installed", hint="apt-get install etcd-server"
        )
    segment = topology.segments[0]
    subnet = segment.subnets[0]
    addresses = [_address(subnet, number) for number in range(1, size + 1)]
    directory = _directory(lab)
    directory.mkdir(mode=0o700)
    record.write_json(directory / "members.json", addresses)
    record.write_json(directory / "options.json", options)
    switch = wiring.namespace(lab, segment.name)
    for member in members(lab):
        netns = wiring.namespace(lab, member.name)
        wiring.make_namespace(netns)
        port = port_name(member.name, _CARD)
        lines = [
            f"link add {port} type veth peer name {_CARD} netns {netns}",
            f"link set {port} master {wiring.BRIDGE} addrgenmode none up",
        ]
        wiring.ip(switch, lines)
        nodad = " nodad" if subnet.version == 6 else ""
        lines = [
            f"address add {member.address}/{subnet.prefixlen} dev {_CARD}{nodad}",
            f"link set {_CARD} up",
        ]
        lines += [f"route add default via {via}" for via in segment.gateways]
        wiring.ip(netns, lines)
    start(lab)


def members(lab: str) -> tuple[Member, ...]:
    """Return the lab's members; none when its store is another."""
    directory = _directory(lab)
    return plan_members(record.read_json(directory / "members.json") or [], directory)


def start(lab: str, *names: str) -> None:
    """Start those of ``names`` (all by default) that do not run; wait until the cluster serves."""
    everyone = members(lab)
    for member in everyone:
        if (names and member.name not in names) or _running(lab, member):
            continue
        netns = namespaces.path(wiring.namespace(lab, member.name))
        argv = ["nsenter", f"--net={netns}", *member.command(everyone)]
        log = member.data.with_suffix(".log")
        processes.start_detached(argv, _environment(lab, member), log)
    wait_until(lambda: _serves(lab), deadline_s=PATIENCE_S, what="the lab's etcd to serve")


def kill(lab: str, *names: str) -> None:
    """End the members called ``names`` (all by default) as a power cut would."""
    for member in members(lab):
        if not names or member.name in names:
            processes.end(_running(lab, member))


def open_store(lab: str) -> Store:
    """Open the lab's store from outside: connections are made in the first member's namespace."""
    everyone = members(lab)
    inside = namespaces.path(wiring.namespace(lab, everyone[0].name))

    def dial(endpoint: Endpoint, timeout_s: float) -> socket.socket:
        address = (endpoint.host, endpoint.port)
        return namespaces.in_namespace(inside, lambda: socket.create_connection(address, timeout_s))

    place, form = take_format(agents_url(lab))
    store = EtcdStore(place, dial=dial)
    return FlannelStore(store, form) if form else store


def _directory(lab: str) -> Path:
    return record.directory(lab) / "etcd"


def _address(subnet: IPNetwork, number: int) -> str:
    address = subnet.network_address + _FIRST_HOST + number
    if address not in subnet:
        raise InvalidConfig(f"segment {subnet} has no room for etcd: {address} is outside of it")
    return str(address)


def _serves(lab: str) -> bool:
    try:
        open_store(lab).close()
    except Unavailable:
        return False
    return True


def _running(lab: str, member: Member) -> list[processes.Process]:
    mark = f"{MARK}={lab}/{member.name}".encode()
    return [process for process in processes.members(lab) if mark in _environ(process.pid)]


def _environ(pid: int) -> list[bytes]:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return []


def _environment(lab: str, member: Member) -> Mapping[str, str]:
    return {"PATH": os.environ.get("PATH", os.defpath), MARK: f"{lab}/{member.name}"}
