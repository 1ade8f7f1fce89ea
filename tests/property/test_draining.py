"""However definitions change and whoever is late, no container loses its block, and pools drain.

Two hosts and one store. Each host attaches by the definition, the labels and the blocks that it
last heard of, and does its upkeep by them; all may be older than the store's.
"""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import replace
from ipaddress import ip_network
from itertools import combinations

from hypothesis import example, given, settings
from hypothesis import strategies as st
from tests.unit.memory_store import MemoryStore
from tests.unit.views import facts

from netloom.agent.addresses import AddressBook
from netloom.agent.leaving import PATIENCE_S, Leaving, give_back
from netloom.core.ipam.blocks import overlap, within
from netloom.core.ipam.supply import NeedBlock, Supply
from netloom.model.datastore import Put, Transaction
from netloom.model.endpoint import Endpoint
from netloom.model.errors import Conflict, Unavailable
from netloom.model.host import Block, Host
from netloom.model.keys import network_key
from netloom.model.network import Addressing, Network
from netloom.model.pool import Pool
from netloom.model.resource import Resource
from netloom.model.selector import Selector
from netloom.model.view import Cluster
from netloom.reconcile.claim_entries import list_claims
from netloom.reconcile.claim_refusals import FormerSize
from netloom.reconcile.claims import claim_needed
from netloom.reconcile.holding import Held, hold_blocks

POOLS = (Pool(ip_network("10.1.0.0/27"), 29), Pool(ip_network("10.2.0.0/27"), 29))
RACK_1 = Selector.parse("rack == '1'", "")


class Machine:
    """One host: its journal, and what it last heard of the store."""

    def __init__(self, name: str, store: MemoryStore, network: Network) -> None:
        self.name, self.store, self.network = name, store, network
        self.book = AddressBook(MemoryStore())
        self.book.begin(name, ())
        self.now_s = 0.0
        self.leaving = Leaving(Host(name, name), lambda: self.now_s)
        self.blocks: tuple[Block, ...] = ()
        self.node = Resource("Node", name)
        self.before = (self.network, self.blocks, self.node)
        self.count = 0

    def held(self) -> tuple[Block, ...]:
        claims = [each.block for each in list_claims(self.store, "blue")]
        return tuple(b for b in claims if b and b.host_id == self.name and b.confirmed)

    def hear(self, network: Network, labels: dict[str, str]) -> None:
        self.before = (self.network, self.blocks, self.node)
        self.network, self.blocks = network, self.held()
        self.node = replace(self.node, labels=labels)

    def keep_up(self) -> None:
        self.now_s += PATIENCE_S / 2
        with suppress(Conflict, FormerSize):
            held = Held(self.blocks, labels=self.node.labels)
            hold_blocks(self.store, self.network, self.name, held)
        cluster = Cluster(
            networks={"blue": self.network}, resources={self.node.identity: self.node}
        )
        going = self.leaving.due(cluster, self.blocks, facts())
        give_back(self.store, self.book, going, self.blocks)

    def attach(self, *, late: bool) -> None:
        """Attach a container; one that is ``late`` began by the picture before this one."""
        self.count += 1
        network, blocks, node = self.before if late else (self.network, self.blocks, self.node)
        draft = Endpoint("blue", self.name, f"c{self.count}", "eth0", "/x", "veth", "02::1", ())
        for _ in range(4):
            try:
                self.book.reserve(draft, Supply(network, self.name, blocks, labels=node.labels))
                return
            except NeedBlock as need:
                try:
                    got = claim_needed(self.store, need)
                    blocks, self.blocks = (*blocks, got), (*self.blocks, got)
                except (Conflict, Unavailable):
                    return
            except Conflict:
                return

    def detach(self, which: int) -> None:
        there = self.book.endpoints()
        if there:
            self.book.release(there[which % len(there)].handle)


