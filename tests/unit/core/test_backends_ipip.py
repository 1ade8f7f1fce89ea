"""Backend ipip: one device, and for each peer one route that says where the outer packet goes."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.unit.views import block, facts, host, ip, net, network

from netloom.core import definition, underlay
from netloom.core.backends.contract import Side
from netloom.core.backends.ipip import IpipBackend, PreparedIpip
from netloom.core.bgp.giving_way import give_way
from netloom.core.ownership import owns
from netloom.model.errors import InvalidConfig
from netloom.model.kernel import Bird, Link, Route, state_of
from netloom.model.view import HostFacts
from netloom.model.wording import describe
from netloom.reconcile.delta import delta

V4 = facts("192.168.30.71/24")
FAR = host("h2", "192.168.30.72")
FAR_BLOCK = block("10.244.5.192/26", "h2")


def prepare(
    own: HostFacts = V4,
    *,
    blocks: tuple[str, ...] = ("10.244.7.64/26",),
    mtu: int = 0,
    **options: object,
) -> PreparedIpip:
    wanted = network("blue", "10.244.0.0/16", backend={"type": "ipip", **options}, mtu=mtu)
    held = tuple(block(cidr, "h1") for cidr in blocks)
    return IpipBackend().prepare(Side(wanted, host("h1"), own, held))


def test_the_device_is_calicos_with_the_first_address_of_the_first_block():
    prepared = prepare(blocks=("10.244.7.64/26", "10.244.9.0/26"))
    assert [describe(obj) for obj in prepared.objects.values()] == [
        "link tunl0 type ipip remote any local any mtu 1480 up",
        "address 10.244.7.64/32 dev tunl0",
    ]
    assert prepared.mtu_bytes == 1480
    assert prepared.problems == ()


def test_a_peer_is_a_route_to_the_peer_itself_into_the_tunnel():
    found = prepare().reach(FAR, FAR_BLOCK)
    assert list(found.objects.values()) == [
        Route(net("10.244.5.192/26"), "tunl0", ip("192.168.30.72"), onlink=True, protocol=12)
    ]
    assert found.path == "ipip tunl0 to 192.168.30.72"


@pytest.mark.parametrize("options", [{"mode": "CrossSubnet"}, {"crossSubnet": True}])
def test_across_subnets_only_a_peer_behind_a_router_is_reached_by_tunnel(options):
    prepared = prepare(**options)
    assert prepared.reach(FAR, FAR_BLOCK).path == "direct via 192.168.30.72 dev ens33"
    beyond = prepared.reach(host("h3", "192.168.31.73"), FAR_BLOCK)
    assert beyond.path == "ipip tunl0 to 192.168.31.73"


@pytest.mark.parametrize("options", [{}, {"mode": "Always"}, {"crossSubnet": False}])
def test_always_means_that_a_neighbour_is_reached_by_tunnel_too(options):
    assert prepare(**options).reach(FAR, FAR_BLOCK).path == "ipip tunl0 to 192.168.30.72"


@pytest.mark.parametrize(
    ("options", "field", "hint"),
    [
        ({"mode": "crosssubnet"}, "backend.mode", "CrossSubnet"),
        ({"mode": "Never"}, "backend.mode", "bgp or host-gw"),
        ({"mode": "Always", "crossSubnet": True}, "backend.crossSubnet", "leave one"),
        ({"mode": "CrossSubnet", "crossSubnet": False}, "backend.crossSubnet", "leave one"),
        ({"crossSubnet": "maybe"}, "backend.crossSubnet", ""),
        ({"vni": 1}, "backend.vni", ""),
    ],
)
def test_bad_options_are_refused_by_name_with_a_remedy(options, field, hint):
    with pytest.raises(InvalidConfig) as error:
        IpipBackend().parse(options, "backend")
    assert error.value.field == field
    assert hint in error.value.hint


def test_an_ipv6_pool_is_refused_with_its_name_and_a_remedy():
    with pytest.raises(InvalidConfig) as error:
        network("blue", "10.244.0.0/16", "fd00:20::/48", backend="ipip")
    assert error.value.field == "pools[1].cidr"
    assert "vxlan" in error.value.hint


def test_of_two_networks_with_ipip_the_second_is_refused_since_there_is_one_device():
    taken = network("blue", "10.244.0.0/16", backend="ipip")
    with pytest.raises(InvalidConfig) as error:
        definition.check_against(network("red", "10.99.0.0/16", backend="ipip"), [taken])
    assert "device tunl0" in str(error.value)


def test_a_host_without_an_ipv4_underlay_says_so_once():
    prepared = prepare(facts("2001:db8::10/64"))
    assert prepared.objects == {}
    (problem,) = prepared.problems
    assert "no IPv4 underlay address" in problem.text
    found = prepared.reach(FAR, FAR_BLOCK)
    assert (found.objects, found.problem) == ({}, None)


def test_a_peer_without_an_ipv4_address_is_refused_by_name():
    found = prepare().reach(host("h2", "2001:db8::20"), FAR_BLOCK)
    assert found.problem is not None
    assert found.problem.subject == "peer h2"


def test_a_lower_mtu_of_the_network_counts_and_so_does_the_underlays():
    assert prepare(mtu=1300).mtu_bytes == 1300
    assert prepare(facts("192.168.30.71/24", mtu=9000)).mtu_bytes == 8980


def test_no_container_gets_the_tunnels_address_and_without_a_block_there_is_none():
    assert prepare().excluded(block("10.244.7.64/26", "h1")) == {ip("10.244.7.64")}
    assert list(prepare(blocks=()).objects) == ["link tunl0"]


def test_where_the_tunnel_is_refused_only_what_leans_on_it_waits():
    """Another uses tunl0: the address and the routes into it are not even tried."""
    prepared = prepare()
    wanted = {**prepared.objects, **prepared.reach(FAR, FAR_BLOCK).objects}
    used = Link("tunl0", "ipip", up=True, mtu_bytes=1480)
    plan = delta(wanted, {"link": state_of(used)})
    assert not plan
    assert plan.waiting == set(wanted)


def test_routes_into_the_tunnel_are_in_birds_name_and_ours_by_their_device():
    """They read as Calico's users know them. Without our mark on the device they are another's."""
    (route,) = prepare().reach(FAR, FAR_BLOCK).objects.values()
    assert owns(route, frozenset({"tunl0"}))
    assert not owns(route, frozenset())
    assert not owns(replace(route, link="ens33"), frozenset({"tunl0", "ens33"}))


@pytest.mark.parametrize("bird", [{}, state_of(Bird("router id 192.168.30.71;"))])
@pytest.mark.parametrize("claimed", [(), (net("10.99.0.0/26"),)])
def test_beside_a_bird_they_are_in_our_own_since_it_deletes_what_it_takes_for_its_own(
    bird, claimed
):
    routes = prepare().reach(FAR, FAR_BLOCK).objects
    state = {**routes, **bird}
    give_way(state, claimed)
    (route,) = (obj for obj in state.values() if isinstance(obj, Route))
    assert route.protocol == (78 if bird or claimed else 12)
    assert replace(route, protocol=12) == next(iter(routes.values()))


def test_they_are_not_taken_for_what_a_bird_has_learned():
    route = next(iter(prepare().reach(FAR, FAR_BLOCK).objects.values()))
    own = Route(net("10.99.0.0/26"), "ens33", ip("192.168.30.72"), protocol=12)
    found = underlay.facts([Link("ens33", ""), route, own])
    assert dict(found.learned) == {net("10.99.0.0/26"): ip("192.168.30.72")}
