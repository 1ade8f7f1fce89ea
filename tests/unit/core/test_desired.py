"""From a view to what should be in the kernel, and what is said when part of it cannot be."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from tests.unit.views import block, endpoint, facts, host, ip, network, table, view

from netloom.core.backends.vxlan import tunnel_mac
from netloom.core.desired import Desired, Memory, desired
from netloom.model.endpoint import Bandwidth, PortMapping
from netloom.model.kernel import Link, NftTable, Qdisc
from netloom.model.network import Network
from netloom.model.view import HostFacts, Problem

BLUE = network("blue")
PEERS = [host("h2", "192.168.31.63"), host("h3", "192.168.31.64")]
BLOCKS = [
    block("10.244.1.0/24", "h1"),
    block("10.244.2.0/24", "h2"),
    block("10.244.3.0/24", "h3"),
]


def problems(found: Desired, subject: str) -> list[Problem]:
    return [problem for problem in found.problems if problem.subject == subject]


def refused(found: Desired, name: str) -> Problem:
    """Return why a network cannot stand; nothing of it is wanted and nothing of ours swept."""
    assert name not in found.standing
    assert found.hold
    (problem,) = problems(found, f"network {name}")
    assert problem.severity == "error"
    assert problem.remedy
    return problem


def test_scene_2_on_one_host():
    found = desired(view([BLUE], PEERS, BLOCKS, endpoints=[endpoint("c1", "10.244.1.5")]))
    assert found.problems == ()
    assert not found.hold
    assert table(found.state, "route") == [
        "route 10.244.2.0/24 via 10.244.2.0 dev flannel.1 onlink",
        "route 10.244.3.0/24 via 10.244.3.0 dev flannel.1 onlink",
    ]
    assert table(found.state, "address") == [
        "address 10.244.1.0/32 dev flannel.1",
        "address 10.244.1.1/24 dev cni0",
    ]
    assert {key for key in found.state if key.startswith("link")} == {
        "link flannel.1",
        "link cni0",
        "link vethc1",
    }
    assert table(found.state, "sysctl") == ["sysctl net.ipv4.ip_forward = 1"]
    assert found.paths == {
        ("h2", "blue"): "vxlan flannel.1 to 192.168.31.63",
        ("h3", "blue"): "vxlan flannel.1 to 192.168.31.64",
    }
    assert list(found.parts) == ["blue.c1.eth0"]


def test_both_ends_of_a_container_and_its_bridge_have_the_tunnels_mtu():
    found = desired(view([BLUE], PEERS, BLOCKS, endpoints=[endpoint("c1", "10.244.1.5")]))
    links = [obj for obj in found.state.values() if isinstance(obj, Link)]
    assert {link.mtu_bytes for link in links} == {1450}


def test_pending_blocks_are_neither_dealt_from_nor_routed():
    pending = [replace(each, confirmed=False) for each in BLOCKS]
    found = desired(view([BLUE], PEERS, pending))
    assert table(found.state, "route") == table(found.state, "address") == []
    assert found.standing["blue"].blocks == ()


def test_own_blocks_are_sorted_whatever_the_store_says_first():
    own = [block(f"10.244.{n}.0/24", "h1") for n in (9, 1, 5)]
    found = desired(view([BLUE], (), own))
    assert [str(b.cidr) for b in found.standing["blue"].blocks] == [
        "10.244.1.0/24",
        "10.244.5.0/24",
        "10.244.9.0/24",
    ]


def test_no_container_gets_what_backend_or_attachment_takes():
    own = block("10.244.1.0/24", "h1")
    found = desired(view([BLUE], (), [own]))
    taken = {"10.244.1.0", "10.244.1.1", "10.244.1.255"}
    assert found.standing["blue"].excluded(own) == {ip(text) for text in taken}


def test_ipv6_networks_turn_on_ipv6_forwarding():
    found = desired(view([network("blue", "fd00:10::/48")]))
    assert table(found.state, "sysctl")[:1] == ["sysctl net.ipv6.conf.all.forwarding = 1"]


def test_bandwidth_becomes_qdiscs_on_the_hosts_end():
    limited = endpoint("c1", "10.244.1.5", bandwidth=Bandwidth(8_000_000, 0, 16_000_000, 0))
    found = desired(view([BLUE], (), BLOCKS, endpoints=[limited]))
    shaped = [obj for obj in found.state.values() if isinstance(obj, Qdisc)]
    assert sorted((q.link, q.direction) for q in shaped) == [
        ("vethc1", "egress"),
        ("vethc1", "ingress"),
    ]


def test_a_published_port_is_in_the_firewall_and_opens_the_bridge_for_the_loopback():
    published = endpoint("c1", "10.244.1.5", ports=(PortMapping(8080, 80),))
    found = desired(view([BLUE], (), BLOCKS, endpoints=[published]))
    nft = found.state["nft table inet netloom"]
    assert isinstance(nft, NftTable)
    assert "8080" in nft.text
    assert "sysctl net.ipv4.conf.cni0.route_localnet = 1" in table(found.state, "sysctl")


# --- what cannot stand


@pytest.mark.parametrize(
    ("routes", "words"),
    [
        ([("10.244.7.0/24", "ens33")], "a route of this host: 10.244.7.0/24 dev ens33"),
        ([("10.244.7.0/24", "docker0")], "a route of this host: 10.244.7.0/24 dev docker0"),
        ([("10.0.0.0/8", "tun0")], "a route of this host: 10.0.0.0/8 dev tun0"),
    ],
)
def test_a_pool_that_collides_with_the_host_is_refused_by_name(routes, words):
    found = desired(view([BLUE], PEERS, BLOCKS, own=facts("192.168.31.62/24", routes=routes)))
    problem = refused(found, "blue")
    assert problem.text == f"pools[0].cidr: 10.244.0.0/16 collides with {words}"
    assert found.state == {}


def test_only_the_connected_network_of_the_underlay_is_called_the_underlay():
    own = facts("10.244.3.62/24", routes=[("10.244.3.0/24", "ens33"), ("10.244.7.0/24", "ens33")])
    problem = refused(desired(view([BLUE], PEERS, BLOCKS, own=own)), "blue")
    assert problem.text.endswith("collides with the underlay: 10.244.3.0/24 dev ens33")


def test_an_engines_own_bridge_may_have_the_hosts_block():
    """docker0 with the block by ``bip``: what flannel's users have after every start."""
    own = facts("192.168.31.62/24", routes=[("10.244.1.0/24", "docker0")])
    chosen = network("blue", attachment={"type": "bridge", "whenNeeded": True})
    found = desired(view([chosen], PEERS, BLOCKS, own=own))
    assert found.problems == ()