class World:
    """The store, its definition and the hosts."""

    def __init__(self, mode: str) -> None:
        self.store = MemoryStore()
        self.network = Network("blue", POOLS, Addressing(mode, 3))
        self.pools, self.away = list(POOLS), set[int]()
        self.labels: list[dict[str, str]] = [{}, {}]
        self.define()
        self.machines = [Machine(name, self.store, self.network) for name in ("h1", "h2")]

    def define(self) -> None:
        pools = (pool for number, pool in enumerate(self.pools) if number not in self.away)
        self.network = replace(self.network, pools=tuple(pools))
        value = json.dumps(self.network.render()).encode()
        self.store.commit(Transaction([Put(network_key("blue"), value)]))

    def change(self, which: int, what: int) -> None:
        """Disable a pool or enable it, or give it another block size."""
        pool = self.pools[which]
        turned = replace(pool, disabled=not pool.disabled)
        self.pools[which] = turned if what == 0 else replace(pool, block_size=27 + what)
        self.define()

    def strand(self, which: int, what: int) -> None:
        """Change a host's label, or a pool's selector; take a pool away, or put it back."""
        if what in (0, 1):
            rack = self.labels[which].get("rack")
            self.labels[which] = {} if rack else {"rack": "1"}
        elif what == 2:
            pool = self.pools[which]
            selector = None if pool.node_selector else RACK_1
            self.pools[which] = replace(pool, node_selector=selector)
        else:
            self.away ^= {1}
        self.define()

    def check(self) -> None:
        claims = [each.cidr for each in list_claims(self.store, "blue")]
        assert not any(overlap(one, other) for one, other in combinations(claims, 2))
        for machine in self.machines:
            held = [block.cidr for block in machine.held()]
            for endpoint in machine.book.endpoints():
                for address in endpoint.addresses:
                    assert any(address in cidr for cidr in held), f"{endpoint.handle}: {address}"


VERBS = [
    *("turn", "turn", "attach", "attach", "attach late", "change", "change", "strand", "strand"),
    *("detach", "hear"),
]
ACTIONS = st.lists(
    st.tuples(st.sampled_from(VERBS), st.integers(0, 1), st.integers(0, 3)), max_size=40
)


LATE = [("turn", 0, 0), ("turn", 0, 0), ("change", 0, 0), ("turn", 0, 0), ("attach late", 0, 0)]


#: One host has the room that the other needs for a block of the new size, and is stranded there.
ROOM = [("attach", 0, 0), ("attach", 1, 0), ("change", 0, 1), ("strand", 0, 0), ("strand", 0, 2)]
#: Enough for a host that waits until another has given back what waited for the first.
ROUNDS = 10


@example("host-block", LATE)
@example("on-demand", ROOM)
@settings(max_examples=200, deadline=None)
@given(st.sampled_from(["host-block", "on-demand"]), ACTIONS)
def test_no_container_loses_its_block_and_what_goes_is_gone_in_the_end(mode, actions) -> None:
    world = World(mode)
    for verb, which, what in actions:
        machine = world.machines[which]
        if verb.startswith("attach"):
            machine.attach(late="late" in verb)
        elif verb == "detach":
            machine.detach(what)
        elif verb == "change":
            world.change(which, what)
        elif verb == "strand":
            world.strand(which, what)
        else:
            machine.hear(world.network, world.labels[which])
            if verb == "turn":
                machine.keep_up()
        world.check()
    for machine in world.machines:
        while machine.book.endpoints():
            machine.detach(0)
    for _ in range(ROUNDS):
        for machine, labels in zip(world.machines, world.labels, strict=True):
            machine.hear(world.network, labels)
            machine.keep_up()
            world.check()
    for machine in world.machines:
        _check_drained(machine)


def _check_drained(machine: Machine) -> None:
    held = [block.cidr for block in machine.held()]
    pools = machine.network.pools
    assert all(any(within(cidr, pool.cidr) for pool in pools) for cidr in held), held
    for pool in pools:
        mine = [cidr for cidr in held if within(cidr, pool.cidr)]
        assert pool.open_to(machine.node.labels) or not mine
        sizes = {cidr.prefixlen for cidr in mine}
        assert len(sizes) < 2 or pool.block_size not in sizes, mine
