"""A lab as callers see it: bring it up, use its hosts and containers, take it down.

::

    with Lab.up(default_document(hosts=2), name="try") as lab:
        web = lab.host("h1").run("web")
        lab.host("h2").run("client").exec(["ping", "-c1", web.address])
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Self

from netloom.core import definition
from netloom.lab import agents, etcd, faults, listing, neighbours, record, teardown, wiring
from netloom.lab.agents import Home
from netloom.lab.host import SETTLE_PATIENCE_S, LabHost
from netloom.lab.names import parse_lab_name
from netloom.lab.place import Place
from netloom.lab.processes import Process, myself
from netloom.lab.record import BUILDING, UP, Record
from netloom.lab.topology import Container, Node, Topology
from netloom.model.datastore import Put, Store, Transaction
from netloom.model.errors import Conflict, InvalidConfig, NotPermitted, Unavailable
from netloom.model.fields import nearest
from netloom.model.host import Block
from netloom.model.keys import CLUSTER, block_key, network_key
from netloom.model.network import Network
from netloom.store.sqlite import SqliteStore

Progress = Callable[[str], None]
_TOOLS = ("ip", "nsenter")


class Lab:
    """A lab that stands. As a context manager it is taken down on exit."""

    def __init__(self, lab_record: Record) -> None:
        self.record = lab_record
        self.name = lab_record.name
        self.topology = Topology.parse(lab_record.document)

    @classmethod
    def up(  # noqa: PLR0913 - a lab has as many choices
        cls,
        document: Mapping[str, Any],
        *,
        name: str,
        owner: Process | None = None,
        run_agents: bool = True,
        etcd_members: int = 0,
        etcd_options: str = "",
        progress: Progress = lambda text: None,
    ) -> Lab:
        """Bring a lab up and return when every agent is ready; on any error nothing remains.

        The hosts' common store is a SQLite file, or etcd if it is given members; its URL then has
        ``etcd_options``.
        ``owner``: when that process is dead, :func:`netloom.lab.teardown.sweep` takes the lab
        down. Raises Conflict when the name is taken, InvalidConfig, NotPermitted, Unavailable.
        """
        require_rights()
        parse_lab_name(name, "name")
        topology = Topology.parse(document)
        now = datetime.now(UTC).isoformat(timespec="seconds")
        draft = Record(name, BUILDING, now, document, owner=owner or myself())
        # The directory comes first: whatever happens from here on, `lab down` finds the lab by it.
        record.reserve(draft)
        try:
            _refuse_leftovers(name)
            lab = cls(draft)
            lab._lay_out(topology, progress)
            if etcd_members:
                progress(f"etcd, {_count('member', etcd_members)}")
                etcd.build(name, topology, etcd_members, etcd_options)
            lab._fill(topology, run_agents=run_agents, progress=progress)
            lab.record = replace(draft, phase=UP, owner=owner)
            record.write_json(record.directory(name) / "lab.json", lab.record.render())
        except BaseException:
            teardown.down(name)
            raise
        return lab

    @classmethod
    def open(cls, name: str) -> Lab:
        """Return the lab called ``name``. Raises InvalidConfig when there is none."""
        require_rights()
        return cls(record.load(name))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.down()

    @property
    def hosts(self) -> list[LabHost]:
        """The hosts in the topology's order."""
        return [self._host(node) for node in self.topology.hosts]

    def host(self, name: str) -> LabHost:
        """Return a host. Raises InvalidConfig with the nearest name."""
        return self._host(self._node(name, self.topology.hosts, "host"))

    def node(self, name: str) -> Place:
        """Return a host or a router as a place. Raises InvalidConfig with the nearest name."""
        node = self._node(name, self.topology.nodes, "host or router")
        home = Home(self.name, name)
        return Place(name, wiring.namespace(self.name, node.name), home.environment())

    def place(self, target: str) -> Place:
        """Return ``HOST``, ``ROUTER`` or ``HOST/CONTAINER``."""
        host, slash, container = target.partition("/")
        return self.host(host).container(container) if slash else self.node(target)

    def disown(self) -> None:
        """Let the lab outlive its owner: from now on only `lab down` removes it."""
        self.record = replace(self.record, owner=None)
        record.write_json(record.directory(self.name) / "lab.json", self.record.render())

    def describe(self) -> dict[str, Any]:
        """Return the lab as ``netloom lab list -o json`` prints it."""
        return listing.describe(self.record, self.topology)

    def fault(self, target: str, name: str) -> str:
        """Do a fault of :data:`netloom.lab.faults.FAULTS`; ``store`` is the store's target.

        Returns a remark for people, mostly "".
        """
        return faults.inflict(self.name, self.topology, target, name)

    def set_network(self, data: Mapping[str, Any]) -> int:
        """Write a network's definition to the store; return the store's revision with it."""
        network = definition.parse(data)
        definition.check_against(network, self.networks())
        value = json.dumps(network.render()).encode()
        store = self.store()
        try:
            return store.commit(Transaction([Put(network_key(network.name), value)])).revision
        finally:
            store.close()

    def networks(self) -> list[Network]:
        """Return the networks as the store has them."""
        store = self.store()
        try:
            entries = store.list(network_key("")).entries
            return [definition.parse(json.loads(entry.value)) for entry in entries]
        finally:
            store.close()

    def store(self) -> Store:
        """Open the hosts' common store; the caller closes it."""
        if etcd.members(self.name):
            return etcd.open_store(self.name)
        return SqliteStore(str(record.directory(self.name) / "store" / "cluster.db"))

    def settle(self, patience_s: float = SETTLE_PATIENCE_S) -> None:
        """Return when each running agent's kernel holds what the store says now.

        Raises Unavailable naming the host that does not get there.
        """
        store = self.store()
        try:
            entries = store.list(CLUSTER).entries
        finally:
            store.close()
        revision = max((entry.mod_revision for entry in entries), default=0)
        for host in self.hosts:
            if host.agent:
                host.wait_applied(revision, patience_s)

    def down(self) -> None:
        """Take the lab down; repeats are safe."""
        teardown.down(self.name)

    def _lay_out(self, topology: Topology, progress: Progress) -> None:
        kinds = (("host", topology.hosts), ("router", topology.routers))
        counts = [_count(word, len(nodes)) for word, nodes in kinds if nodes]
        progress(f"{', '.join(counts)}, {_count('segment', len(topology.segments))}")
        wiring.make_namespaces(self.name, topology)
        wiring.wire(self.name, topology)
        neighbours.introduce(self.name, topology)
        for host in self.hosts:
            host.home.make(host.node.agent)

    def _fill(self, topology: Topology, *, run_agents: bool, progress: Progress) -> None:
        for network in topology.networks:
            progress(f"network {network.name}: {_summary(network)}")
            self.set_network(network.render())
        self._give_blocks()
        if not run_agents:
            return
        # One after the other: so h1 gets the first block, h2 the second, as in the tutorials.
        for host in self.hosts:
            progress(f"agent of {host.name}")
            if reasons := agents.why_not_ready(host.start_agent()):
                progress(f"{host.name} is not ready: {reasons}")
        try:
            self.settle()
        except Unavailable as error:
            progress(f"{error}: see `netloom status` there")
        for container in topology.containers:
            progress(f"container {container.host}/{container.name}")
            self._run(container)

    def _give_blocks(self) -> None:
        puts = []
        for host in self.topology.hosts:
            for cidr in host.blocks:
                network = self.topology.network_of(cidr, "blocks").name
                block = Block(network, cidr, host.name, confirmed=True)
                puts.append(Put(block_key(network, cidr), json.dumps(block.render()).encode()))
        if puts:
            store = self.store()
            try:
                store.commit(Transaction(puts))
            finally:
                store.close()

    def _run(self, container: Container) -> None:
        self.host(container.host).run(
            container.name,
            networks=container.networks,
            ips=[str(address) for address in container.addresses],
            ports=container.ports,
            command=container.command,
        )

    def _host(self, node: Node) -> LabHost:
        return LabHost(self.name, node, [network.name for network in self.topology.networks])

    def _node(self, name: str, nodes: Sequence[Node], what: str) -> Node:
        for node in nodes:
            if node.name == name:
                return node
        raise InvalidConfig(
            f"lab {self.name} has no {what} called {name!r}",
            field="host",
            value=name,
            hint=nearest(name, [node.name for node in nodes]),
        )


def require_rights() -> None:
    """Raise NotPermitted unless we may make namespaces, InvalidConfig when a tool is missing."""
    if os.geteuid() != 0:
        raise NotPermitted("a lab needs root: it makes network namespaces", hint="run it with sudo")
    for tool in _TOOLS:
        if not shutil.which(tool):
            raise InvalidConfig(
                f"the command {tool!r} is not installed",
                hint="apt-get install iproute2 util-linux",
            )


def _refuse_leftovers(name: str) -> None:
    leftovers = teardown.namespaces_of(name)
    if leftovers:
        raise Conflict(
            f"namespaces of a lab called {name} are there: {', '.join(leftovers)}",
            hint=f"remove them with `netloom lab down --name {name}`",
        )


def _count(word: str, number: int) -> str:
    return f"{number} {word}" + ("s" if number != 1 else "")


def _summary(network: Network) -> str:
    pools = ", ".join(str(pool.cidr) for pool in network.pools)
    return f"{pools} {network.backend.type}, attached by {network.attachment.type}"