def test_two_bridges_with_one_network_are_told():
    """Docker has the block by ``bip``, and cni0 answers for its containers."""
    own = facts("192.168.31.62/24", routes=[("10.244.1.0/24", "docker0")])
    (problem,) = desired(view([BLUE], PEERS, BLOCKS, own=own)).problems
    assert (problem.severity, problem.subject) == ("warning", "network blue")
    assert problem.text.startswith("docker0 has the network 10.244.1.0/24 as cni0 has: containers")
    assert "network set blue attachment.whenNeeded=true" in problem.remedy


def test_a_network_beside_it_stands_all_the_same():
    red = network("red", "10.9.0.0/16", backend="host-gw", attachment="routed")
    own = facts("192.168.31.62/24", routes=[("10.244.0.0/16", "tun0")])
    blocks = [*BLOCKS, block("10.9.2.0/24", "h2", "red")]
    found = desired(view([BLUE, red], PEERS, blocks, own=own))
    refused(found, "blue")
    assert table(found.state, "route") == ["route 10.9.2.0/24 via 192.168.31.63 dev ens33"]


def test_a_collision_that_comes_later_is_said_and_takes_nothing_away():
    own = facts("192.168.31.62/24", routes=[("10.244.0.0/16", "tun0")])
    before, after = (
        desired(view([BLUE], PEERS, BLOCKS, own=each, admitted=["blue"]))
        for each in (facts("192.168.31.62/24"), own)
    )
    assert after.state == before.state
    assert not after.hold
    (problem,) = problems(after, "network blue")
    assert problem.severity == "warning"
    assert "tun0" in problem.text


