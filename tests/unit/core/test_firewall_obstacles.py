"""Chains of other firewalls that drop what is forwarded: found, named, with what helps."""

from __future__ import annotations

from typing import Any

from netloom.core.obstacles import forward_drops
from netloom.model.network import Network

BLUE = Network.parse({"name": "blue", "pools": ["10.244.0.0/16", "fd00:1::/48"]})
SIX = Network.parse({"name": "six", "pools": ["fd00:1::/48"]})
FOUR = Network.parse({"name": "four", "pools": ["10.244.0.0/16"]})


def chain(name: str, *, family: str = "ip", table: str = "filter", **base: Any) -> dict[str, Any]:
    return {"chain": {"family": family, "table": table, "name": name, **base}}


def forward(policy: str = "drop", **place: Any) -> dict[str, Any]:
    return chain("FORWARD", type="filter", hook="forward", prio=0, policy=policy, **place)


def rule(of: str, *expr: Any, family: str = "ip", table: str = "filter") -> dict[str, Any]:
    return {"rule": {"family": family, "table": table, "chain": of, "expr": list(expr)}}


def match(end: str, addr: str, length: int, protocol: str = "ip") -> dict[str, Any]:
    left = {"payload": {"protocol": protocol, "field": end}}
    return {"match": {"op": "==", "left": left, "right": {"prefix": {"addr": addr, "len": length}}}}


def ruleset(*items: Any) -> dict[str, Any]:
    return {"nftables": [{"metainfo": {}}, *items]}


ACCEPT, DROP = {"accept": None}, {"drop": None}
BOTH = (
    rule("DOCKER-USER", match("saddr", "10.244.0.0", 16), {"counter": {}}, ACCEPT),
    rule("DOCKER-USER", match("daddr", "10.0.0.0", 8), ACCEPT),
)


def test_dockers_forward_drop_is_named_with_the_commands_that_help() -> None:
    found = forward_drops(ruleset(forward(), chain("DOCKER-USER")), [BLUE])
    assert [problem.subject for problem in found] == ["firewall ip filter FORWARD"]
    assert found[0].remedy == (
        "iptables -I DOCKER-USER -s 10.244.0.0/16 -j ACCEPT; "
        "iptables -I DOCKER-USER -d 10.244.0.0/16 -j ACCEPT"
    )
    assert "10.244.0.0/16" in found[0].text
    assert "fd00" not in found[0].text, "an IPv4 table does not touch IPv6"


def test_the_remedy_once_followed_ends_the_problem() -> None:
    jump = rule("FORWARD", {"counter": {}}, {"jump": {"target": "DOCKER-USER"}})
    assert not forward_drops(ruleset(forward(), chain("DOCKER-USER"), jump, *BOTH), [FOUR])


def test_rules_in_a_chain_that_nobody_jumps_to_help_nothing() -> None:
    assert forward_drops(ruleset(forward(), chain("DOCKER-USER"), *BOTH), [FOUR])


def test_an_accept_of_one_direction_or_under_a_condition_is_not_enough() -> None:
    half = rule("FORWARD", match("saddr", "10.244.0.0", 16), ACCEPT)
    established = rule(
        "FORWARD",
        {"match": {"op": "in", "left": {"ct": {"key": "state"}}, "right": ["established"]}},
        ACCEPT,
    )
    part = rule("FORWARD", match("daddr", "10.244.1.0", 24), ACCEPT)
    assert forward_drops(ruleset(forward(), half, established, part), [FOUR])


def test_a_jump_under_a_condition_counts_only_for_what_the_condition_lets_through() -> None:
    other = rule("FORWARD", match("saddr", "192.168.0.0", 16), {"jump": {"target": "DOCKER-USER"}})
    assert forward_drops(ruleset(forward(), chain("DOCKER-USER"), other, *BOTH), [FOUR])


def test_policy_accept_other_hooks_other_families_and_our_own_table_are_no_problem() -> None:
    mine = forward(family="inet", table="netloom")
    lone = chain("INPUT", type="filter", hook="input", policy="drop")
    assert not forward_drops(ruleset(forward("accept"), mine, lone), [BLUE])
    assert not forward_drops(ruleset(forward()), [SIX])


