"""Which interface and address are the underlay, why, and what else the host has."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.unit.views import card, default_route, iface, ip, net

from netloom.core.underlay import facts, facts_or_kept, steady
from netloom.core.underlay_told import problems
from netloom.model.errors import InvalidConfig
from netloom.model.gso import BY_DEFAULT, Gso
from netloom.model.kernel import Address, KernelObject, Link, Route, Vxlan
from netloom.model.view import HostFacts

LO = [Link("lo", "", index=1), Address("lo", iface("127.0.0.1/8"))]
ENS32 = card("ens32", "192.168.26.71/24", index=2)
ENS33 = card("ens33", "192.168.30.71/24", index=3, mtu=9000)


def chosen(found: HostFacts) -> dict[int, str]:
    return {family: f"{each} {name}" for family, (name, each) in found.underlay.items()}


def test_the_default_routes_interface_is_the_underlay_and_the_reason_says_so():
    found = facts([*LO, *ENS32, *ENS33, default_route("ens33", "192.168.30.1")])
    assert chosen(found) == {4: "192.168.30.71/24 ens33"}
    assert found.reason == "IPv4: 192.168.30.71 on ens33, the default route's"
    assert found.mtu_bytes == 9000
    assert not found.makeshift


def test_of_several_default_routes_the_one_of_least_metric_counts():
    routes = [
        default_route("ens32", "192.168.26.2", metric=100),
        default_route("ens33", "192.168.30.1", metric=50),
    ]
    for order in (routes, routes[::-1]):
        assert chosen(facts([*ENS32, *ENS33, *order])) == {4: "192.168.30.71/24 ens33"}


def test_each_family_follows_its_own_default_route():
    both = [
        *card("ens32", "192.168.26.71/24", "2001:db8:a::71/64"),
        *card("ens33", "192.168.30.71/24", "2001:db8:b::71/64", index=3),
    ]
    ways = [default_route("ens32", "192.168.26.2"), default_route("ens33", "2001:db8:b::1", 1024)]
    found = facts([*both, *ways])
    assert chosen(found) == {4: "192.168.26.71/24 ens32", 6: "2001:db8:b::71/64 ens33"}


def test_a_family_without_default_route_takes_the_other_familys_interface():
    links = card("ens32", "192.168.26.71/24", "2001:db8:a::71/64")
    found = facts([*ENS33, *links, default_route("ens32", "192.168.26.2")])
    assert chosen(found)[6] == "2001:db8:a::71/64 ens32"
    assert "IPv6: 2001:db8:a::71 on ens32, as IPv4" in found.reason
    assert found.makeshift == {6}


def test_the_mtu_is_the_least_of_the_chosen_interfaces():
    six = card("ens33", "2001:db8:b::71/64", index=3, mtu=1280)
    ways = [default_route("ens32", "192.168.26.2"), default_route("ens33", "2001:db8:b::1", 1024)]
    assert facts([*ENS32, *six, *ways]).mtu_bytes == 1280


def test_what_is_taken_in_one_piece_is_the_least_that_the_chosen_interfaces_take():
    four, address = card("ens32", "192.168.26.71/24")
    six, address6 = card("ens33", "2001:db8:b::71/64", index=3)
    other = replace(card("ens34", index=4)[0], gso=Gso(3000, 2))
    ways = [default_route("ens32", "192.168.26.2"), default_route("ens33", "2001:db8:b::1", 1024)]
    limited = [replace(four, gso=Gso(32000, 64)), address, replace(six, gso=Gso(62780, 24))]
    assert facts([*limited, address6, other, *ways]).gso == Gso(32000, 24)


@pytest.mark.parametrize("told", [Gso(196608, 65535), Gso(0, 0), Gso(400, 1)])
def test_a_limit_raised_by_another_or_too_small_for_a_packet_is_none(told: Gso):
    link, address = ENS32
    found = facts([replace(link, gso=told), address, default_route("ens32", "192.168.26.2")])
    assert found.gso == BY_DEFAULT


def test_an_underlay_that_is_kept_keeps_what_it_takes_in_one_piece():
    link, address = ENS32
    way = default_route("ens32", "192.168.26.2")
    before = facts([replace(link, gso=Gso(32000, 24)), address, way])
    assert steady(before, facts([*LO])).gso == Gso(32000, 24)


def test_without_default_route_the_first_interface_that_is_up_and_has_an_address_is_taken():
    down = card("ens31", "10.0.0.1/24", index=1, up=False)
    found = facts([*LO, *down, *ENS33, *ENS32])
    assert chosen(found) == {4: "192.168.26.71/24 ens32"}
    assert "no default route" in found.reason
    assert found.makeshift == {4}


def test_a_host_without_addresses_has_no_underlay_and_a_reason():
    found = facts([*LO, *card("ens32", "fe80::1/64", "169.254.3.4/16")])
    assert not found.underlay
    assert found.reason == "no interface has a global address"
    assert found.mtu_bytes == 1500


def test_a_default_route_over_an_interface_without_an_address_is_passed_over():
    tun = [Link("tun0", "tun", index=9), default_route("ens33", "192.168.30.1", metric=100)]
    way = Route(net("0.0.0.0/0"), "tun0", protocol=3)
    assert chosen(facts([*ENS33, *tun, way])) == {4: "192.168.30.71/24 ens33"}


def test_a_default_route_with_several_next_hops_is_one_by_its_first():
    """Hosts with two uplinks of equal cost have none but such."""
    several = replace(default_route("ens33", "192.168.30.1"), type="multipath")
    found = facts([*LO, *ENS32, *ENS33, several])
    assert chosen(found) == {4: "192.168.30.71/24 ens33"}
    assert found.reason == "IPv4: 192.168.30.71 on ens33, the default route's"


def test_a_default_route_without_a_carrier_is_passed_over_and_moves_who_is_there_already_nowhere():
    ways = [default_route("ens32", "192.168.26.2"), default_route("ens33", "192.168.30.1", 200)]
    plugged = facts([*ENS32, *ENS33, *ways])
    assert chosen(plugged) == {4: "192.168.26.71/24 ens32"}
    pulled = facts([replace(ENS32[0], carrier=False), ENS32[1], *ENS33, *ways])
    assert chosen(pulled) == {4: "192.168.30.71/24 ens33"}
    assert "ens32 has none" in pulled.reason
    assert chosen(steady(plugged, pulled)) == chosen(plugged)
    assert chosen(steady(pulled, plugged)) == chosen(plugged)


def test_a_blackhole_default_route_leads_nowhere():
    way = Route(net("0.0.0.0/0"), type="blackhole", protocol=3)
    assert facts([*ENS33, way]).makeshift == {4}


def test_links_of_our_own_are_never_the_underlay():
    bridge = [
        Link("cni0", "bridge", alias="netloom:blue", index=1),
        Address("cni0", iface("10.244.1.1/24")),
    ]
    assert chosen(facts([*bridge, *ENS32])) == {4: "192.168.26.71/24 ens32"}


def test_of_several_ipv4_addresses_the_primary_counts_and_not_a_secondary_one():
    links = card("ens32", "192.168.26.71/24", "192.168.26.5/24")
    assert chosen(facts(links)) == {4: "192.168.26.71/24 ens32"}


def test_a_permanent_address_counts_before_one_with_a_lifetime():
    link, lease, fixed = card("ens32", "192.168.26.71/24", "192.168.26.5/24")
    leased = replace(lease, permanent=False)
    for order in ([leased, fixed], [fixed, leased]):
        assert chosen(facts([link, *order])) == {4: "192.168.26.5/24 ens32"}


def test_of_several_ipv6_addresses_the_oldest_counts():
    """The kernel lists the newest first; a privacy address made an hour ago must not move us."""
    link, new, old = card("ens32", "2001:db8::bad/64", "2001:db8::71/64")
    lifetimes = [replace(new, permanent=False), replace(old, permanent=False)]
    assert chosen(facts([link, *lifetimes])) == {6: "2001:db8::71/64 ens32"}


def test_a_named_interface_is_the_underlay_whatever_the_routes_say():
    found = facts([*ENS32, *ENS33, default_route("ens33", "192.168.30.1")], "ens32")
    assert chosen(found) == {4: "192.168.26.71/24 ens32"}
    assert found.reason == "IPv4: 192.168.26.71 on ens32, by setting"


@pytest.mark.parametrize(
    ("name", "text", "hint"),
    [
        ("ens99", "not an interface of this host", "ens32, ens34, lo"),
        ("ens34", "no global address", "give it an address"),
    ],
)
def test_a_named_interface_that_cannot_be_is_refused(name, text, hint):
    with pytest.raises(InvalidConfig) as caught:
        facts([*LO, *ENS32, *card("ens34", index=4)], name)
    assert (caught.value.field, caught.value.value) == ("interface", name)
    assert text in str(caught.value)
    assert hint in caught.value.hint


def test_a_device_of_our_own_is_not_among_those_to_choose_from():
    ours = Link("flannel.1", "vxlan", alias="netloom:blue", index=9)
    with pytest.raises(InvalidConfig) as caught:
        facts([*ENS32, ours], "nope")
    assert caught.value.hint == "there are: ens32"


def test_ranges_are_what_others_route_and_are_connected_to():
    objects: list[KernelObject] = [
        *LO,
        *ENS32,
        Link("cni0", "bridge", alias="netloom:blue", index=9),
        Address("cni0", iface("10.244.1.1/24")),
        Route(net("10.244.1.0/24"), "cni0", protocol=2),
        Route(net("10.244.2.0/24"), "ens32", ip("192.168.26.72")),
        Route(net("172.30.0.0/16"), "ens32", protocol=4),
        Route(net("192.168.26.0/24"), "ens32", protocol=2),
        Route(net("ff00::/8"), "ens32", protocol=2),
        Route(net("fe80::/64"), "ens32", protocol=2),
        default_route("ens32", "192.168.26.2"),
    ]
    assert facts(objects).routes == (
        (net("172.30.0.0/16"), "ens32"),
        (net("192.168.26.0/24"), "ens32"),
    )


def test_vxlan_devices_of_others_are_told():
    settings = Vxlan(1, 4789, "ens32", ip("192.168.26.71"))
    mine = Link("flannel.1", "vxlan", alias="netloom:blue", vxlan=settings)
    assert facts([*ENS32, mine, Link("vx", "vxlan", vxlan=settings)]).vxlans == (("vx", 1, 4789),)


# --- steady: what is merely lost tears nothing down

WAY32 = default_route("ens32", "192.168.26.2")
WAY33 = default_route("ens33", "192.168.30.1")
BEFORE = facts([*ENS32, *ENS33, WAY33])


def test_a_lost_address_is_kept_until_another_is_there():
    gone = steady(BEFORE, facts([ENS33[0]]))
    assert gone.underlay == BEFORE.underlay
    assert gone.mtu_bytes == BEFORE.mtu_bytes
    assert "192.168.30.71 on ens33 is gone" in gone.reason


def test_an_address_that_is_on_another_interface_now_is_followed_there():
    """A card was renamed, or became a bridge's port, and a person had named it."""
    renamed = [replace(ENS33[0], name="lan0"), replace(ENS33[1], link="lan0"), WAY32, *ENS32]
    before = facts([*ENS32, *ENS33, WAY32], "ens33")
    now = facts_or_kept(renamed, "ens33", before)
    assert chosen(now) == {4: "192.168.30.71/24 lan0"}
    assert "192.168.30.71 on lan0, chosen before when it was on ens33" in now.reason
    assert [each.text for each in problems(now)] == [
        "interface: 'ens33' is not an interface of this host; what was chosen stays"
    ]
    assert chosen(facts_or_kept(renamed, "ens33", now)) == chosen(now)