def test_an_mtu_above_the_underlays_is_refused_with_the_greatest_possible():
    found = desired(view([network("blue", mtu=1460)], PEERS, BLOCKS))
    problem = refused(found, "blue")
    assert problem.text.startswith("mtu: 1460 is above what this host's underlay carries")
    assert problem.remedy == "choose at most 1450, or 0 for automatic"


def test_an_underlay_too_small_for_ipv6_is_refused_there_and_nowhere_else():
    small = facts("192.168.31.62/24", mtu=1320)
    assert not desired(view([BLUE], own=small)).hold
    problem = refused(desired(view([network("blue", "fd00:10::/48")], own=small)), "blue")
    assert "leaves 1270, and the least is 1280" in problem.text


def test_an_underlay_that_shrinks_takes_nothing_away():
    large = network("blue", mtu=8000)
    small = facts("192.168.31.62/24", mtu=1500)
    found = desired(view([large], PEERS, BLOCKS, own=small, admitted=["blue"]))
    assert found.standing["blue"].backend.mtu_bytes == 1450
    assert not found.hold
    assert problems(found, "network blue")[0].severity == "warning"


def test_a_host_without_underlay_keeps_what_stands_and_can_still_attach():
    found = desired(
        view([BLUE], PEERS, BLOCKS, own=HostFacts(), endpoints=[endpoint("c1", "10.244.1.5")])
    )
    assert found.hold
    assert "this host has no underlay address" in [problem.text for problem in found.problems]
    veth = found.state["link vethc1"]
    assert isinstance(veth, Link)
    assert veth.mtu_bytes == 1450


@pytest.mark.parametrize(
    "choice", [{"backend": "wireguard"}, {"attachment": "ipvlan"}, {"backend": {"vni": 0}}]
)
def test_a_network_that_this_version_cannot_do_harms_no_other(choice: dict[str, Any]):
    newer = Network.parse({"name": "new", "pools": ["10.7.0.0/16"], **choice})
    found = desired(view([BLUE, newer], PEERS, BLOCKS))
    refused(found, "new")
    assert len(table(found.state, "route")) == 2


@pytest.mark.parametrize(("admitted", "stands"), [([], "blue"), (["red"], "red")])
def test_of_two_networks_that_exclude_each_other_the_one_that_stands_stays(admitted, stands):
    rival = network("red", "10.9.0.0/16")  # the same VNI, the same bridge
    found = desired(view([rival, BLUE], (), BLOCKS, admitted=admitted))
    assert list(found.standing) == [stands]
    (other,) = {"blue", "red"} - {stands}
    assert f"used by network {stands} already" in refused(found, other).text


# --- hold: nothing is withdrawn because something failed


def firewall(found: Desired) -> str:
    nft = found.state["nft table inet netloom"]
    assert isinstance(nft, NftTable)
    return nft.text


def test_the_firewall_of_a_network_that_stood_stays_when_it_cannot_stand():
    red = network("red", "10.9.0.0/16", backend="host-gw", attachment="routed")
    published = endpoint("c1", "10.9.0.3", name="red", ports=(PortMapping(8080, 80),))
    worse = replace(red, backend=replace(red.backend, type="wireguard"))
    found = desired(
        view([BLUE, worse], (), BLOCKS, endpoints=[published], admitted=["blue", "red"])
    )
    refused(found, "red")
    assert "10.9.0.0/16" in firewall(found)
    assert "8080" in firewall(found)


def test_a_network_that_never_stood_is_not_in_the_firewall():
    own = facts("192.168.31.62/24", routes=[("10.9.0.0/16", "tun0")])
    red = network("red", "10.9.0.0/16", backend="host-gw", attachment="routed")
    assert "10.9.0.0/16" not in firewall(desired(view([BLUE, red], (), BLOCKS, own=own)))


def test_a_container_whose_network_is_gone_holds_everything_and_is_named():
    found = desired(view([BLUE], (), BLOCKS, endpoints=[endpoint("c1", "10.9.0.3", name="red")]))
    assert found.hold
    (problem,) = problems(found, "endpoint red.c1.eth0")
    assert "network red" in problem.text
    assert problem.remedy


