"""Labs of many hosts that route by BGP, and what figures look at in them."""

from __future__ import annotations

import ipaddress
import json
import os
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.notices import Notices
from netloom.kernel.bird.control import Control, listener
from netloom.kernel.bird.sessions import sessions
from netloom.lab import agents
from netloom.lab.documents import default_document
from netloom.lab.host import LabHost
from netloom.lab.lab import Lab
from netloom.lab.processes import myself
from netloom.lab.waiting import wait_until
from netloom.model.addr import IPNetwork
from netloom.model.datastore import Put, Transaction
from netloom.model.errors import Unavailable
from netloom.model.host import Block
from netloom.model.keys import block_key

NETWORK = "calnet1"
BLOCK_BITS = 26
PATIENCE_S = 120.0
_POOL = ipaddress.ip_network("10.128.0.0/12")
_MEMORY = ("Rss", "Pss")


@contextmanager
def routers(hosts: int, etcd_members: int = 0) -> Iterator[Lab]:
    """Lay out hosts of one network with backend bgp; no agent runs yet, no host has a block."""
    network = {
        "name": NETWORK,
        "pools": [{"cidr": str(_POOL), "blockSize": BLOCK_BITS}],
        "addressing": "on-demand",
        "attachment": "routed",
        "backend": "bgp",
    }
    name = f"bench{os.getpid()}"
    options = {"etcd_members": etcd_members, "run_agents": False, "owner": myself()}
    with Lab.up(default_document(hosts, network), name=name, **options) as lab:
        yield lab


def start_all(lab: Lab) -> None:
    """Start all agents at once; return as soon as the processes are there."""
    for host in lab.hosts:
        agents.start(host.home)


def block(number: int) -> IPNetwork:
    """Return the pool's block ``number``, from its end: agents claim from its beginning."""
    size = 1 << (32 - BLOCK_BITS)
    return ipaddress.ip_network(
        (int(_POOL.broadcast_address) + 1 - (number + 1) * size, BLOCK_BITS)
    )


def put(cidr: IPNetwork, host: LabHost) -> Put:
    """Return the operation that gives ``cidr`` to ``host``."""
    held = Block(NETWORK, cidr, host.name, confirmed=True)
    return Put(block_key(NETWORK, cidr), json.dumps(held.render()).encode())


def give(lab: Lab, blocks_each: int) -> None:
    """Give each host so many blocks, in one transaction per host."""
    with closing(lab.store()) as store:
        for at, host in enumerate(lab.hosts):
            numbers = range(at * blocks_each, (at + 1) * blocks_each)
            store.commit(Transaction([put(block(number), host) for number in numbers]))


def reflect(lab: Lab, reflectors: int) -> None:
    """Make the first hosts route reflectors of all, in the place of the mesh; 0 leaves it."""
    if not reflectors:
        return
    labels = {"route-reflector": "true"}
    clusters = {"bgp": {"routeReflectorClusterID": "244.0.0.1"}}
    peers = {"nodeSelector": "all()", "peerSelector": "has(route-reflector)"}
    resources = [
        ("BGPConfiguration", {"name": "default"}, {"nodeToNodeMeshEnabled": False}),
        ("BGPPeer", {"name": "reflectors"}, peers),
        *(
            ("Node", {"name": host.name, "labels": labels}, clusters)
            for host in lab.hosts[:reflectors]
        ),
    ]
    for kind, metadata, spec in resources:
        head = {"apiVersion": "projectcalico.org/v3", "kind": kind}
        text = json.dumps({**head, "metadata": metadata, "spec": spec})
        lab.hosts[0].exec(["sh", "-c", f"netloom apply -f - <<'END'\n{text}\nEND"])


def bird_routes(host: LabHost) -> int:
    """Count the routes that BIRD has written, own blackholes included."""
    argv = ["ip", "-n", host.namespace, "route", "show", "proto", "bird"]
    return subprocess.run(argv, capture_output=True, check=True).stdout.count(b"\n")


def wait_routes(lab: Lab, wanted: int) -> None:
    """Return when every host has ``wanted`` of BIRD's routes. Raises Unavailable."""
    for host in lab.hosts:
        wait_until(
            lambda: bird_routes(host) == wanted,  # noqa: B023 - called before the next host
            deadline_s=PATIENCE_S,
            what=f"{wanted} routes of BIRD on {host.name}",
            pause_s=0.05,
        )


def wait_sessions(lab: Lab) -> None:
    """Return when every host's BGP sessions with all others are up. Raises Unavailable."""
    for host in lab.hosts:
        wait_until(
            lambda: _sessions_up(host) == len(lab.hosts) - 1,  # noqa: B023 - as above
            deadline_s=PATIENCE_S,
            what=f"the BGP sessions of {host.name}",
            pause_s=0.05,
        )


def _sessions_up(host: LabHost) -> int:
    try:
        with Control(bird_directory(host)) as control:
            return sum(session.up for session in sessions(control))
    except Unavailable:
        return 0


@contextmanager
def listening(hosts: Iterable[LabHost]) -> Iterator[list[Notices]]:
    """Listen to the route notices of each host's kernel."""
    with ExitStack() as stack:
        yield [stack.enter_context(closing(Notices(host.namespace))) for host in hosts]


def last(kernels: Sequence[Notices], kind: int, cidr: IPNetwork) -> float:
    """Return when the last of ``kernels`` had its notice about ``cidr``."""
    return max(notices.wait(kind, cidr.network_address.packed) for notices in kernels)


@dataclass(frozen=True, slots=True)
class Memory:
    """What one process holds, in MiB: resident, and with shared pages divided among sharers."""

    resident: float
    shared: float


def memory(pid: int) -> Memory:
    """Read a process's memory."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    kib = [int(text.split(f"\n{name}:")[1].split()[0]) for name in _MEMORY]
    return Memory(*(each / 1024 for each in kib))


def agent_memory(host: LabHost) -> Memory:
    """Read the memory of the host's agent."""
    process = host.agent
    assert process is not None, f"{host.name} has no agent"
    return memory(process.pid)


def bird_memory(host: LabHost) -> Memory:
    """Read the memory of the host's BIRD."""
    return memory(listener(bird_directory(host)))


def bird_directory(host: LabHost) -> Path:
    """Return where the host's BIRD runs."""
    return host.home.directory / "run" / "bird"
