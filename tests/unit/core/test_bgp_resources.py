"""What BGPConfiguration, BGPPeer, BGPFilter and Node make of the plan of BGP."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import pytest
from tests.unit.views import block, facts, host, iface, ip, net, network, view

from netloom.core.bgp.plan import BgpPlan, plan
from netloom.core.bgp.render import render
from netloom.core.bgp.session import Session
from netloom.core.desired import desired
from netloom.model.resource import Resource
from netloom.model.secret import Secret, SecretText
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


def test_what_is_said_of_a_host_holds_before_its_record_is_in_the_picture() -> None:
    """The first turn of a new host knows its name, and speaks with the AS number told for it."""
    said = resource("Node", "worker-1", bgp={"asNumber": 65001})
    known = seen(said)
    others = {name: each for name, each in known.cluster.hosts.items() if name != "h1"}
    new = replace(known, cluster=replace(known.cluster, hosts=others), host_name="worker-1")
    assert plan(new, RANGES).local_as == 65001


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


def test_two_resources_for_one_router_are_one_session_and_a_word_about_the_loser() -> None:
    other = resource("BGPPeer", "tor2", peerIP="192.168.26.254", asNumber=65001)
    made = planned(TOR, other)
    assert [s.remote_as for s in made.sessions if s.router] == [65000]
    assert told(made) == [
        "BGPPeer(tor2): spec.peerIP: BGPPeer(tor) asks for the session with 192.168.26.254 too, "
        "and decides"
    ]
    special = resource("BGPPeer", "z", node="h1", peerIP="192.168.26.254", asNumber=65001)
    made = planned(TOR, special)  # what is for one host goes before what is for all: no word
    assert [s.remote_as for s in made.sessions if s.router] == [65001]
    assert told(made) == []


def test_a_router_with_a_port_has_a_name_of_its_own() -> None:
    other = resource("BGPPeer", "q", peerIP="192.168.26.254:1790", asNumber=65000)
    assert names(planned(TOR, other))[2:] == [
        "Global_192_168_26_254_port_1790",
        "Global_192_168_26_254",
    ]
    assert "neighbor 192.168.26.254 port 1790 as 65000;" in render(planned(other))


PEER_FIELDS: list[tuple[dict[str, Any], str]] = [
    ({"localASNumber": 64999}, "local 192.168.26.1 as 64999;"),
    ({"keepOriginalNextHop": True}, "next hop keep;"),
    ({"nextHopMode": "Self"}, "next hop self;"),
    ({"sourceAddress": "None"}, "local as 64512;"),
    ({"maxRestartTime": "45s"}, "graceful restart time 45;"),
    ({"keepaliveTime": "40s"}, "hold time 120;\n  keepalive time 40;"),
    ({"numAllowedLocalASNumbers": 2}, "allow local as 2;"),
    ({"ttlSecurity": 3}, "multihop 3;\n  ttl security on;"),
    ({"reachableBy": "192.168.26.7"}, "route 192.168.26.254/32 via 192.168.26.7;"),
]


@pytest.mark.parametrize(("spec", "words"), PEER_FIELDS)
def test_every_field_of_a_peer_is_in_the_configuration(spec: dict[str, Any], words: str) -> None:
    peer = resource("BGPPeer", "tor", peerIP="192.168.26.254", asNumber=64512, **spec)
    text = render(planned(peer))
    assert words in text
    assert words not in render(planned(replace_as(TOR, 64512)))


def test_the_other_side_of_a_session_expects_the_as_number_that_is_shown_to_it() -> None:
    peer = resource("BGPPeer", "p", node="h1", peerSelector="all()", localASNumber=64999)
    assert session_of(planned(peer), "192.168.26.2").local_as == 64999
    other = session_of(planned(peer, own="h2"), "192.168.26.1")
    assert (other.local_as, other.remote_as) == (None, 64999)


def test_a_router_that_all_hosts_tell_gets_own_blocks_only_else_those_of_the_others() -> None:
    assert not session_of(planned(TOR), "192.168.26.254").transit
    alone = resource("BGPPeer", "tor", node="h1", peerIP="192.168.26.254", asNumber=65000)
    assert session_of(planned(alone), "192.168.26.254").transit
    some = resource("BGPPeer", "b", node="h2", peerIP="192.168.26.254", asNumber=65000)
    session = session_of(planned(alone, some), "192.168.26.254")
    assert (session.transit, session.direct) == (True, (ip("192.168.26.2"),))
    assert "bgp_next_hop ~ [ 192.168.26.2 ] then reject;" in render(planned(alone, some))


def test_what_a_router_says_leads_neither_into_the_underlay_nor_into_own_blocks() -> None:
    text = render(planned(TOR))
    taken = next(line for line in text.splitlines() if "import filter { if net ~ [ 192" in line)
    assert "192.168.26.0/24+, 10.233.1.0/26+, 10.233.0.0/16{27,32}, 127.0.0.0/8+" in taken
    assert "10.233.1.0/26+" not in render(planned(replace_as(TOR, 64512)))  # a reflector may


def test_lengths_that_no_block_has_are_too_fine_to_come_from_a_router() -> None:
    made = seen(TOR)
    borrowed = block("10.233.7.9/32", "h2")
    blocks = {**made.cluster.blocks, ("blue", borrowed.cidr): borrowed}
    made = replace(made, cluster=replace(made.cluster, blocks=blocks))
    assert plan(made, RANGES).too_fine == ((POOL, 27, 31),)


def test_a_loan_is_taken_from_a_router_though_it_lies_inside_an_own_block() -> None:
    made = seen(TOR)
    loan = replace(block("10.233.1.9/32", "h2"), lender="h1")
    blocks = {**made.cluster.blocks, ("blue", loan.cidr): loan}
    made = replace(made, cluster=replace(made.cluster, blocks=blocks))
    done = plan(made, RANGES)
    assert (done.too_fine, done.loans) == (((POOL, 27, 32),), (loan.cidr,))
    text = render(done)
    taken = next(line for line in text.splitlines() if "import filter { if net ~ [ 192" in line)
    assert "] then if !(net ~ [ 10.233.1.9/32 ]) then reject; accept;" in taken
    there = plan(replace(made, host_id="h2"), RANGES)
    assert loan.cidr in there.own, "the borrower announces it"
    assert there.loans == ()


def replace_as(peer: Resource, number: int) -> Resource:
    return replace(peer, spec={**peer.spec, "asNumber": number})


def test_blocks_of_a_pool_that_is_not_exported_are_told_to_nobody() -> None:
    text = render(planned(TOR, disableBGPExport=True))
    assert text.count("if net ~ [ 10.233.0.0/16+ ] then reject;") == 3
    assert "route 10.233.1.0/26 blackhole;" in text
    paths = desired(seen(disableBGPExport=True)).paths
    assert paths["h2", "blue"] == "not announced (disableBGPExport)"


def test_communities_are_added_to_blocks_in_their_network() -> None:
    said = resource(
        "BGPConfiguration",
        "default",
        communities=[{"name": "blue", "value": "65001:100"}],
        prefixAdvertisements=[{"cidr": "10.233.0.0/20", "communities": ["blue", "1:2:3"]}],
    )
    assert (
        'if proto = "blocks4" then { if net ~ [ 10.233.0.0/20+ ] then '
        "{ bgp_community.add((65001, 100)); bgp_large_community.add((1, 2, 3)); } }"
    ) in render(planned(said))


@pytest.mark.parametrize(
    ("severity", "words"),
    [
        ("None", "\nrouter id"),
        ("Fatal", "{ fatal, bug };"),
        ("Info", "{ fatal, bug, error, warning, auth, info, remote };"),
        ("Debug", "debug protocols { states, events };"),
        ("Trace", "debug protocols all;"),
    ],
)
def test_a_severity_says_what_is_logged(severity: str, words: str) -> None:
    said = resource("BGPConfiguration", "default", logSeverityScreen=severity)
    text = render(planned(said))
    assert words in text
    assert ("log " in text) == (severity != "None")


def test_no_router_tells_of_the_network_of_an_own_card() -> None:
    """BIRD would try to write its route beside the kernel's own for ever."""
    card = ("ens33", iface("192.168.30.1/24"), 1500)
    tor = resource("BGPPeer", "tor", peerIP="192.168.26.254", asNumber=65000)
    made = seen(tor)
    made = replace(made, facts=replace(made.facts, candidates=(card,)))
    assert "192.168.30.0/24{24,24}" in render(plan(made, RANGES)), "what is finer may be taken"


