"""However late the hosts hear of each other, a move of backends loses nothing and ends.

A small cluster, simulated: each host has its own picture, some records behind the store; it
applies the picture to its kernel (``desired``), writes its record from that, and ends moves, each
when the test says so. What is checked is the code of the agent; the store and the waiting are not.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from hypothesis import example, given, settings
from hypothesis import strategies as st
from tests.unit.memory_store import MemoryStore
from tests.unit.views import block, facts, net, network

from netloom.agent.registration import Registration, end_moves
from netloom.core.desired import Desired, desired
from netloom.core.moving import begin, waiting_for
from netloom.model.datastore import Put, Transaction
from netloom.model.errors import Unavailable
from netloom.model.kernel import (
    IPIP_DEVICE,
    Fdb,
    KernelObject,
    Link,
    Route,
    UdpPeer,
    UdpProxy,
)
from netloom.model.keys import block_key, host_key, network_key
from netloom.model.network import Network
from netloom.model.view import Cluster, View
from netloom.reconcile.claims import Search, claim

BACKENDS = (
    "vxlan",
    "host-gw",
    {"type": "vxlan", "vni": 77},
    {"type": "vxlan", "directRouting": True},
    "udp",
    "ipip",
    {"type": "ipip", "mode": "CrossSubnet"},
    {"type": "per-pool", "default": "host-gw", "pools": {"10.244.0.0/16": "ipip"}},
)
HOSTS = ("h1", "h2", "h3", "h4")
#: Hosts that have no block at first and claim one in the middle of everything.
JOINERS = ("h8", "h9")


@dataclass
class Machine:
    """One host: its picture, its kernel, and whether its agent runs."""

    id: str
    picture: Cluster = field(default_factory=Cluster)
    kernel: Desired | None = None
    applied: Cluster = field(default_factory=Cluster)
    alive: bool = True

    def facts(self):
        return facts(f"192.168.31.{self.id[1:]}/24")

    def apply(self) -> None:
        self.kernel = desired(View(self.picture, self.id, self.facts()))
        self.applied = self.picture

    def state(self) -> Mapping[str, KernelObject]:
        assert self.kernel is not None
        return self.kernel.state

    def tunnels_to(self, peer: Machine) -> set[tuple[object, ...]]:
        """Return what has to listen at ``peer`` for what this kernel sends there."""
        ends: set[tuple[object, ...]] = set()
        address = peer.facts().underlay_address(4)
        for obj in self.state().values():
            if isinstance(obj, Fdb) and obj.remote == address:
                link = self.state()[f"link {obj.link}"]
                assert isinstance(link, Link)
                assert link.vxlan is not None
                ends.add(("vxlan", link.vxlan.vni, link.vxlan.port))
            if isinstance(obj, UdpPeer) and obj.remote == address:
                ends.add(("udp", obj.port))
            if isinstance(obj, Route) and obj.link == IPIP_DEVICE and obj.gateway == address:
                ends.add(("ipip",))
        return ends

    def listens(self) -> set[tuple[object, ...]]:
        """Return the tunnel ends that stand in this kernel."""
        ends: set[tuple[object, ...]] = set()
        for obj in self.state().values():
            if isinstance(obj, Link) and obj.vxlan is not None:
                ends.add(("vxlan", obj.vxlan.vni, obj.vxlan.port))
            if isinstance(obj, UdpProxy):
                ends.add(("udp", obj.port))
            if isinstance(obj, Link) and obj.ipip is not None:
                ends.add(("ipip",))
        return ends

    def knows(self, peer: str) -> bool:
        """Tell whether the kernel is by a picture with this peer's record and block."""
        cidr = net(f"10.244.{peer[1:]}.0/24")
        return peer in self.applied.hosts and ("blue", cidr) in self.applied.blocks

    def has_a_way_to(self, peer: str) -> bool:
        cidr = net(f"10.244.{peer[1:]}.0/24")
        return any(
            (isinstance(obj, Route) and obj.destination == cidr)
            or (isinstance(obj, UdpPeer) and obj.block == cidr)
            for obj in self.state().values()
        )


