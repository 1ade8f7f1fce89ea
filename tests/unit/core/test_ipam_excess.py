"""Hosts that hold more blocks than a limit that was lowered lets them have."""

from __future__ import annotations

from typing import Any

import pytest
from tests.unit.views import block, net, network

from netloom.core.ipam.excess import excess
from netloom.model.host import Block
from netloom.model.resource import Resource
from netloom.model.view import Cluster

POOL = {"cidr": "10.1.0.0/24", "blockSize": 28}
HELD = (
    *(block(f"10.1.0.{16 * n}/28", "h1") for n in range(3)),
    block("10.1.0.64/28", "h2"),
    block("10.1.0.128/28", "h1", confirmed=False),
    block("10.1.0.192/26", "h1"),
)


def cluster(most: int = 0, pool: dict[str, Any] = POOL, **addressing: Any) -> Cluster:
    one = network("blue", pool, addressing=addressing, attachment="routed", backend="host-gw")  # type: ignore[arg-type]
    said = Resource(
        "IPAMConfiguration", "default", {"strictAffinity": True, "maxBlocksPerHost": most}
    )
    return Cluster(
        networks={"blue": one},
        resources={said.identity: said} if most else {},
        blocks={(each.network, each.cidr): each for each in HELD},
    )


def found(shown: Cluster) -> list[tuple[str, int, int, str]]:
    return [(each.host_id, each.held, each.limit, each.source) for each in excess(shown, HELD)]


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (cluster(mode="on-demand", maxBlocksPerHost=3), []),
        (
            cluster(mode="on-demand", maxBlocksPerHost=2),
            [("h1", 3, 2, "addressing.maxBlocksPerHost")],
        ),
        (cluster(2, mode="on-demand"), [("h1", 3, 2, "the IPAMConfiguration")]),
        (
            cluster(4, mode="on-demand", maxBlocksPerHost=1),
            [("h1", 3, 1, "addressing.maxBlocksPerHost")],
        ),
        (cluster(2, mode="host-block"), [("h1", 3, 1, "addressing mode host-block")]),
        (cluster(2, pool={**POOL, "disabled": True}, mode="on-demand"), []),
        (Cluster(), []),
    ],
)
def test_a_host_with_more_than_the_smaller_limit_is_told(
    shown: Cluster, expected: list[tuple[str, int, int, str]]
) -> None:
    """What is pending, of a former size, or of a pool that is drained does not count."""
    assert found(shown) == expected


def test_it_is_said_that_nothing_is_taken_away() -> None:
    (one,) = excess(cluster(2, mode="on-demand"), HELD)
    said = one.problem("web1")
    assert (said.severity, said.subject) == ("warning", "network blue")
    assert said.text == (
        "host web1 holds 3 blocks of pool 10.1.0.0/24, the IPAMConfiguration lets it have 2: it "
        "keeps them and claims no more"
    )


def test_a_loan_is_not_counted() -> None:
    one = cluster(
        pool={"cidr": "10.1.0.0/24", "blockSize": 32}, mode="on-demand", maxBlocksPerHost=1
    )
    loan = Block("blue", net("10.1.0.9/32"), "h1", True, "h2")
    assert excess(one, [block("10.1.0.1/32", "h1"), loan]) == []
