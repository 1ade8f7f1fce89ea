"""Blocks that are emptied: of disabled pools, and of a former size once there is one of the new."""

from __future__ import annotations

from typing import Any

import pytest
from tests.unit.views import block, ip, net

from netloom.core.ipam.draining import draining, outgrown, stranded
from netloom.core.ipam.ledger import Ledger
from netloom.core.ipam.supply import NeedBlock, Supply, pick
from netloom.model.errors import Exhausted
from netloom.model.network import Network

FORMER, PRESENT, OTHER = "10.1.0.0/26", "10.1.0.64/28", "10.2.0.0/26"


def network(mode: str = "on-demand", **first: Any) -> Network:
    pools = [
        {"cidr": "10.1.0.0/24", "blockSize": 28, **first},
        {"cidr": "10.2.0.0/24", "blockSize": 26},
    ]
    return Network.parse({"name": "blue", "pools": pools, "addressing": mode})


def supply(*cidrs: str, mode: str = "on-demand", **first: Any) -> Supply:
    return Supply(network(mode, **first), "h1", tuple(block(cidr, "h1") for cidr in cidrs))


@pytest.mark.parametrize(
    ("first", "held", "drained"),
    [
        ({}, [PRESENT], []),
        ({}, [FORMER], []),
        ({}, [FORMER, PRESENT], [FORMER]),
        ({}, [FORMER, PRESENT, OTHER], [FORMER]),
        ({"disabled": True}, [FORMER, PRESENT, OTHER], [FORMER, PRESENT]),
        ({"disabled": True}, [OTHER], []),
        ({"nodeSelector": "rack == '1'"}, [PRESENT], []),
    ],
)
def test_what_is_drained(first: dict[str, Any], held: list[str], drained: list[str]) -> None:
    assert draining(network(**first), [net(cidr) for cidr in held]) == {net(c) for c in drained}


@pytest.mark.parametrize(
    ("first", "labels", "expected"),
    [
        ({}, {}, ["10.3.0.0/26"]),
        ({"nodeSelector": "rack == '1'"}, {"rack": "1"}, ["10.3.0.0/26"]),
        ({"nodeSelector": "rack == '1'"}, {"rack": "2"}, [FORMER, PRESENT, "10.3.0.0/26"]),
        ({"nodeSelector": "rack == '1'"}, {}, [FORMER, PRESENT, "10.3.0.0/26"]),
        ({"nodeSelector": "rack == '1'"}, None, ["10.3.0.0/26"]),
        ({"nodeSelector": "rack != '1'"}, {"rack": "1"}, [FORMER, PRESENT, "10.3.0.0/26"]),
        ({"assignmentMode": "Manual"}, {}, ["10.3.0.0/26"]),
        ({"disabled": True}, {}, ["10.3.0.0/26"]),
    ],
)
def test_blocks_of_pools_that_left_or_that_do_not_select_the_host_are_stranded(
    first: dict[str, Any], labels: dict[str, str] | None, expected: list[str]
) -> None:
    """A manual pool is dealt from by number, so its blocks stay; 10.3 is in no pool."""
    held = [net(cidr) for cidr in (FORMER, PRESENT, OTHER, "10.3.0.0/26")]
    assert stranded(network(**first), held, labels) == {net(cidr) for cidr in expected}


def test_a_pool_is_outgrown_while_the_host_holds_former_sizes_alone() -> None:
    pool = network().pools[0]
    found = [outgrown(pool, map(net, held)) for held in ([], [FORMER], [FORMER, PRESENT], [OTHER])]
    assert found == [False, True, False, False]


def test_new_addresses_come_from_the_present_size_and_from_the_former_until_there_is_one() -> None:
    def dealt(source: Supply) -> str:
        ledger = Ledger("blue")
        source.configure(ledger)
        return str(pick(ledger, source, ())[0])

    assert dealt(supply(FORMER)) == "10.1.0.0"
    assert dealt(supply(FORMER, PRESENT)) == "10.1.0.64"


@pytest.mark.parametrize("mode", ["host-block", "on-demand"])
def test_a_full_block_of_the_former_size_does_not_keep_a_host_from_one_of_the_new(
    mode: str,
) -> None:
    source = supply("10.1.0.0/31", mode=mode)
    ledger = Ledger("blue")
    for number in (0, 1):
        ledger.hold(ip(f"10.1.0.{number}"), f"blue.c{number}.eth0")
    source.configure(ledger)
    with pytest.raises(NeedBlock) as need:
        pick(ledger, source, ())
    assert str(need.value.pool.cidr) == "10.1.0.0/24"
    own = supply("10.1.0.0/31", "10.1.0.16/28", OTHER, mode="host-block")
    assert not isinstance(_refusal(own), NeedBlock), "one of the present size is all it may have"


def _refusal(source: Supply) -> Exhausted:
    ledger = Ledger("blue")
    for cidr in source.cidrs():
        for number, address in enumerate(cidr):
            ledger.hold(address, f"blue.{cidr}{number}.eth0")
    source.configure(ledger)
    with pytest.raises(Exhausted) as refused:
        pick(ledger, source, ())
    return refused.value