class World:
    """The store's truth, and the hosts with their pictures of it."""

    def __init__(self, hosts: tuple[str, ...], first: object) -> None:
        self.truth = Cluster(
            networks={"blue": network(backend=first)},
            blocks={
                ("blue", held.cidr): held
                for held in (block(f"10.244.{h[1:]}.0/24", h) for h in hosts)
            },
        )
        self.store = MemoryStore()
        self.joined = set(hosts)
        self.machines = {h: Machine(h) for h in hosts}
        for held in self.truth.blocks.values():
            self._put(block_key("blue", held.cidr), held.render())
        self._write(self.truth.networks["blue"])
        for _ in range(2):
            for machine in self.machines.values():
                self.hear(machine)
                machine.apply()
                self.publish(machine)

    def _put(self, key: str, document: object) -> None:
        revision = self.store.commit(
            Transaction((Put(key, json.dumps(document).encode()),))
        ).revision
        self.truth = replace(self.truth, revision=revision)

    def _write(self, definition: Network) -> None:
        self._put(network_key("blue"), definition.render())
        self.truth = replace(self.truth, networks={"blue": definition})

    def join(self, machine: Machine) -> None:
        """Claim a block by the picture that the host has, and send from it in the next turn."""
        known = machine.picture.networks.get("blue")
        if known is None or machine.id in self.joined:
            return
        only = net(f"10.244.{machine.id[1:]}.0/24")
        try:
            held = claim(self.store, Search(known, known.pools[0], machine.id, only=only))
        except Unavailable:
            return  # its picture is too old: it tries again with the next
        blocks = {**self.truth.blocks, ("blue", held.cidr): held}
        revision = self.store.list("").revision
        self.truth = replace(self.truth, blocks=blocks, revision=revision)
        self.joined.add(machine.id)
        shown = {**machine.picture.blocks, ("blue", held.cidr): held}
        machine.picture = replace(machine.picture, blocks=shown)
        machine.apply()

    def switch(self, backend: object) -> None:
        now = self.truth.networks["blue"]
        self._write(begin(now, replace(now, backend=network(backend=backend).backend)))

    def hear(self, machine: Machine) -> None:
        machine.picture = self.truth

    def publish(self, machine: Machine) -> None:
        own = Registration(machine.id, machine.id, lambda: 0.0)
        record = own.record(machine.picture, machine.facts(), machine.kernel)
        self._put(host_key(machine.id), record.render())
        self.truth = replace(self.truth, hosts={**self.truth.hosts, machine.id: record})

    def end(self, machine: Machine) -> None:
        end_moves(self.store, machine.picture)
        entry = self.store.get(network_key("blue"))
        assert entry is not None
        definition = Network.parse(json.loads(entry.value))
        revision = self.store.list("").revision
        self.truth = replace(self.truth, networks={"blue": definition}, revision=revision)

    def check(self) -> None:
        """No packet is sent to where nobody listens."""
        joined = [machine for machine in self.machines.values() if machine.id in self.joined]
        for one in joined:
            for other in joined:
                if one is not other and one.knows(other.id):
                    assert one.has_a_way_to(other.id), f"{one.id} does not reach {other.id}"
                    deaf = one.tunnels_to(other) - other.listens()
                    assert not deaf, f"{one.id} sends to {other.id} by {deaf}"


def steps(world: World) -> dict[str, Callable[[Machine], None]]:
    return {
        "hear": world.hear,
        "apply": Machine.apply,
        "publish": world.publish,
        "end": world.end,
        "join": world.join,
    }


ACTIONS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["hear", "apply", "publish", "end"]), st.sampled_from(HOSTS)),
        st.tuples(st.just("all"), st.sampled_from(HOSTS)),
        st.tuples(st.sampled_from(["hear", "apply", "publish", "join"]), st.sampled_from(JOINERS)),
        st.tuples(st.just("kill-or-start"), st.sampled_from(HOSTS)),
        st.tuples(st.just("switch"), st.sampled_from(BACKENDS)),
    ),
    max_size=60,
)


