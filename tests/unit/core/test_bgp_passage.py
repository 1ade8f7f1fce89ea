"""Hosts on different segments by pure BGP: the router between has to be told of their blocks."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.unit.core.test_bgp_resources import RANGES, TOR, resource, seen
from tests.unit.views import block, facts, ip, net, network

from netloom.core import amending
from netloom.core.bgp.plan import plan
from netloom.model.errors import Conflict
from netloom.model.host import Host
from netloom.model.network import Network
from netloom.model.resource import Resource
from netloom.model.view import Cluster, Problem, View

FAR = Host("h3", "h3", ip("192.168.30.3"), segments=(net("192.168.30.0/24"),))
NEAR = net("192.168.26.0/24")


def beyond(*resources: Resource) -> View:
    """Return what h1 sees of h2 beside it and of h3 behind a router."""
    made = seen(*resources)
    near = {h.id: replace(h, segments=(NEAR,)) for h in made.cluster.hosts.values()}
    return replace(made, cluster=replace(made.cluster, hosts={**near, "h3": FAR}))


def told(view: View) -> list[Problem]:
    return [
        problem for problem in plan(view, RANGES).problems if "router is between" in problem.text
    ]


def test_who_is_behind_a_router_that_nobody_told_is_named() -> None:
    (problem,) = told(beyond())
    assert "a router is between this host and h3, " in problem.text
    assert "BGPPeer" in problem.remedy
    assert "CrossSubnet" in problem.remedy


@pytest.mark.parametrize(
    "why",
    ["a router is a peer", "another card is there", "the pool is told to nobody", "no block there"],
)
def test_nothing_is_said_where_the_way_may_be_known(why: str) -> None:
    made = beyond(TOR) if why == "a router is a peer" else beyond()
    if why == "another card is there":
        second = facts("192.168.30.1/24", link="ens32").underlay[4]
        made = replace(made, facts=replace(made.facts, candidates=((*second, False),)))
    elif why == "the pool is told to nobody":
        made = beyond_unexported()
    elif why == "no block there":
        blocks = {key: b for key, b in made.cluster.blocks.items() if b.host_id != "h3"}
        made = replace(made, cluster=replace(made.cluster, blocks=blocks))
    assert told(made) == []


def beyond_unexported() -> View:
    made = seen(disableBGPExport=True)
    return replace(made, cluster=replace(made.cluster, hosts={**made.cluster.hosts, "h3": FAR}))


def moved(made: View, **choice: object) -> Network:
    """Move the network of a view from vxlan to another backend."""
    pools = made.cluster.networks["blue"].pools
    before = network("blue", backend="vxlan", pools=[pool.render() for pool in pools])
    cluster: Cluster = replace(made.cluster, networks={"blue": before})
    wanted = replace(made.cluster.networks["blue"], retiring=())
    return amending.changed(cluster, (), wanted, **choice)  # type: ignore[arg-type]


def test_a_network_is_not_moved_where_its_packets_would_be_lost() -> None:
    with pytest.raises(Conflict) as caught:
        moved(beyond())
    assert "a router is between h1 and h3, and no BGPPeer lets h1 tell it" in str(caught.value)
    assert caught.value.hint is not None
    assert "--force" in caught.value.hint
    assert moved(beyond(), force=True).backend.type == "bgp"


def test_it_is_moved_when_every_host_tells_its_router() -> None:
    far_tor = resource("BGPPeer", "far", node="h3", peerIP="192.168.30.254", asNumber=65000)
    near_tor = resource("BGPPeer", "near", nodeSelector="all()", peerIP="192.168.26.254",
                        asNumber=65000)  # fmt: skip
    assert moved(beyond(far_tor, near_tor)).backend.type == "bgp"
    with pytest.raises(Conflict, match="between h1 and h3"):
        moved(beyond(far_tor))


def test_hosts_that_told_nothing_of_their_segments_are_not_judged() -> None:
    made = seen()
    assert moved(made).backend.type == "bgp"
    assert block("10.233.9.0/26", "h9").cidr not in made.cluster.blocks
