"""Rules of ours in iptables' tables: where they are wanted, and what is found there of them."""

from __future__ import annotations

from typing import Any

import pytest
from tests.unit.views import card, net, table, view
from tests.unit.views import facts as host_facts

from netloom.core.admission import admissions, found
from netloom.core.desired import desired
from netloom.core.underlay import facts
from netloom.model.kernel import Admission, ForwardDrop
from netloom.model.network import Network

BLUE = Network.parse({"name": "blue", "pools": ["10.244.0.0/16", "fd00:1::/48"]})
FOUR = Network.parse({"name": "four", "pools": ["10.9.0.0/16"]})
OURS = "NETLOOM-FORWARD"
DROP, ACCEPT, RETURN = {"drop": None}, {"accept": None}, {"return": None}
COUNTER = {"counter": {"packets": 1, "bytes": 2}}
REJECT = {"xt": {"type": "target", "name": "REJECT"}}
COMMENT = {"xt": {"type": "match", "name": "comment"}}


def chain(name: str, **base: Any) -> dict[str, Any]:
    return {"chain": {"family": "ip", "table": "filter", "name": name, **base}}


def forward(policy: str = "drop") -> dict[str, Any]:
    return chain("FORWARD", type="filter", hook="forward", prio=0, policy=policy)


def rule(of: str, *expr: Any, handle: int = 1) -> dict[str, Any]:
    where = {"family": "ip", "table": "filter", "chain": of, "handle": handle}
    return {"rule": {**where, "expr": list(expr)}}


def jump(of: str, target: str) -> dict[str, Any]:
    return rule(of, COUNTER, {"jump": {"target": target}})


def accept(end: str, addr: str, length: int) -> dict[str, Any]:
    left = {"payload": {"protocol": "ip", "field": end}}
    right = {"prefix": {"addr": addr, "len": length}}
    return rule(OURS, {"match": {"op": "==", "left": left, "right": right}}, COUNTER, ACCEPT)


def look(*items: Any) -> list[Any]:
    return list(found(4, {"nftables": [{"metainfo": {}}, *items]}))


OWN = (chain(OURS), accept("saddr", "10.9.0.0", 16), accept("daddr", "10.9.0.0", 16))
WANTED = Admission(4, "FORWARD", (net("10.9.0.0/16"),))
DOCKER = (forward(), chain("DOCKER-USER"), jump("FORWARD", "DOCKER-USER"))


def test_each_family_that_drops_gets_its_own_pools_and_no_others() -> None:
    drops = [ForwardDrop(4, "DOCKER-USER"), ForwardDrop(6, "FORWARD")]
    assert admissions([BLUE, FOUR], drops) == [
        Admission(4, "DOCKER-USER", (net("10.9.0.0/16"), net("10.244.0.0/16"))),
        Admission(6, "FORWARD", (net("fd00:1::/48"),)),
    ]
    assert admissions([BLUE], []) == []
    assert admissions([FOUR], drops[1:]) == []


@pytest.mark.parametrize(
    ("items", "where"),
    [
        ([forward()], "FORWARD"),
        ([forward("accept"), rule("FORWARD", COUNTER, DROP)], "FORWARD"),
        ([forward("accept"), rule("FORWARD", COUNTER, REJECT)], "FORWARD"),
        ([forward("accept"), rule("FORWARD", COMMENT, COUNTER, DROP)], "FORWARD"),
        (DOCKER, "DOCKER-USER"),
        ([forward(), chain("DOCKER-USER")], "FORWARD"),
        ([forward(), rule("FORWARD", DROP), *DOCKER[1:]], "FORWARD"),
        ([*DOCKER, rule("DOCKER-USER", COUNTER, RETURN)], "DOCKER-USER"),
        ([*DOCKER, rule("DOCKER-USER", COUNTER, DROP)], "DOCKER-USER"),
    ],
)
def test_what_drops_is_found_with_the_chain_that_is_asked_before(items: Any, where: str) -> None:
    """DOCKER-USER is only of use where every packet comes through it."""
    assert look(*items) == [ForwardDrop(4, where)]


@pytest.mark.parametrize(
    "items",
    [
        [],
        [forward("accept")],
        [forward(), rule("FORWARD", COUNTER, ACCEPT)],
        [forward("accept"), rule("FORWARD", {"limit": {"rate": 1}}, DROP)],
        [forward("accept"), rule("FORWARD", {"xt": {"type": "match", "name": "set"}}, DROP)],
        [chain("FORWARD"), rule("FORWARD", DROP)],
    ],
)
def test_what_lets_through_or_drops_under_a_condition_only_is_no_drop(items: Any) -> None:
    assert look(*items) == []


def test_what_we_want_is_what_is_found_once_it_is_there() -> None:
    there = look(forward(), *OWN, jump("FORWARD", OURS))
    assert there == [ForwardDrop(4, "FORWARD"), WANTED]


def test_it_is_found_where_nothing_drops_any_more_so_that_it_can_go() -> None:
    assert look(forward("accept"), *OWN, jump("FORWARD", OURS)) == [WANTED]
    assert look(*OWN) != []


@pytest.mark.parametrize(
    "items",
    [
        [forward(), *OWN],
        [forward(), chain(OURS), jump("FORWARD", OURS)],
        [forward(), *OWN[:2], jump("FORWARD", OURS)],
        [forward(), *OWN, rule(OURS, DROP), jump("FORWARD", OURS)],
        [forward(), *OWN, accept("saddr", "10.7.0.0", 16), jump("FORWARD", OURS)],
        [forward(), *OWN, jump("FORWARD", OURS), jump("FORWARD", OURS)],
        [*DOCKER, *OWN, jump("FORWARD", OURS), jump("DOCKER-USER", OURS)],
        [forward(), rule("FORWARD", COUNTER, DROP), *OWN, jump("FORWARD", OURS)],
        [*DOCKER[:2], *OWN, jump("DOCKER-USER", OURS)],
        [forward(), jump("FORWARD", OURS)],
    ],
    ids=[
        "no jump",
        "chain emptied",
        "one direction gone",
        "a rule added",
        "an accept added",
        "jump doubled",
        "jump in two chains",
        "a drop before the jump",
        "a chain that nobody asks",
        "a jump to nowhere",
    ],
)
def test_whatever_damage_is_done_it_is_still_ours_and_not_as_wanted(items: Any) -> None:
    (mine,) = [obj for obj in look(*items) if isinstance(obj, Admission)]
    assert mine.key == WANTED.key
    assert mine != WANTED


def test_from_what_the_kernel_shows_to_what_is_wanted_there() -> None:
    """The host's facts name what drops; of networks that stand the pools are let through."""
    drop = ForwardDrop(4, "DOCKER-USER")
    assert facts([*card("ens33", "192.168.31.62/24"), drop]).drops == (drop,)
    own = host_facts("192.168.31.62/24", drops=(drop, ForwardDrop(4, "FORWARD", legacy=True)))
    found = desired(view([FOUR], own=own))
    assert table(found.state, "admission") == [
        "admission iptables -I DOCKER-USER -j NETLOOM-FORWARD (accepts 10.9.0.0/16)",
        "admission iptables-legacy -I FORWARD -j NETLOOM-FORWARD (accepts 10.9.0.0/16)",
    ]
    assert table(desired(view([], own=own)).state, "admission") == []
    assert table(desired(view([FOUR])).state, "admission") == []