def test_a_table_of_nftables_gets_nft_commands_for_both_families() -> None:
    (found,) = forward_drops(ruleset(forward(family="inet", table="site")), [BLUE])
    assert found.remedy.split("; ") == [
        "nft insert rule inet site FORWARD ip saddr 10.244.0.0/16 accept",
        "nft insert rule inet site FORWARD ip daddr 10.244.0.0/16 accept",
        "nft insert rule inet site FORWARD ip6 saddr fd00:1::/48 accept",
        "nft insert rule inet site FORWARD ip6 daddr fd00:1::/48 accept",
    ]


def test_chains_that_jump_in_a_ring_end() -> None:
    ring = [
        chain("A"),
        rule("FORWARD", {"jump": {"target": "A"}}),
        rule("A", {"jump": {"target": "A"}}),
    ]
    assert forward_drops(ruleset(forward(), *ring), [FOUR])


def test_a_rule_that_drops_a_pool_is_named_where_the_policy_is_to_accept() -> None:
    """In a chain that is jumped to, too; an accept that comes after it is of no use."""
    jump = rule("FORWARD", {"counter": {}}, {"jump": {"target": "SITE"}})
    site = rule("SITE", match("daddr", "10.0.0.0", 8), {"counter": {}}, DROP)
    late = rule("FORWARD", match("daddr", "10.244.0.0", 16), ACCEPT)
    (found,) = forward_drops(ruleset(forward("accept"), chain("SITE"), jump, site, late), [FOUR])
    assert "(rule of chain SITE: ip daddr 10.0.0.0/8 drop)" in found.text
    assert found.severity == "error"
    early = rule("FORWARD", match("daddr", "10.244.0.0", 16), ACCEPT)
    assert not forward_drops(ruleset(forward("accept"), chain("SITE"), early, jump, site), [FOUR])


def test_a_rule_that_rejects_everything_is_named_as_one_of_an_old_iptables_service() -> None:
    reject = rule("FORWARD", {"counter": {}}, {"xt": {"type": "target", "name": "REJECT"}})
    (found,) = forward_drops(ruleset(forward("accept"), reject), [FOUR])
    assert "(rule of chain FORWARD: reject)" in found.text


def test_a_rule_that_drops_a_part_of_a_pool_is_a_warning_as_it_may_be_meant() -> None:
    one = rule("FORWARD", match("saddr", "10.244.3.0", 24), DROP)
    (found,) = forward_drops(ruleset(forward("accept"), one), [FOUR])
    assert found.severity == "warning"
    assert "ip saddr 10.244.3.0/24 drop" in found.text


def test_what_is_dropped_under_other_conditions_or_after_a_return_is_no_problem() -> None:
    isolation = rule(
        "FORWARD",
        {"match": {"op": "==", "left": {"meta": {"key": "oifname"}}, "right": "docker0"}},
        DROP,
    )
    set_of_xt = rule("FORWARD", {"xt": {"type": "match", "name": "set"}}, DROP)
    jump = rule("FORWARD", {"jump": {"target": "SITE"}})
    back = rule("SITE", match("saddr", "10.244.0.0", 16), {"return": None})
    also = rule("SITE", match("daddr", "10.244.0.0", 16), {"return": None})
    rest = rule("SITE", DROP)
    items = [isolation, set_of_xt, chain("SITE"), jump, back, also, rest]
    assert not forward_drops(ruleset(forward("accept"), *items), [FOUR])


def test_our_own_rules_inside_of_it_end_the_problem() -> None:
    jump = rule("FORWARD", {"counter": {}}, {"jump": {"target": "NETLOOM-FORWARD"}})
    own = [
        rule("NETLOOM-FORWARD", match(end, "10.244.0.0", 16), {"counter": {}}, ACCEPT)
        for end in ("saddr", "daddr")
    ]
    assert not forward_drops(ruleset(forward(), chain("NETLOOM-FORWARD"), jump, *own), [FOUR])