def test_a_router_on_another_card_is_found_there_unless_it_is_ignored() -> None:
    peer = resource("BGPPeer", "far", peerIP="192.168.30.9", asNumber=65000)
    cards = (("ens33", iface("192.168.30.1/24"), 1500), ("ens32", iface("192.168.26.1/24"), 1500))
    for ignored, links in (([], ("ens33", "ens40")), (["ens3*", "ens33"], ("ens40",))):
        said = resource("BGPConfiguration", "default", ignoredInterfaces=ignored)
        made = seen(peer, said)
        own = facts("192.168.26.1/24", link="ens40", candidates=cards)
        assert plan(replace(made, facts=own), RANGES).links == links
    said = resource("BGPConfiguration", "default", ignoredInterfaces=["ens33"])
    assert told(planned(said)) == [
        "BGPConfiguration: spec.ignoredInterfaces: ens33 is the underlay and cannot be ignored"
    ]


FILTER = resource(
    "BGPFilter",
    "no-10.1",
    exportV4=[
        {"action": "Reject", "matchOperator": "In", "cidr": "10.233.1.0/26"},
        {
            "action": "Accept",
            "source": "RemotePeers",
            "operations": [{"prependASPath": {"prefix": [65001, 65002]}}],
        },
    ],
    importV4=[{"action": "Reject", "matchOperator": "Equal", "cidr": "0.0.0.0/0"}],
)