#: There and back, with h2 late: what its record says of the first state is no word on the third.
THERE_AND_BACK = [
    ("switch", BACKENDS[2]),
    ("all", "h1"),
    ("hear", "h2"),
    ("apply", "h2"),
    ("switch", "vxlan"),
    ("all", "h1"),
    ("all", "h1"),
    ("all", "h1"),
]
#: h8 hears of the move, and claims its block in the moment in which the others end it.
JOINED_AT_THE_END = [
    ("switch", BACKENDS[2]),
    ("hear", "h8"),
    *[("all", name) for name in ("h1", "h2", "h1", "h2", "h1", "h2")],
    ("join", "h8"),
]
#: h8 has claimed before they end it, and they have not heard of that yet.
JOINED_BEFORE_THE_END = [
    ("switch", BACKENDS[2]),
    ("hear", "h8"),
    *[
        (verb, name)
        for _ in range(3)
        for verb in ("hear", "apply", "publish")
        for name in ("h1", "h2")
    ],
    ("join", "h8"),
    ("end", "h1"),
    ("hear", "h1"),
    ("apply", "h1"),
]


#: h8 has joined by the first backend and said nothing yet, when they are there and back again.
BACK_BEFORE_A_WORD = [
    ("hear", "h8"),
    ("publish", "h8"),
    ("join", "h8"),
    ("switch", "vxlan"),
    ("switch", "host-gw"),
]


def act(world: World, verb: str, what: object) -> None:
    if verb == "switch":
        world.switch(what)
        return
    machine = world.machines.get(str(what))
    if machine is None:
        return
    if verb == "kill-or-start":
        machine.alive = not machine.alive
        if machine.alive:  # it lists the store before anything else
            world.hear(machine)
    elif machine.alive:
        for each in ("hear", "apply", "publish", "end") if verb == "all" else (verb,):
            steps(world)[each](machine)
            world.check()


@settings(max_examples=200, deadline=None)
@given(st.sampled_from([2, 3, 4]), st.sampled_from(BACKENDS), ACTIONS)
@example(2, "vxlan", THERE_AND_BACK)
@example(2, "vxlan", JOINED_AT_THE_END)
@example(2, "vxlan", JOINED_BEFORE_THE_END)
@example(2, "host-gw", BACK_BEFORE_A_WORD)
@example(2, "host-gw", [*BACK_BEFORE_A_WORD, ("switch", "udp"), ("switch", "host-gw")])
def test_nothing_is_sent_to_where_nobody_listens_and_every_move_ends(hosts, first, actions):
    world = World(HOSTS[:hosts], first)
    world.machines |= {name: Machine(name) for name in JOINERS}
    for verb, what in actions:
        act(world, verb, what)
        world.check()
    settle(world)


def settle(world: World) -> None:
    """All live and nothing changes any more: the move ends and leaves nothing behind."""
    for machine in world.machines.values():
        machine.alive = True
    for _ in range(4):
        for machine in world.machines.values():
            act(world, "all", machine.id)
    definition = world.truth.networks["blue"]
    assert definition.retiring == ()
    for machine in world.machines.values():
        alone = desired(View(world.truth, machine.id, machine.facts()))
        assert not alone.late
        assert machine.state() == alone.state


@settings(max_examples=50, deadline=None)
@given(st.sampled_from(BACKENDS), st.lists(st.sampled_from(BACKENDS), min_size=1, max_size=4))
def test_a_dead_host_is_reached_by_what_it_served_last_however_often_the_others_move(
    first, switches
):
    world = World(HOSTS[:3], first)
    dead = world.machines["h3"]
    dead.alive = False
    for backend in switches:
        world.switch(backend)
        for _ in range(3):
            for name in ("h1", "h2"):
                act(world, "all", name)
        world.check()
        definition = world.truth.networks["blue"]
        if definition.course != network(backend=first).course:
            assert waiting_for(world.truth, definition) == ("h3",)
            assert definition.retiring
    dead.alive = True
    settle(world)
