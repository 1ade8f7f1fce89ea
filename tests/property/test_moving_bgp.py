"""Moves to BGP and from it lose nothing, however late routes are learned and hosts hear of it.

The cluster of ``test_moving``, with a routing daemon on each host that may learn at any time, and
forgets at once what nobody announces any more.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.property.test_moving import HOSTS, Machine, World, act
from tests.unit.views import facts, ip, net

from netloom.core.desired import desired
from netloom.model.addr import IPAddress, IPNetwork
from netloom.model.kernel import Bird, Route
from netloom.model.view import View

BACKENDS = (
    "bgp",
    "host-gw",
    "vxlan",
    "ipip",
    {"type": "per-pool", "default": "bgp", "pools": {"10.244.0.0/16": "ipip"}},
)


@dataclass
class Router(Machine):
    """A host with what its BIRD has learned."""

    learned: dict[IPNetwork, IPAddress] = field(default_factory=dict)

    @property
    def address(self) -> str:
        return f"192.168.31.{self.id[1:]}"

    @property
    def block(self) -> IPNetwork:
        return net(f"10.244.{self.id[1:]}.0/24")

    def facts(self):
        return facts(f"{self.address}/24", learned=MappingProxyType(dict(self.learned)))

    def config(self) -> str:
        bird = self.state().get("bird")
        return bird.config if isinstance(bird, Bird) else ""

    def hears(self, other: Router) -> bool:
        """Tell whether the two have a session, and the other announces its block."""
        return (
            f"neighbor {other.address} as" in self.config()
            and f"neighbor {self.address} as" in other.config()
            and f"route {other.block} blackhole" in other.config()
        )

    def blocks_at_the_least_metric(self) -> list[IPNetwork]:
        """Return the hosts' blocks in whose place, which is BIRD's, a route of ours stands."""
        blocks = {block.cidr for block in self.applied.blocks.values()}
        routes = (obj for obj in self.state().values() if isinstance(obj, Route))
        return [r.destination for r in routes if r.metric == 0 and r.destination in blocks]

    def has_a_way_to(self, peer: str) -> bool:
        return net(f"10.244.{peer[1:]}.0/24") in self.learned or super().has_a_way_to(peer)


class Routers(World):
    """The cluster, begun without BGP."""

    def __init__(self, hosts: tuple[str, ...], first: object) -> None:
        super().__init__(hosts, first)
        self.machines = {
            name: Router(name, m.picture, m.kernel, m.applied) for name, m in self.machines.items()
        }

    def exchange(self, *, learn: bool) -> None:
        for one in self.machines.values():
            for other in self.machines.values():
                assert isinstance(one, Router)
                assert isinstance(other, Router)
                if one is other:
                    continue
                if not one.hears(other):
                    one.learned.pop(other.block, None)
                elif learn:
                    one.learned[other.block] = ip(other.address)

    def check(self) -> None:
        self.exchange(learn=False)
        super().check()
        for machine in self.machines.values():
            assert isinstance(machine, Router)
            if machine.config():
                assert not machine.blocks_at_the_least_metric(), machine.id


ACTIONS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["hear", "apply", "publish", "end"]), st.sampled_from(HOSTS)),
        st.tuples(st.just("all"), st.sampled_from(HOSTS)),
        st.tuples(st.just("learn"), st.just("")),
        st.tuples(st.just("switch"), st.sampled_from(BACKENDS)),
    ),
    max_size=60,
)


@settings(max_examples=150, deadline=None)
@given(st.sampled_from([2, 3]), st.sampled_from(BACKENDS[1:]), ACTIONS)
def test_a_move_to_bgp_or_from_it_loses_nothing_and_ends(hosts, first, actions) -> None:
    world = Routers(HOSTS[:hosts], first)
    for verb, what in actions:
        if verb == "learn":
            world.exchange(learn=True)
        else:
            act(world, verb, what)
        world.check()
    for _ in range(6):
        for machine in world.machines.values():
            act(world, "all", machine.id)
        world.exchange(learn=True)
    assert world.truth.networks["blue"].retiring == ()
    for machine in world.machines.values():
        machine.apply()
        assert machine.state() == desired(View(world.truth, machine.id, machine.facts())).state