def test_the_reason_of_a_lost_address_does_not_grow():
    lost = facts([ENS33[0]])
    once = steady(BEFORE, lost)
    assert steady(once, lost) == once


def test_another_address_in_the_same_network_takes_over_at_once():
    """No default route here, and the interface is still connected to the old address's network."""
    before = facts(ENS32)
    now = steady(before, facts(card("ens32", "192.168.26.99/24")))
    assert chosen(now) == {4: "192.168.26.99/24 ens32"}


def test_a_lost_default_route_moves_nothing_while_the_address_is_there():
    now = steady(BEFORE, facts([*ENS32, *ENS33]))
    assert chosen(now) == {4: "192.168.30.71/24 ens33"}
    assert now.mtu_bytes == 9000


def test_a_lost_default_route_moves_nothing_even_if_the_other_family_still_has_one():
    dual = [*card("ens32", "192.168.26.71/24", "2001:db8:a::71/64"), *ENS33]
    six = default_route("ens32", "2001:db8:a::1", 1024)
    before = facts([*dual, WAY33, six])
    now = steady(before, facts([*dual, six]))
    assert chosen(now) == {4: "192.168.30.71/24 ens33", 6: "2001:db8:a::71/64 ens32"}
    assert now.mtu_bytes == 1500


def test_a_new_default_route_elsewhere_is_followed():
    assert chosen(steady(BEFORE, facts([*ENS32, *ENS33, WAY32]))) == {4: "192.168.26.71/24 ens32"}


