"""Choosing the underlay by Calico's methods: the same words, one answer for one kernel state."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
from tests.unit.views import card, default_route, ip, net

from netloom.core.interface_methods import Answer
from netloom.core.underlay import facts, facts_or_kept
from netloom.core.underlay_told import detours, verdicts
from netloom.model.errors import InvalidConfig
from netloom.model.kernel import KernelObject, Link, Route
from netloom.model.view import HostFacts

ENS32 = card("ens32", "192.168.26.71/24", "2001:db8:26::71/64", index=2)
ENS33 = card("ens33", "192.168.30.71/24", index=3)
DOCKER = card("docker0", "172.17.0.1/16", index=4)
ETH10 = card("eth10", "10.0.10.1/24", index=5)
ETH1 = card("eth1", "10.0.1.1/24", index=6)
WAY = [default_route("ens33", "192.168.30.1")]
ALL: list[KernelObject] = [*DOCKER, *ENS32, *ENS33, *ETH10, *ETH1, *WAY]


def chosen(found: HostFacts) -> dict[int, str]:
    return {family: f"{each.ip} {name}" for family, (name, each) in found.underlay.items()}


def unplugged(objects: list[KernelObject], name: str) -> list[KernelObject]:
    return [
        replace(obj, carrier=False) if isinstance(obj, Link) and obj.name == name else obj
        for obj in objects
    ]


@pytest.mark.parametrize(
    ("method", "wanted"),
    [
        ("interface=ens33,eth0", {4: "192.168.30.71 ens33"}),
        ("interface=eth0,ens32", {4: "192.168.26.71 ens32", 6: "2001:db8:26::71 ens32"}),
        ("interface=ens33, ens32", {4: "192.168.30.71 ens33"}),
        ("interface=eth1", {4: "10.0.1.1 eth1"}),
        ("interface=eth1.*", {4: "10.0.10.1 eth10"}),
        ("interface=ens.*", {4: "192.168.30.71 ens33"}),
        ("interface=ens3[0-2]", {4: "192.168.26.71 ens32", 6: "2001:db8:26::71 ens32"}),
        ("skip-interface=ens33,eth.*", {4: "192.168.26.71 ens32", 6: "2001:db8:26::71 ens32"}),
        ("skip-interface=eth1", {4: "192.168.30.71 ens33"}),
        ("can-reach=192.168.26.1", {4: "192.168.26.71 ens32", 6: "2001:db8:26::71 ens32"}),
        ("cidr=192.168.26.0/24", {4: "192.168.26.71 ens32", 6: "2001:db8:26::71 ens32"}),
        ("cidr=10.0.0.0/8,192.168.0.0/16", {4: "10.0.10.1 eth10"}),
        ("cidr=192.168.0.0/16", {4: "192.168.30.71 ens33"}),
        ("first-found", {4: "192.168.30.71 ens33"}),
        (
            "4:interface=ens33;6:interface=ens32",
            {4: "192.168.30.71 ens33", 6: "2001:db8:26::71 ens32"},
        ),
        ("4:interface=ens32", {4: "192.168.26.71 ens32", 6: "2001:db8:26::71 ens32"}),
        ("4:interface=ens32;6:none", {4: "192.168.26.71 ens32"}),
        (
            "6:cidr=2001:db8:26::/64;4:cidr=10.0.1.0/24",
            {4: "10.0.1.1 eth1", 6: "2001:db8:26::71 ens32"},
        ),
        ("6:none", {4: "192.168.30.71 ens33"}),
    ],
)
def test_a_method_gives_one_answer_in_whatever_order_the_kernel_tells(
    method: str, wanted: dict[int, str]
) -> None:
    for order in itertools.permutations([DOCKER, ENS32, ENS33, ETH10, ETH1, WAY]):
        found = facts(itertools.chain.from_iterable(order), method)
        assert chosen(found) == wanted
        assert found.reason


def test_a_card_without_a_carrier_comes_last() -> None:
    assert chosen(facts(unplugged(ALL, "ens33"), "interface=ens.*"))[4] == "192.168.26.71 ens32"
    assert chosen(facts(unplugged(ALL, "ens33"), "first-found"))[4] == "192.168.26.71 ens32"
    only = unplugged(list(ENS33), "ens33")
    assert chosen(facts(only, "first-found")) == {4: "192.168.30.71 ens33"}, "better than none"


def test_the_reason_names_the_method() -> None:
    found = facts(ALL, "4:skip-interface=eth.*,ens32;6:interface=ens32")
    assert found.reason == (
        "IPv4: 192.168.30.71 on ens33, by skip-interface eth.*,ens32; "
        "IPv6: 2001:db8:26::71 on ens32, by setting"
    )


@pytest.mark.parametrize(
    ("method", "words", "hint"),
    [
        ("kubernetes-internal-ip", "needs the Kubernetes datastore", "cidr="),
        ("4:kubernetes-internal-ip", "needs the Kubernetes datastore", ""),
        ("skip-interfaces=a", "is no way to choose one", "did you mean 'skip-interface'?"),
        ("cidr=192.168.26.1/24", "has host bits set", "did you mean 192.168.26.0/24?"),
        ("interface=ens(", "regex 'ens\\('", ""),
        ("first-found=yes", "is no way to choose one", "write first-found alone"),
        ("cidr=", "is no way to choose one", "write cidr=VALUE"),
        ("can-reach=192.168.300.1", "is not an IP address", ""),
        ("can-reach=192.168.30", "is not an IP address", ""),
        ("can-reach=www.example.org:80", "is not an IP address", ""),
        ("can-reach=-x.example.org", "is not an IP address", ""),
        ("can-reach=www..example.org", "is not an IP address", ""),
        ("can-reach=www.example.org", "its address is being asked for", "nothing to do"),
        ("cidr=203.0.113.0/24", "none of this host's interfaces is found", "ens32 192.168.26.71"),
        ("skip-interface=.*", "none of this host's interfaces is found", ""),
    ],
)
def test_what_cannot_choose_is_refused_with_a_remedy(method: str, words: str, hint: str) -> None:
    with pytest.raises(InvalidConfig, match=words) as caught:
        facts(ALL, method)
    assert hint in caught.value.hint


def test_every_candidate_is_told_with_its_reason() -> None:
    there = unplugged(ALL, "eth1")
    told = {
        (link, str(address.ip)): (taken, why)
        for link, address, taken, why in verdicts(
            facts(there, "skip-interface=ens32"), "skip-interface=ens32"
        )
    }
    assert told["ens33", "192.168.30.71"] == (True, "by skip-interface ens32")
    assert told["docker0", "172.17.0.1"] == (False, "interfaces called docker.* are left out")
    assert told["eth1", "10.0.1.1"] == (False, "it has no carrier")
    assert told["ens32", "192.168.26.71"] == (False, "not chosen by skip-interface ens32")
    assert len(told) == 6


def test_what_was_chosen_stays_when_its_method_finds_nothing_any_more() -> None:
    before = facts(ALL, "cidr=192.168.26.0/24")
    left = [*ENS33, *WAY, *ENS32]
    now = facts_or_kept(left, "cidr=203.0.113.0/24", before)
    assert chosen(now)[4] == "192.168.26.71 ens32"
    assert now.refusal
    assert "203.0.113.0/24" in now.refusal[0]
    again = facts_or_kept(left, "interface=ens33", now)
    assert chosen(again)[4] == "192.168.30.71 ens33"
    assert again.refusal is None
    with pytest.raises(InvalidConfig):
        facts_or_kept(left, "cidr=203.0.113.0/24", None)


GATEWAY = "gateway.example.org"


@pytest.mark.parametrize(
    ("method", "addresses", "wanted"),
    [
        ("can-reach=", ["192.168.26.1"], {4: "192.168.26.71 ens32", 6: "2001:db8:26::71 ens32"}),
        ("can-reach=", ["192.168.30.1"], {4: "192.168.30.71 ens33"}),
        ("can-reach=", ["192.168.30.1", "10.0.1.9"], {4: "10.0.1.1 eth1"}),
        (
            "can-reach=",
            ["192.168.30.1", "2001:db8:26::1"],
            {4: "192.168.30.71 ens33", 6: "2001:db8:26::71 ens32"},
        ),
        ("6:can-reach=", ["2001:db9::1", "2001:db8:26::1"], {6: "2001:db8:26::71 ens32"}),
        ("can-reach=nosuch.example.org;4:cidr=10.0.1.0/24;can-reach=", [], {4: "10.0.1.1 eth1"}),
    ],
)
def test_a_name_chooses_by_its_addresses_in_whatever_order_they_are_told(
    method: str, addresses: list[str], wanted: dict[int, str]
) -> None:
    for order in itertools.permutations(addresses):
        names = {
            GATEWAY: Answer(tuple(map(ip, order)), "" if order else "unknown"),
            "nosuch.example.org": Answer(trouble="Name or service not known"),
        }
        found = chosen(facts(ALL, method + GATEWAY, names))
        assert {family: found[family] for family in wanted} == wanted


def test_what_is_known_of_a_name_is_told_with_the_choice() -> None:
    method = f"can-reach={GATEWAY}"
    known = Answer((ip("192.168.30.1"),))
    found = facts(ALL, method, {GATEWAY: known})
    assert found.reason == (
        "IPv4: 192.168.30.71 on ens33, by can-reach gateway.example.org (192.168.30.1)"
    )
    away = replace(known, trouble="Temporary failure in name resolution")
    now = facts_or_kept(ALL, method, found, {GATEWAY: away})
    assert chosen(now) == chosen(found)
    told = {link: why for link, _, taken, why in verdicts(now, method) if taken}
    assert told == {
        "ens33": "by can-reach gateway.example.org (192.168.30.1 as last known: "
        "Temporary failure in name resolution)"
    }


def test_a_name_that_leads_nowhere_is_told_with_why() -> None:
    away = Answer(trouble="Temporary failure in name resolution")
    with pytest.raises(InvalidConfig, match=r"none .* is found by can-reach 'gateway.example.org' "
                       r"\(Temporary failure in name resolution\)"):  # fmt: skip
        facts(ALL, f"can-reach={GATEWAY}", {GATEWAY: away})


def test_while_a_name_is_asked_for_nothing_else_is_chosen() -> None:
    """The next method is for a name without addresses; to choose twice would move tunnels twice."""
    method = f"can-reach={GATEWAY};first-found"
    with pytest.raises(InvalidConfig, match="is being asked for"):
        facts(ALL, method, {GATEWAY: Answer(pending=True)})
    before = facts(ALL, "interface=ens32")
    now = facts_or_kept(ALL, method, before, {GATEWAY: Answer(pending=True)})
    assert chosen(now) == chosen(before)
    gone = facts_or_kept(ALL, method, now, {GATEWAY: Answer(trouble="no such name")})
    assert chosen(gone)[4] == "192.168.30.71 ens33"
    assert chosen(facts(ALL, f"interface=ens32;can-reach={GATEWAY}"))[4] == "192.168.26.71 ens32"


def test_a_peer_that_is_reached_over_another_card_is_told() -> None:
    way = Route(net("10.9.0.0/16"), "ens32", ip("192.168.26.1"), protocol=4)
    own = facts([*ALL, way], "interface=ens33")
    peers = [
        ("vms72", ip("192.168.30.72")),
        ("vms73", ip("192.168.26.73")),
        ("far", ip("10.9.0.1")),
        ("farther", ip("198.51.100.1")),
    ]
    problems = [found for each in peers if (found := detours(own)(*each))]
    assert [problem.subject for problem in problems] == ["peer vms73", "peer far"]
    assert problems[0].text == (
        "its address 192.168.26.73 is reached over ens32, not over ens33, the underlay"
    )
    assert "--interface ens32" in problems[0].remedy
