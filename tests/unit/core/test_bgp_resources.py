"""What BGPConfiguration, BGPPeer, BGPFilter and Node make of the plan of BGP."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from tests.unit.views import block, facts, host, ip, net, network, view

from netloom.core.bgp.plan import BgpPlan, plan
from netloom.core.bgp.render import render
from netloom.core.bgp.session import Session
from netloom.model.resource import Resource
from netloom.model.view import View

POOL = net("10.233.0.0/16")
RANGES = {"blue": (POOL,)}


def resource(
    kind: str, name: str, labels: Mapping[str, str] | None = None, **spec: Any
) -> Resource:
    meta = {"name": name, "labels": dict(labels or {})}
    return Resource.parse({"kind": kind, "metadata": meta, "spec": spec})


def seen(*resources: Resource, own: str = "h1", hosts: int = 3, **pool: Any) -> View:
    """Return what host ``own`` sees of hosts h1, h2, …, at 192.168.26.1, .2, …."""
    names = [f"h{number + 1}" for number in range(hosts)]
    made = view(
        [network("blue", {"cidr": str(POOL), "blockSize": 26, **pool}, backend="bgp")],
        [host(name, f"192.168.26.{name[1:]}") for name in names],
        [block(f"10.233.{name[1:]}.0/26", name) for name in names],
        own=facts(f"192.168.26.{own[1:]}/24"),
    )
    cluster = replace(made.cluster, resources={each.identity: each for each in resources})
    return replace(made, cluster=cluster, host_id=own)


def planned(*resources: Resource, **more: Any) -> BgpPlan:
    return plan(seen(*resources, **more), RANGES)


def names(made: BgpPlan) -> list[str]:
    return [session.name for session in made.sessions]


def told(made: BgpPlan) -> list[str]:
    return [f"{problem.subject}: {problem.text}" for problem in made.problems]


def session_of(made: BgpPlan, neighbour: str) -> Session:
    return next(each for each in made.sessions if each.neighbour == ip(neighbour))


TOR = resource("BGPPeer", "tor", peerIP="192.168.26.254", asNumber=65000)
REFLECTOR = resource("Node", "h3", {"rr": "true"}, bgp={"routeReflectorClusterID": "244.0.0.1"})
TO_REFLECTOR = resource("BGPPeer", "rr", nodeSelector="all()", peerSelector="rr == 'true'")


def test_the_mesh_can_be_switched_off() -> None:
    off = resource("BGPConfiguration", "default", nodeToNodeMeshEnabled=False)
    assert names(planned(off)) == []


def test_what_is_said_of_one_host_stands_over_what_is_said_of_all() -> None:
    default = resource("BGPConfiguration", "default", asNumber=64600, listenPort=1790)
    one = resource("BGPConfiguration", "node.h2", asNumber=64601)
    node = resource("Node", "h3", bgp={"asNumber": 64602})
    made = planned(default, one, node)
    assert (made.local_as, made.port) == (64600, 1790)
    assert [(s.remote_as, s.port) for s in made.sessions] == [(64601, 1790), (64602, 1790)]
    assert planned(default, one, node, own="h2").local_as == 64601


def test_a_reflector_leaves_the_mesh_by_itself() -> None:
    assert names(planned(REFLECTOR)) == ["Mesh_192_168_26_2"]
    assert names(planned(REFLECTOR, own="h3")) == []


def test_both_sides_hold_the_sessions_of_a_reflector() -> None:
    """The reflector by the resource that selects it, too; its clients are told so."""
    client = planned(REFLECTOR, TO_REFLECTOR)
    assert names(client) == ["Mesh_192_168_26_2", "Node_192_168_26_3"]
    assert not session_of(client, "192.168.26.3").client
    reflector = planned(REFLECTOR, TO_REFLECTOR, own="h3")
    assert names(reflector) == ["Node_192_168_26_1", "Node_192_168_26_2"]
    assert all(session.client and session.transit for session in reflector.sessions)
    text = render(reflector)
    assert text.count("rr client;\n  rr cluster id 244.0.0.1;") == 2
    assert text.count("if source = RTS_BGP then { if net ~ [ 10.233.0.0/16{16,32} ]") == 2
    assert "next hop self ebgp;" in text


def test_two_reflectors_of_one_cluster_are_no_clients_of_each_other() -> None:
    other = resource("Node", "h2", {"rr": "true"}, bgp={"routeReflectorClusterID": "244.0.0.1"})
    made = planned(REFLECTOR, other, TO_REFLECTOR, own="h3")
    assert [(s.neighbour, s.client) for s in made.sessions] == [
        (ip("192.168.26.1"), True),
        (ip("192.168.26.2"), False),
    ]
    assert session_of(made, "192.168.26.2").transit


def test_a_session_that_mesh_and_peer_ask_for_is_one_and_the_same_on_both_sides() -> None:
    peer = resource("BGPPeer", "p", node="h1", peerIP="192.168.26.2", asNumber=64512)
    for own, other in (("h1", "2"), ("h2", "1")):
        assert names(planned(peer, own=own)).count(f"Node_192_168_26_{other}") == 1
        assert f"Mesh_192_168_26_{other}" not in names(planned(peer, own=own))


def test_of_several_resources_the_most_special_decides_on_both_sides() -> None:
    everyone = resource("BGPPeer", "a", peerSelector="all()", keepaliveTime="5s")
    special = resource("BGPPeer", "b", node="h2", peerSelector="all()", keepaliveTime="7s")
    for own, neighbour in (("h1", "192.168.26.2"), ("h2", "192.168.26.1")):
        assert session_of(planned(everyone, special, own=own), neighbour).keepalive_s == 7
    assert session_of(planned(everyone, special), "192.168.26.3").keepalive_s == 5
