"""A host among thousands: a store filled with foreign hosts, and a namespace with an underlay."""

from __future__ import annotations

import ipaddress
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from netloom.core.backends.vxlan import tunnel_mac
from netloom.core.definition import parse
from netloom.kernel import namespaces
from netloom.model.datastore import Delete, Put, Transaction
from netloom.model.host import Block, Host
from netloom.model.keys import block_key, host_key, network_key
from netloom.store.sqlite import SqliteStore

_BATCH = 500
NETWORK = "default"
_POOL = ipaddress.ip_network("10.0.0.0/8")
_UNDERLAY = ipaddress.ip_network("172.16.0.0/12")


def peer(number: int) -> tuple[Host, Block]:
    """Return the foreign host ``number`` and its block."""
    name = f"host-{number:05d}"
    address = _UNDERLAY.network_address + 256 + number
    host = Host(name, name, address, macs={NETWORK: tunnel_mac(NETWORK, name)})
    first = _POOL.network_address + (number + 256) * 256
    return host, Block(NETWORK, ipaddress.ip_network((first, 24)), name, confirmed=True)


def puts(number: int) -> list[Put]:
    """Return the operations that make host ``number`` join."""
    host, block = peer(number)
    return [
        Put(host_key(host.id), json.dumps(host.render()).encode()),
        Put(block_key(NETWORK, block.cidr), json.dumps(block.render()).encode()),
    ]


def deletes(number: int) -> list[Delete]:
    """Return the operations that make host ``number`` leave."""
    return [Delete(put.key) for put in puts(number)]


@dataclass(slots=True)
class Crowd:
    """One real agent's place among ``size`` hosts that exist in the store only."""

    folder: Path
    netns: str
    size: int

    @property
    def store_path(self) -> str:
        """Where the cluster store is."""
        return str(self.folder / "cluster.db")

    def environment(self) -> dict[str, str]:
        """Return the environment of the agent and of verbs that talk to it."""
        state = self.folder / "state"
        return {
            **os.environ,
            "NETLOOM_STATE_DIR": str(state),
            "NETLOOM_RUN_DIR": str(state / "run"),
            "NETLOOM_SOCKET": str(state / "run" / "agent.sock"),
            "NETLOOM_DATASTORE": f"sqlite://{self.store_path}",
            "NETLOOM_HOST_ID": "bench",
            "NETLOOM_HOST_NAME": "bench",
        }

    def start_agent(self) -> subprocess.Popen[bytes]:
        """Start the agent in the namespace; the caller ends it."""
        command = [sys.executable, "-m", "netloom", "agent", "--log-level", "warning"]
        return subprocess.Popen(
            ["nsenter", f"--net={namespaces.path(self.netns)}", *command], env=self.environment()
        )


@contextmanager
def crowd(size: int) -> Iterator[Crowd]:
    """Make a fresh store of ``size`` hosts and a fresh namespace with an underlay card."""
    folder = Path(tempfile.mkdtemp(prefix="netloom-bench-"))
    netns = f"nl-bench{os.getpid()}"
    namespaces.create(netns)
    try:
        _underlay(netns)
        made = Crowd(folder, netns, size)
        _fill(made)
        yield made
    finally:
        namespaces.delete(netns)
        shutil.rmtree(folder, ignore_errors=True)


def _underlay(netns: str) -> None:
    own = f"{_UNDERLAY.network_address + 1}/{_UNDERLAY.prefixlen}"
    for words in (
        "link set lo up",
        "link add ens33 type veth peer name far",
        f"addr add {own} dev ens33",
        "link set ens33 up",
        "link set far up",
    ):
        subprocess.run(["ip", "-n", netns, *words.split()], check=True)


def _fill(made: Crowd) -> None:
    pools = [{"cidr": str(_POOL), "blockSize": 24}]
    network = parse({"name": NETWORK, "preset": "flannel", "pools": pools})
    operations = [Put(network_key(NETWORK), json.dumps(network.render()).encode())]
    for number in range(made.size):
        operations += puts(number)
    store = SqliteStore(made.store_path)
    for start in range(0, len(operations), _BATCH):
        store.commit(Transaction(operations[start : start + _BATCH]))
    store.close()
