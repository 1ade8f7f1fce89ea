"""What of the cluster concerns one host: whatever was seen before, it is that of a first look."""

from __future__ import annotations

from types import MappingProxyType

from hypothesis import given
from hypothesis import strategies as st
from tests.unit.views import block, host

from netloom.agent.own_part import OwnPart
from netloom.model.host import Block, Host
from netloom.model.view import Cluster

HOSTS = {
    name: [host(name, "10.0.0.1"), host(name, "10.0.0.2", "fd00::1"), host(name)]
    for name in ("h1", "h2", "h3")
}
BLOCKS = [
    [block(f"10.244.{number}.0/24", name, confirmed=sure) for name in HOSTS for sure in (True, 0)]
    for number in range(3)
]


@st.composite
def clusters(draw: st.DrawFn) -> Cluster:
    hosts = [draw(st.sampled_from([None, *kinds])) for kinds in HOSTS.values()]
    blocks = [draw(st.sampled_from([None, *kinds])) for kinds in BLOCKS]
    return Cluster(
        hosts=MappingProxyType({each.id: each for each in hosts if each}),
        blocks=MappingProxyType({(each.network, each.cidr): each for each in blocks if each}),
    )


@given(seen=st.lists(clusters(), min_size=1), own=st.lists(st.sampled_from(HOSTS["h1"])))
def test_own_blocks_and_twins_are_those_of_the_last_picture(
    seen: list[Cluster], own: list[Host]
) -> None:
    part = OwnPart("h1")
    for place, cluster in enumerate(seen):
        me = own[place] if place < len(own) else HOSTS["h1"][0]
        part.look(cluster, me)
        mine: list[Block] = [b for b in cluster.blocks.values() if b.host_id == "h1"]
        assert sorted(map(str, part.blocks)) == sorted(map(str, mine))
        addresses = {me.underlay4, me.underlay6} - {None}
        assert sorted(twin.id for twin in part.twins) == sorted(
            each.id
            for each in cluster.hosts.values()
            if each.id != "h1" and addresses & {each.underlay4, each.underlay6}
        )
        assert sorted(each.id for each in part.namesakes) == sorted(
            each.id for each in cluster.hosts.values() if each.id != "h1" and each.name == me.name
        )
