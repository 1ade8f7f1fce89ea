"""Attachment routed: a /32 on a veth of its own, as Calico's users know it."""

from __future__ import annotations

import ipaddress
from dataclasses import replace

import pytest
from tests.unit.views import block, endpoint, network, table

from netloom.core.attach.contract import Place
from netloom.core.attach.routed import GATEWAYS, HOST_MAC, PreparedRouted, RoutedAttachment
from netloom.model.errors import InvalidConfig
from netloom.model.gso import Gso
from netloom.model.host import Block
from netloom.model.kernel import Link
from netloom.model.wording import describe


def prepare(*blocks: Block, pools: tuple[str, ...] = ("10.9.0.0/16",)) -> PreparedRouted:
    wanted = network("red", *pools, attachment="routed", backend="host-gw")
    return RoutedAttachment().prepare(Place(wanted, "h1", blocks, 1500))


V4 = prepare(block("10.9.0.0/26", "h1", "red"))
DUAL = prepare(pools=("10.9.0.0/16", "fd00:9::/48"))


def link_of(prepared: PreparedRouted, *addresses: str) -> Link:
    part = prepared.part(endpoint("c1", *addresses, name="red", host_ifname="cali0123456789a"))
    link = part.objects["link cali0123456789a"]
    assert isinstance(link, Link)
    assert link.peer is not None
    return link


def test_an_own_block_is_a_blackhole_but_for_addresses_in_use():
    assert [describe(obj) for obj in V4.objects.values()] == ["route blackhole 10.9.0.0/26"]


def test_an_ipv6_block_is_one_too():
    prepared = prepare(block("fd00:9::/122", "h1", "red"), pools=("fd00:9::/48",))
    assert list(prepared.objects) == ["route fd00:9::/122 metric 1024"]


def test_a_block_of_one_address_is_no_blackhole():
    assert not prepare(block("10.9.0.1/32", "h1", "red")).objects


def test_a_loan_has_a_blackhole_behind_its_containers_route():
    """Else two hosts would send each other what comes for a container that is gone."""
    loan = Block("red", ipaddress.ip_network("10.9.7.1/32"), "h1", confirmed=True, lender="h2")
    assert list(prepare(loan).objects) == ["route 10.9.7.1/32 metric 65536"]


def test_the_host_has_a_route_and_a_permanent_neighbour_for_each_container():
    objects = V4.part(endpoint("c1", "10.9.0.3", name="red", host_ifname="cali0")).objects
    assert [describe(obj) for obj in objects.values()] == [
        f"link cali0 type veth address {HOST_MAC} mtu 1500 group 78 up",
        "route 10.9.0.3/32 dev cali0",
        "neighbour 10.9.0.3 lladdr 02:42:00:00:00:05 dev cali0 PERMANENT",
    ]
    assert objects["link cali0"].alias == "netloom:red"


def test_the_container_has_a_single_address_and_exactly_calicos_two_routes():
    peer = link_of(V4, "10.9.0.3").peer
    assert [str(address) for address in peer.addresses] == ["10.9.0.3/32"]
    assert [(str(to), str(gateway)) for to, gateway in peer.routes] == [
        ("169.254.1.1/32", "None"),
        ("0.0.0.0/0", "169.254.1.1"),
    ]


@pytest.mark.parametrize("ifname", ["eth0", "cali0", "eth1"])
def test_the_interface_that_leads_out_has_calicos_routes_whatever_its_name(ifname: str):
    only = replace(endpoint("c1", "10.9.0.3", "fd00:9::3", name="red"), ifname=ifname)
    assert [str(to) for to, _ in DUAL.part(only).attached.routes] == [
        "169.254.1.1/32",
        "0.0.0.0/0",
        "::/0",
    ]


def test_each_family_that_another_interface_leads_out_by_needs_ways_to_the_pools():
    four = replace(endpoint("c1", "10.9.0.3", "fd00:9::3", name="red"), led_out=(4,))
    assert [str(to) for to, _ in DUAL.part(four).attached.routes] == [
        "169.254.1.1/32",
        "10.9.0.0/16",
        "0.0.0.0/0",
        "::/0",
    ]


def test_an_interface_that_came_when_another_led_out_leads_to_its_pools_too():
    second = replace(endpoint("c1", "10.9.0.3", "fd00:9::3", name="red"), led_out=(4, 6))
    attached = DUAL.part(second).attached
    assert [(str(to), str(gateway)) for to, gateway in attached.routes] == [
        ("169.254.1.1/32", "None"),
        ("10.9.0.0/16", "169.254.1.1"),
        ("0.0.0.0/0", "169.254.1.1"),
        ("fd00:9::/48", "fe80::ecee:eeff:feee:eeee"),
        ("::/0", "fe80::ecee:eeff:feee:eeee"),
    ]


def test_the_containers_gateway_is_a_permanent_neighbour_so_that_nobody_has_to_answer():
    assert link_of(V4, "10.9.0.3").peer.neighbours == ((GATEWAYS[4], "ee:ee:ee:ee:ee:ee"),)


def test_dual_stack_has_an_ipv6_way_out_as_well():
    part = DUAL.part(endpoint("c1", "10.9.0.3", "fd00:9::3", name="red", host_ifname="cali0"))
    assert table(part.objects, "route") == [
        "route 10.9.0.3/32 dev cali0",
        "route fd00:9::3/128 dev cali0 metric 1024",
    ]
    peer = link_of(DUAL, "10.9.0.3", "fd00:9::3").peer
    assert [str(to) for to, _ in peer.routes] == ["169.254.1.1/32", "0.0.0.0/0", "::/0"]
    assert [str(gateway) for gateway, _ in peer.neighbours] == [
        "169.254.1.1",
        "fe80::ecee:eeff:feee:eeee",
    ]
    assert part.attached.gateways == (GATEWAYS[4], GATEWAYS[6])


def test_the_ipv6_gateway_is_the_link_local_address_that_the_hosts_mac_makes():
    mac = bytes.fromhex(HOST_MAC.replace(":", ""))
    eui64 = bytes([mac[0] ^ 2]) + mac[1:3] + b"\xff\xfe" + mac[3:]
    assert GATEWAYS[6] == ipaddress.IPv6Address(b"\xfe\x80" + bytes(6) + eui64)


def test_every_address_of_a_block_can_be_a_containers():
    assert V4.excluded(block("10.9.0.0/26", "h1", "red")) == frozenset()


def test_names_of_host_ends_are_cali_and_11_hex_digits():
    name = RoutedAttachment().host_ifname("red", "c1", "eth0")
    assert name.startswith("cali")
    assert len(name) == 15
    assert int(name[4:], 16) >= 0


def test_it_has_no_options():
    with pytest.raises(InvalidConfig) as caught:
        RoutedAttachment().parse({"bridge": "cni0"}, "attachment")
    assert caught.value.field == "attachment.bridge"


def test_the_container_sends_no_larger_pieces_than_the_card_takes():
    place = replace(V4.place, gso=Gso(32000, 24))
    peer = link_of(RoutedAttachment().prepare(place), "10.9.0.3").peer
    assert peer
    assert peer.gso == Gso(32000, 24)
