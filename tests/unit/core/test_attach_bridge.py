"""Attachment bridge: cni0 with the .1 of each block, and what a container sees."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.unit.views import block, endpoint, ip, network

from netloom.core.attach.bridge import BridgeAttachment, PreparedBridge, bridge_mac
from netloom.core.attach.contract import Place
from netloom.model.errors import InvalidConfig
from netloom.model.gso import Gso
from netloom.model.host import Block
from netloom.model.kernel import Link
from netloom.model.wording import describe


def prepare(*blocks: Block, pools: tuple[str, ...] = ("10.244.0.0/16",)) -> PreparedBridge:
    return BridgeAttachment().prepare(Place(network("blue", *pools), "h1", blocks, 1450))


V4 = prepare(block("10.244.1.0/24", "h1"))
DUAL = prepare(
    block("10.244.1.0/24", "h1"),
    block("fd00:10:0:1::/64", "h1"),
    pools=("10.244.0.0/16", "fd00:10::/48"),
)


def peer_of(prepared: PreparedBridge, *addresses: str) -> tuple[list[str], list[str]]:
    part = prepared.part(endpoint("c1", *addresses))
    (link,) = part.objects.values()
    assert isinstance(link, Link)
    assert link.peer is not None
    routes = [f"{to} via {gateway}" for to, gateway in link.peer.routes]
    return [str(address) for address in link.peer.addresses], routes


def test_the_bridge_has_the_first_host_address_and_a_mac_of_its_own():
    assert [describe(obj) for obj in V4.objects.values()] == [
        f"link cni0 type bridge address {bridge_mac('blue', 'h1')} mtu 1450 group 78 up",
        "address 10.244.1.1/24 dev cni0",
    ]
    assert V4.objects["link cni0"].alias == "netloom:blue"


def test_with_ipv6_the_bridge_neither_learns_routers_nor_waits_for_duplicates():
    assert [describe(obj) for obj in DUAL.objects.values()][1:] == [
        "address 10.244.1.1/24 dev cni0",
        "address fd00:10:0:1::1/64 dev cni0",
        "sysctl net.ipv6.conf.cni0.accept_ra = 0",
        "sysctl net.ipv6.conf.cni0.accept_dad = 0",
    ]


def test_every_block_has_its_gateway_on_the_bridge():
    prepared = prepare(block("10.244.1.0/26", "h1"), block("10.244.1.64/26", "h1"))
    assert {"address 10.244.1.1/26 dev cni0", "address 10.244.1.65/26 dev cni0"} <= set(
        prepared.objects
    )


def test_a_host_without_a_block_has_no_bridge():
    assert not prepare().objects


def test_a_container_has_the_blocks_prefix_a_default_route_and_one_to_the_pool():
    assert peer_of(V4, "10.244.1.5") == (
        ["10.244.1.5/24"],
        ["0.0.0.0/0 via 10.244.1.1", "10.244.0.0/16 via 10.244.1.1"],
    )


def test_a_dual_stack_container_has_both():
    assert peer_of(DUAL, "10.244.1.5", "fd00:10:0:1::5") == (
        ["10.244.1.5/24", "fd00:10:0:1::5/64"],
        [
            "0.0.0.0/0 via 10.244.1.1",
            "10.244.0.0/16 via 10.244.1.1",
            "::/0 via fd00:10:0:1::1",
            "fd00:10::/48 via fd00:10:0:1::1",
        ],
    )


def test_a_pool_that_is_one_block_needs_no_route_besides_the_containers_own():
    prepared = prepare(block("10.244.1.0/24", "h1"), pools=("10.244.1.0/24",))
    assert peer_of(prepared, "10.244.1.5")[1] == ["0.0.0.0/0 via 10.244.1.1"]


def test_the_gateway_is_that_of_the_addresss_own_block():
    prepared = prepare(block("10.244.1.0/26", "h1"), block("10.244.1.64/26", "h1"))
    assert prepared.part(endpoint("c1", "10.244.1.70")).attached.gateways == (ip("10.244.1.65"),)


def test_the_veth_is_a_port_of_the_bridge_with_the_networks_mtu_on_both_ends():
    part = V4.part(endpoint("c1", "10.244.1.5", host_ifname="veth01234567"))
    (link,) = part.objects.values()
    assert isinstance(link, Link)
    assert (link.name, link.kind) == ("veth01234567", "veth")
    assert (link.master, link.hairpin) == ("cni0", True)
    assert link.peer is not None
    assert (link.mtu_bytes, link.peer.mtu_bytes) == (1450, 1450)
    assert (link.peer.netns, link.peer.ifname) == ("/run/netns/c1", "eth0")
    assert link.alias == "netloom:blue"
    assert link.mac not in (None, link.peer.mac)


def test_what_the_runtime_is_told_is_what_the_container_gets():
    attached = V4.part(endpoint("c1", "10.244.1.5")).attached
    assert [str(a) for a in attached.addresses] == ["10.244.1.5/24"]
    assert (attached.bridge, attached.bridge_mac) == ("cni0", bridge_mac("blue", "h1"))


@pytest.mark.parametrize(
    ("cidr", "taken"),
    [
        ("10.244.1.0/24", {"10.244.1.0", "10.244.1.1", "10.244.1.255"}),
        ("10.244.1.64/26", {"10.244.1.64", "10.244.1.65", "10.244.1.127"}),
        ("10.244.1.4/30", {"10.244.1.4", "10.244.1.5", "10.244.1.7"}),
        ("fd00:10:0:1::/64", {"fd00:10:0:1::", "fd00:10:0:1::1"}),
    ],
)
def test_no_container_gets_the_network_the_gateways_or_the_broadcast_address(cidr, taken):
    assert V4.excluded(block(cidr, "h1")) == {ip(text) for text in taken}


def test_names_of_host_ends_fit_the_kernel_and_tell_containers_apart():
    name = BridgeAttachment().host_ifname("blue", "c1", "eth0")
    assert name.startswith("veth")
    assert len(name) == 12
    others = [("blue", "c2", "eth0"), ("blue", "c1", "eth1"), ("red", "c1", "eth0")]
    assert name not in [BridgeAttachment().host_ifname(*other) for other in others]


@pytest.mark.parametrize("name", ["", "a/b", "a b", "x" * 16, "br%d", "all", "default", "lo", "."])
def test_a_bridge_name_that_is_none_is_refused(name):
    with pytest.raises(InvalidConfig) as caught:
        BridgeAttachment().parse({"bridge": name}, "attachment")
    assert caught.value.field == "attachment.bridge"
    assert caught.value.value == name
    assert caught.value.hint


def test_an_unknown_option_names_the_nearest():
    with pytest.raises(InvalidConfig) as caught:
        BridgeAttachment().parse({"hairpin": True}, "attachment")
    assert caught.value.hint == "did you mean 'hairpinMode'?"


def test_a_bridge_that_is_wanted_when_needed_comes_with_the_first_container():
    chosen = network("blue", "10.244.0.0/16", attachment={"type": "bridge", "whenNeeded": True})
    prepared = BridgeAttachment().prepare(
        Place(chosen, "h1", (block("10.244.1.0/24", "h1"),), 1450)
    )
    assert prepared.objects == {}
    part = prepared.part(endpoint("c1", "10.244.1.2"))
    assert {**V4.objects, **V4.part(endpoint("c1", "10.244.1.2")).objects} == part.objects


def test_the_container_sends_no_larger_pieces_than_the_card_takes():
    place = replace(V4.place, gso=Gso(32000, 24))
    part = BridgeAttachment().prepare(place).part(endpoint("c1", "10.244.1.2"))
    (link,) = part.objects.values()
    assert isinstance(link, Link)
    assert link.peer
    assert link.peer.gso == Gso(32000, 24)