def test_filters_are_functions_that_stand_once_however_many_sessions_use_them() -> None:
    peers = [
        resource("BGPPeer", n, peerIP=a, asNumber=65000, filters=["no-10.1"])
        for n, a in (("a", "192.168.26.253"), ("b", "192.168.26.254"))
    ]
    text = render(planned(FILTER, *peers))
    assert text.count("# BGPFilter(no-10.1)\n") == 2  # one per direction
    assert "if (net ~ [ 10.233.1.0/26+ ]) then { reject; }" in text
    assert (
        "if (source = RTS_BGP) then "
        "{ bgp_path.prepend(65002); bgp_path.prepend(65001); accept; }" in text
    )
    assert "if (net = 0.0.0.0/0) then { reject; }" in text


def test_no_filter_lets_out_how_this_host_reaches_others() -> None:
    """A default route that a router heard of us, and sent on to us, would go round and round."""
    everything = resource("BGPFilter", "all", exportV4=[{"action": "Accept"}])
    tor = resource("BGPPeer", "tor", peerIP="192.168.26.254", asNumber=65000, filters=["all"])
    text = render(planned(everything, tor))
    (line,) = [line for line in text.splitlines() if "export filter" in line and "_export4" in line]
    guard = 'if !(proto = "blocks4" || source = RTS_BGP) then reject; '
    assert guard + "filter_" in line, "before the filter has its say"