def test_a_container_whose_block_is_gone_holds_its_bridge():
    """Without the block there is no bridge to want; to sweep it would cut the container off."""
    found = desired(view([BLUE], (), (), endpoints=[endpoint("c1", "10.244.1.5")]))
    assert "link cni0" not in found.state
    assert found.hold
    (problem,) = problems(found, "endpoint blue.c1.eth0")
    assert "10.244.1.5 is in no block" in problem.text


# --- peers


def test_a_peer_that_cannot_be_reached_is_one_problem_however_many_blocks_it_holds():
    far = network("blue", backend="host-gw")
    blocks = [block(f"10.244.{n}.0/24", "h2") for n in (2, 3, 4)]
    found = desired(view([far], [host("h2", "192.168.30.72")], blocks))
    assert len(problems(found, "peer h2")) == 1
    assert found.paths == {("h2", "blue"): ""}


def test_a_peer_of_two_families_has_both_ways_named():
    dual = network("blue", "10.244.0.0/16", "fd00:10::/48")
    blocks = [block("10.244.2.0/24", "h2"), block("fd00:10:0:2::/64", "h2")]
    own = facts("192.168.31.62/24", "2001:db8::62/64")
    peer = host("h2", "192.168.31.63", "2001:db8::63")
    ways = "vxlan flannel-v6.1 to 2001:db8::63, vxlan flannel.1 to 192.168.31.63"
    for order in (blocks, blocks[::-1]):
        assert desired(view([dual], [peer], order, own=own)).paths == {("h2", "blue"): ways}


def test_a_block_of_a_host_without_a_record_is_said():
    found = desired(view([BLUE], [], [block("10.244.7.0/24", "h7")]))
    (problem,) = problems(found, "host h7")
    assert problem.severity == "warning"
    assert "forget h7" in problem.remedy
    assert table(found.state, "route") == []


# --- memory


def test_memory_computes_only_what_changed():
    memory = Memory()
    before = desired(view([BLUE], PEERS, BLOCKS), memory)
    moved = [host("h2", "192.168.31.99"), PEERS[1]]
    after = desired(view([BLUE], moved, BLOCKS), memory)
    peers = {k: o for k, o in after.state.items() if o.kind_name in ("neighbour", "fdb", "route")}
    assert {key for key, obj in peers.items() if before.state[key] is not obj} == {
        "neighbour 10.244.2.0 dev flannel.1",
        f"fdb {tunnel_mac('blue', 'h2')} dev flannel.1",
        "route 10.244.2.0/24",
    }


def test_memory_of_a_container_is_not_used_when_the_underlay_changed():
    memory, container = Memory(), endpoint("c1", "10.244.1.5")
    for mtu in (1500, 9000):
        own = facts("192.168.31.62/24", mtu=mtu)
        found = desired(view([BLUE], PEERS, BLOCKS, own=own, endpoints=[container]), memory)
        veth = found.state["link vethc1"]
        assert isinstance(veth, Link)
        assert veth.mtu_bytes == mtu - 50


def test_memory_of_other_settings_is_not_used():
    memory = Memory()
    for vni in (1, 2):
        wanted = network("blue", backend={"vni": vni})
        found = desired(view([wanted], PEERS, BLOCKS), memory)
        assert table(found.state, "route")[0].endswith(f"dev flannel.{vni} onlink")


def test_what_two_blocks_of_a_peer_share_stands_as_long_as_one_of_them_needs_it():
    """Each is made anew and comes out the same, whichever of them goes in the end."""
    memory = Memory()
    own = facts("192.168.31.62/24")
    peer = host("h2", "192.168.31.63")
    blocks = [block("10.244.2.0/24", "h2"), block("10.244.3.0/24", "h2")]
    entry = f"fdb {tunnel_mac('blue', 'h2')} dev flannel.1"
    mine = [block("10.244.1.0/24", "h1"), block("10.244.9.0/24", "h1")]
    for held in (mine[:1], mine[1:], mine[:1]):
        found = desired(view([BLUE], [peer], [*held, *blocks], own=own), memory)
        assert entry in found.state
    for left in (blocks, blocks[1:], []):
        found = desired(view([BLUE], [peer], [mine[0], *left], own=own), memory)
        assert (entry in found.state) == bool(left)
