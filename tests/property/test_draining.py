"""However definitions change and whoever is late, no container loses its block, and pools drain.

Two hosts and one store. Each host attaches by the definition and the blocks that it last heard of,
and does its upkeep by them; both may be older than the store's.
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
from netloom.agent.leaving import drained, give_back
from netloom.core.ipam.blocks import overlap, within
from netloom.core.ipam.supply import NeedBlock, Supply
from netloom.model.datastore import Put, Transaction
from netloom.model.endpoint import Endpoint
from netloom.model.errors import Conflict, Unavailable
from netloom.model.host import Block
from netloom.model.keys import network_key
from netloom.model.network import Addressing, Network
from netloom.model.pool import Pool
from netloom.reconcile.claim_refusals import FormerSize
from netloom.reconcile.claims import Held, claim_needed, hold_blocks, list_claims

POOLS = (Pool(ip_network("10.1.0.0/27"), 29), Pool(ip_network("10.2.0.0/27"), 29))


class Machine:
    """One host: its journal, and what it last heard of the store."""

    def __init__(self, name: str, store: MemoryStore, network: Network) -> None:
        self.name, self.store, self.network = name, store, network
        self.book = AddressBook(MemoryStore())
        self.book.begin(name, ())
        self.blocks: tuple[Block, ...] = ()
        self.before = (self.network, self.blocks)
        self.count = 0

    def held(self) -> tuple[Block, ...]:
        claims = [each.block for each in list_claims(self.store, "blue")]
        return tuple(b for b in claims if b and b.host_id == self.name and b.confirmed)

    def hear(self, network: Network) -> None:
        self.before = (self.network, self.blocks)
        self.network, self.blocks = network, self.held()

    def keep_up(self) -> None:
        with suppress(Conflict, FormerSize):
            hold_blocks(self.store, self.network, self.name, Held(self.blocks))
        give_back(self.store, self.book, drained(self.network, self.blocks, facts()))

    def attach(self, *, late: bool) -> None:
        """Attach a container; one that is ``late`` began by the picture before this one."""
        self.count += 1
        network, blocks = self.before if late else (self.network, self.blocks)
        draft = Endpoint("blue", self.name, f"c{self.count}", "eth0", "/x", "veth", "02::1", ())
        for _ in range(4):
            try:
                self.book.reserve(draft, Supply(network, self.name, blocks))
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
        self.define(POOLS)
        self.machines = [Machine(name, self.store, self.network) for name in ("h1", "h2")]

    def define(self, pools: tuple[Pool, ...]) -> None:
        self.network = replace(self.network, pools=pools)
        value = json.dumps(self.network.render()).encode()
        self.store.commit(Transaction([Put(network_key("blue"), value)]))

    def change(self, which: int, what: int) -> None:
        """Disable a pool or enable it, or give it another block size."""
        pools = list(self.network.pools)
        pool = pools[which]
        turned = replace(pool, disabled=not pool.disabled)
        pools[which] = turned if what == 0 else replace(pool, block_size=27 + what)
        self.define(tuple(pools))

    def check(self) -> None:
        claims = [each.cidr for each in list_claims(self.store, "blue")]
        assert not any(overlap(one, other) for one, other in combinations(claims, 2))
        for machine in self.machines:
            held = [block.cidr for block in machine.held()]
            for endpoint in machine.book.endpoints():
                for address in endpoint.addresses:
                    assert any(address in cidr for cidr in held), f"{endpoint.handle}: {address}"


VERBS = ["turn", "turn", "attach", "attach", "attach late", "change", "change", "detach", "hear"]
ACTIONS = st.lists(
    st.tuples(st.sampled_from(VERBS), st.integers(0, 1), st.integers(0, 3)), max_size=40
)


LATE = [("turn", 0, 0), ("turn", 0, 0), ("change", 0, 0), ("turn", 0, 0), ("attach late", 0, 0)]


@example("host-block", LATE)
@settings(max_examples=150, deadline=None)
@given(st.sampled_from(["host-block", "on-demand"]), ACTIONS)
def test_no_container_loses_its_block_and_what_is_drained_goes(mode, actions) -> None:
    world = World(mode)
    for verb, which, what in actions:
        machine = world.machines[which]
        if verb.startswith("attach"):
            machine.attach(late="late" in verb)
        elif verb == "detach":
            machine.detach(what)
        elif verb == "change":
            world.change(which, what)
        else:
            machine.hear(world.network)
            if verb == "turn":
                machine.keep_up()
        world.check()
    for machine in world.machines:
        while machine.book.endpoints():
            machine.detach(0)
    for _ in range(3):
        for machine in world.machines:
            machine.hear(world.network)
            machine.keep_up()
            world.check()
    for machine in world.machines:
        for pool in world.network.pools:
            mine = [b.cidr for b in machine.held() if within(b.cidr, pool.cidr)]
            assert not (pool.disabled and mine)
            sizes = {cidr.prefixlen for cidr in mine}
            assert len(sizes) < 2 or pool.block_size not in sizes, mine