TROUBLES: list[tuple[list[Resource], str]] = [
    (
        [resource("BGPPeer", "me", node="h1", peerIP="192.168.26.1", asNumber=64512)],
        "BGPPeer(me): spec.peerIP: 192.168.26.1 is h1's own address",
    ),
    (
        [resource("BGPPeer", "p", peerIP="192.168.26.254", asNumber=1, filters=["gone"])],
        "BGPPeer(p): spec.filters[0]: there is no BGPFilter(gone); nothing passes until it is",
    ),
    (
        [resource("BGPPeer", "p", peerSelector="role == 'nobody'")],
        "BGPPeer(p): spec.peerSelector: \"role == 'nobody'\" selects no host",
    ),
    (
        [resource("BGPPeer", "p", node="h9", peerIP="192.168.26.254", asNumber=1)],
        "BGPPeer(p): spec.node: no host is called 'h9'",
    ),
    (
        [resource("BGPConfiguration", "node.h9", asNumber=1)],
        "BGPConfiguration(node.h9): metadata.name: no host is called 'h9'",
    ),
    (
        [resource("BGPPeer", "p", peerIP="192.168.26.2", asNumber=65000)],
        "BGPPeer(p): spec.asNumber: 192.168.26.2 is host h2, of AS 64512 and not 65000",
    ),
    (
        [resource("BGPPeer", "p", peerIP="fd26::9", asNumber=65000)],
        "BGPPeer(p): spec.peerIP: this host has no IPv6 underlay address to peer with fd26::9 from",
    ),
    (
        [resource("BGPPeer", "broken", peerIP="192.168.26.254", asNumber=0)],
        "BGPPeer(broken): spec.asNumber: 0 is not an AS number",
    ),
    (
        [resource("BGPConfiguration", "default", listenPort=70000)],
        "BGPConfiguration(default): spec.listenPort: ",
    ),
    ([resource("Node", "h2", bgp={"asNumber": -1})], "Node(h2): spec.bgp.asNumber: "),
]


@pytest.mark.parametrize(("resources", "text"), TROUBLES)
def test_what_cannot_be_done_is_a_problem_that_names_resource_and_field(
    resources: list[Resource], text: str
) -> None:
    made = planned(*resources)
    assert [each for each in told(made) if each.startswith(text)], told(made)
    assert all(problem.remedy for problem in made.problems)
    assert "Mesh_192_168_26_3" in names(made)  # all else goes on


def test_a_filter_that_is_absent_lets_nothing_pass() -> None:
    peer = resource("BGPPeer", "p", peerIP="192.168.26.254", asNumber=1, filters=["gone"])
    text = render(planned(peer))
    assert "then reject; reject; accept; };" in text
    assert 'export filter { reject; if proto = "blocks4" then accept; reject; };' in text


SECRET = {"secretKeyRef": {"name": "bgp", "key": "tor"}}


@pytest.mark.parametrize(
    ("found", "text"),
    [
        (SecretText("s3cret"), ""),
        (SecretText(None, "the file x is not there", "write it"), "the file x is not there"),
        (SecretText('a"b'), "the secret bgp/tor has a quote, a line's end or another sign"),
        (SecretText("a\nb"), "the secret bgp/tor has a quote, a line's end or another sign"),
        (SecretText("x" * 81), "the secret bgp/tor is longer than 80 bytes"),
        (SecretText("s3cret", "its rights are wrong", "chmod"), "its rights are wrong"),
    ],
)
def test_a_session_without_its_password_is_left_out_and_said_to_be(
    found: SecretText, text: str
) -> None:
    """A file that went bad after it was good leaves the session as it is."""
    peer = resource("BGPPeer", "tor", peerIP="192.168.26.254", asNumber=65000, password=SECRET)
    secrets = MappingProxyType({Secret("bgp", "tor"): found})
    made = plan(replace(seen(peer), secrets=secrets), RANGES)
    assert any(s.router for s in made.sessions) == (found.text == "s3cret")
    assert told(made) == ([] if not text else [each for each in told(made) if text in each])
    assert bool(told(made)) == bool(text)
    assert found.text is None or found.text not in repr(made) + "".join(told(made))
    assert found.text != "s3cret" or 'password "s3cret";' in render(made)


def test_an_address_that_another_hand_gave_to_a_host_adds_nothing_to_the_configuration() -> None:
    made = view(
        [],
        hosts=[host("h1", "fd26::1"), host("h2", "fe80::1%x; } protocol static evil { ")],
        blocks=[block("fd00:10::/122", "h2")],
        own=facts("fd26::1/64"),
    )
    assert plan(made, {"blue": (net("fd00:10::/64"),)}).sessions == ()


def test_a_password_of_the_mesh_is_for_all_hosts_or_none() -> None:
    said = resource("BGPConfiguration", "node.h2", nodeMeshPassword=SECRET)
    assert told(planned(said)) == [
        "BGPConfiguration(node.h2): spec.nodeMeshPassword: that of one host has no effect"
    ]
