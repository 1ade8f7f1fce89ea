"""Choosing the underlay by name, address, pattern or reachability, as flannel's users say it."""

from __future__ import annotations

import itertools

import pytest
from tests.unit.views import card, default_route, ip, net

from netloom.core.underlay import facts
from netloom.model.errors import InvalidConfig
from netloom.model.kernel import KernelObject, Route
from netloom.model.view import HostFacts

ENS32 = card("ens32", "192.168.26.71/24", "2001:db8:26::71/64", index=2)
ENS33 = card("ens33", "192.168.30.71/24", "192.168.30.99/24", index=3)
BARE = card("eth9", index=4)
ALL: list[KernelObject] = [*ENS32, *ENS33, *BARE, default_route("ens32", "192.168.26.2")]


def chosen(found: HostFacts) -> dict[int, str]:
    return {family: f"{each.ip} {name}" for family, (name, each) in found.underlay.items()}


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("ens33", {4: "192.168.30.71 ens33"}),
        ("interface=ens33", {4: "192.168.30.71 ens33"}),
        ("192.168.30.99", {4: "192.168.30.99 ens33"}),
        ("192.168.26.71", {4: "192.168.26.71 ens32", 6: "2001:db8:26::71 ens32"}),
        ("interface=nosuch;interface=ens33", {4: "192.168.30.71 ens33"}),
        ("interface=eth9;regex=^ens3[3-9]$", {4: "192.168.30.71 ens33"}),
        ("regex=^ens", {4: "192.168.26.71 ens32", 6: "2001:db8:26::71 ens32"}),
        (r"regex=192\.168\.30\.", {4: "192.168.30.71 ens33"}),
        ("can-reach=192.168.30.1", {4: "192.168.30.71 ens33"}),
        ("can-reach=8.8.8.8", {4: "192.168.26.71 ens32", 6: "2001:db8:26::71 ens32"}),
        ("public=192.168.30.71", {4: "192.168.30.71 ens33"}),
        ("public=203.0.113.7", {4: "192.168.26.71 ens32", 6: "2001:db8:26::71 ens32"}),
    ],
)
def test_what_a_person_says_finds_the_interface_in_whatever_order_the_kernel_tells(
    text: str, wanted: dict[int, str]
):
    # addresses of one link keep their order: it tells which one is the primary
    for order in itertools.permutations([ENS32, ENS33, BARE, ALL[-1:]]):
        found = facts(itertools.chain.from_iterable(order), text)
        assert chosen(found) == wanted
        assert found.reason


def test_the_reason_names_the_method():
    found = facts(ALL, "interface=nosuch;can-reach=192.168.30.1")
    assert found.reason == "IPv4: 192.168.30.71 on ens33, by can-reach 192.168.30.1"


def test_of_several_ways_to_an_address_the_longest_prefix_counts():
    way = Route(net("10.9.0.0/16"), "ens33", ip("192.168.30.1"), protocol=4)
    assert chosen(facts([*ALL, way], "can-reach=10.9.1.1"))[4] == "192.168.30.71 ens33"


def test_a_way_with_several_next_hops_leads_by_its_first():
    way = Route(net("10.9.0.0/16"), "ens33", ip("192.168.30.1"), type="multipath", protocol=4)
    assert chosen(facts([*ALL, way], "can-reach=10.9.1.1"))[4] == "192.168.30.71 ens33"


@pytest.mark.parametrize("kind", ["unreachable", "blackhole", "prohibit"])
def test_what_a_route_of_the_host_ends_is_not_reached_by_a_shorter_one(kind: str):
    end = Route(net("203.0.113.0/24"), type=kind, protocol=4)
    with pytest.raises(InvalidConfig, match=r"found by can-reach '203\.0\.113\.9'"):
        facts([*ALL, end], "can-reach=203.0.113.9")
    thrown = Route(net("203.0.113.0/24"), type="throw", protocol=4)
    assert chosen(facts([*ALL, thrown], "can-reach=203.0.113.9"))[4] == "192.168.26.71 ens32"


def test_peers_reach_a_host_behind_nat_at_its_public_address_and_the_tunnel_uses_its_own():
    found = facts(ALL, "interface=ens33;public=203.0.113.7")
    assert found.underlay_address(4) == ip("203.0.113.7")
    assert str(found.underlay[4][1].ip) == "192.168.30.71"
    assert "known to peers as 203.0.113.7" in found.reason


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("nosuch", "'nosuch' is not an interface", "ens32"),
        ("interface=ens*", "'ens\\*' is not an interface", "has to match a whole name"),
        ("eth9", "'eth9' has no global address", "address"),
        ("interface=a;regex=^b", "interface 'a', regex '\\^b'", "ens33 192.168.30.71"),
        ("can-reach=2001:db9::1", "can-reach '2001:db9::1'", "ens32"),
        ("can-reach=gate way", "'gate way' is not an IP address", ""),
        ("regex=(", "regex '\\('", "regex=\\^eth"),
        ("regexp=^a", "'regexp=\\^a' is no way", "did you mean 'regex'"),
        ("regex=", "'regex=' is no way", "regex=VALUE"),
        ("public=me", "'me' is not an IP address", ""),
    ],
)
def test_what_finds_nothing_or_means_nothing_says_what_there_is(text: str, message: str, hint: str):
    with pytest.raises(InvalidConfig, match=message) as caught:
        facts(ALL, text)
    assert hint.replace("\\", "") in caught.value.hint