def test_a_further_address_on_the_same_interface_moves_nothing():
    before = facts(card("ens32", "2001:db8::71/64"))
    now = facts(card("ens32", "2001:db8::71/64", "2001:db8::5/64"))
    assert chosen(now) != chosen(before)
    assert chosen(steady(before, now)) == chosen(before)


def test_what_is_as_before_is_as_it_is():
    assert steady(BEFORE, BEFORE) is BEFORE


def test_a_family_that_comes_anew_is_taken():
    both = card("ens32", "192.168.26.71/24", "2001:db8::1/64")
    now = steady(facts([*ENS32, WAY32]), facts([*both, WAY32]))
    assert set(now.underlay) == {4, 6}


# --- problems: what a person should look at


def test_an_underlay_that_is_there_and_up_is_no_problem():
    assert list(problems(BEFORE)) == []


def test_an_address_that_is_gone_and_an_interface_that_is_down_are_named():
    gone = steady(BEFORE, facts([ENS33[0]]))
    (problem,) = problems(gone)
    assert problem.text == "the address 192.168.30.71 of ens33 is gone"
    assert "ens33" in problem.remedy
    assert list(problems(steady(gone, BEFORE))) == [], "once it is back nothing is wrong"
    down = facts([replace(ENS33[0], up=False), ENS33[1]])
    assert [problem.text for problem in problems(down)] == ["ens33 is down"]


def test_a_pulled_cable_of_the_underlay_is_a_warning_and_changes_nothing():
    pulled = replace(ENS33[0], carrier=False)
    plugged = facts(ENS33)
    found = facts([pulled, ENS33[1], *ENS32], "ens33")
    (problem,) = problems(found)
    assert (problem.severity, problem.text) == ("warning", "ens33 has no carrier")
    assert "cable" in problem.remedy
    assert found.underlay == plugged.underlay
    assert not list(problems(facts([pulled, ENS33[1], *ENS32], "ens32"))), "only the underlay's"
    off = facts([replace(pulled, up=False), ENS33[1]])
    assert [each.text for each in problems(off)] == ["ens33 is down"], "said once"
