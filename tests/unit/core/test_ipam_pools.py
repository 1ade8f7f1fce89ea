"""Which pools give addresses to a host: open ones, and manual ones to who asks by number."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from tests.unit.views import block, ip, net, network

from netloom.core.ipam.configured import limited
from netloom.core.ipam.ledger import Ledger
from netloom.core.ipam.reserved import reserved
from netloom.core.ipam.supply import NeedBlock, Supply, pick
from netloom.core.resources.table import KINDS
from netloom.model.errors import Conflict, Exhausted, InvalidConfig
from netloom.model.host import Reservation
from netloom.model.network import Addressing, Network
from netloom.model.resource import Resource
from netloom.model.view import Cluster

OLD, NEW = "10.1.0.0/24", "10.2.0.0/24"


def supply(
    old: dict[str, Any], *, labels: dict[str, str] | None = None, new: bool = True
) -> Supply:
    pools = [{"cidr": OLD, "blockSize": 26, **old}] + (
        [{"cidr": NEW, "blockSize": 26}] if new else []
    )
    network = Network.parse({"name": "blue", "pools": pools, "addressing": "on-demand"})
    blocks = [block("10.1.0.0/26", "h1"), block("10.2.0.0/26", "h1")]
    return Supply(network, "h1", tuple(blocks[: len(pools)]), labels=labels or {})


def dealt(source: Supply, *wanted: str) -> list[str]:
    ledger = Ledger("blue")
    source.configure(ledger)
    return [str(address) for address in pick(ledger, source, tuple(map(ip, wanted)))]


def test_an_open_pool_deals() -> None:
    assert dealt(supply({})) == ["10.1.0.0"]


@pytest.mark.parametrize(
    "closed",
    [{"disabled": True}, {"nodeSelector": "rack == '1'"}, {"assignmentMode": "Manual"}],
)
def test_new_addresses_come_from_the_pools_that_are_open(closed: dict[str, Any]) -> None:
    assert dealt(supply(closed)) == ["10.2.0.0"]


def test_a_pool_is_open_to_the_hosts_that_it_selects() -> None:
    assert dealt(supply({"nodeSelector": "rack == '1'"}, labels={"rack": "1"})) == ["10.1.0.0"]


def test_an_address_of_a_manual_pool_is_given_to_who_asks_for_it() -> None:
    assert dealt(supply({"assignmentMode": "Manual"}), "10.1.0.7") == ["10.1.0.7"]


@pytest.mark.parametrize(
    ("closed", "words"),
    [
        ({"disabled": True}, "which is disabled"),
        ({"nodeSelector": "rack == '1'"}, "which is for hosts with rack == '1' alone"),
    ],
)
def test_an_address_of_a_closed_pool_is_refused(closed: dict[str, Any], words: str) -> None:
    with pytest.raises(Conflict, match=words):
        dealt(supply(closed), "10.1.0.7")


def test_where_no_pool_is_open_no_block_is_asked_for() -> None:
    with pytest.raises(Exhausted, match="no IPv4 pool is open to this host") as caught:
        dealt(supply({"disabled": True}, new=False))
    assert not isinstance(caught.value, NeedBlock)


def test_a_new_block_is_asked_of_open_pools_alone() -> None:
    source = supply({"disabled": True})
    empty = Supply(source.network, "h1", (source.blocks[0],))
    with pytest.raises(NeedBlock) as caught:
        dealt(empty)
    assert [str(pool.cidr) for pool in caught.value.pools] == [NEW]


def reservation(*cidrs: str) -> Resource:
    data = {
        "kind": "IPReservation",
        "metadata": {"name": "printers"},
        "spec": {"reservedCIDRs": list(cidrs)},
    }
    return Resource.parse(data)


def test_an_ipreservation_speaks_of_every_network_that_it_touches() -> None:
    document = reservation("10.1.0.0/30", "192.0.2.1")
    own = Reservation("blue", net("10.1.0.8/29"))
    cluster = Cluster(
        resources={document.identity: document},
        reservations={("blue", own.cidr): own, ("red", own.cidr): Reservation("red", own.cidr)},
    )
    network = supply({}).network
    assert [str(each.cidr) for each in reserved(cluster, network)] == ["10.1.0.8/29", "10.1.0.0/30"]
    source = supply({})
    kept = Supply(network, "h1", source.blocks, reservations=reserved(cluster, network))
    assert dealt(kept) == ["10.1.0.4"]


def test_an_ipreservation_is_checked() -> None:
    assert KINDS["IPReservation"].check(reservation("10.0.0.0/8", "fd00::1")) == ()
    with pytest.raises(InvalidConfig, match=r"spec\.reservedCIDRs\[1\]"):
        KINDS["IPReservation"].check(reservation("10.0.0.0/8", "10.0.0.1/8"))


@pytest.mark.parametrize(
    ("spec", "mode", "limit"),
    [
        ({"strictAffinity": True, "maxBlocksPerHost": 2}, "on-demand", 2),
        ({"strictAffinity": True, "maxBlocksPerHost": 30}, "on-demand", 20),
        ({"strictAffinity": True, "maxBlocksPerHost": 2}, "host-block", 1),
        ({"strictAffinity": True}, "on-demand", 20),
        ({"maxBlocksPerHost": "many"}, "on-demand", 20),
    ],
)
def test_an_ipam_configuration_limits_the_blocks_of_on_demand_networks(
    spec: dict[str, Any], mode: str, limit: int
) -> None:
    document = Resource("IPAMConfiguration", "default", spec)
    cluster = Cluster(resources={document.identity: document})
    before = network("blue", OLD, addressing=mode)
    assert limited(cluster, before).addressing.max_blocks_per_host == limit


def test_the_limit_of_an_ipam_configuration_is_a_hosts() -> None:
    document = Resource(
        "IPAMConfiguration", "default", {"strictAffinity": True, "maxBlocksPerHost": 1}
    )
    cluster = Cluster(resources={document.identity: document})
    source = supply({"blockSize": 32}, new=False)
    full = replace(source, blocks=(block("10.1.0.0/32", "h1"),))
    ledger = Ledger("blue")
    full.configure(ledger)
    ledger.hold(ip("10.1.0.0"), "blue.a.eth0")
    with pytest.raises(NeedBlock):
        pick(ledger, full, ())
    with pytest.raises(Exhausted, match="no free IPv4") as caught:
        pick(ledger, replace(full, network=limited(cluster, full.network)), ())
    assert not isinstance(caught.value, NeedBlock)
    assert "get ipamconfig" in caught.value.hint


@pytest.mark.parametrize(
    ("spec", "name", "words"),
    [
        ({"maxBlocksPerHost": 2}, "default", "strictAffinity: true alone"),
        ({"strictAffinity": True, "maxBlocksPerHost": -1}, "default", "out of range"),
        ({"autoAllocateBlocks": False}, "default", "always claim"),
        ({"ipCooldownSeconds": 1201}, "default", "out of range"),
        ({"strictAffinity": "yes"}, "default", "true or false"),
        ({"strictAfinity": True}, "default", "unknown field"),
        ({}, "other", "there is one IPAMConfiguration"),
    ],
)
def test_an_ipam_configuration_that_cannot_be_is_refused(
    spec: dict[str, Any], name: str, words: str
) -> None:
    with pytest.raises(InvalidConfig, match=words):
        KINDS["IPAMConfiguration"].check(Resource("IPAMConfiguration", name, spec))


def test_what_of_an_ipam_configuration_has_no_effect_is_named() -> None:
    spec = {"strictAffinity": False, "ipCooldownSeconds": 5}
    told = KINDS["IPAMConfiguration"].check(Resource("IPAMConfiguration", "default", spec))
    assert [text.partition(":")[0] for text in told] == ["spec.ipCooldownSeconds"]


@pytest.mark.parametrize("lends", [True, False])
@pytest.mark.parametrize(
    ("spec", "own", "borrows"),
    [
        (None, False, False),
        (None, True, True),
        ({}, True, True),
        ({}, False, False),
        ({"strictAffinity": False}, False, True),
        ({"strictAffinity": True}, True, False),
    ],
)
def test_hosts_borrow_where_it_is_said_and_the_attachment_lends(
    spec: dict[str, object] | None, own: bool, borrows: bool, lends: bool
) -> None:
    """Off unless somebody asked for it; what is said for all networks comes first."""
    calm = network(addressing="on-demand")
    asked = replace(calm, addressing=Addressing("on-demand", 20, own))
    document = Resource("IPAMConfiguration", "default", spec or {})
    cluster = Cluster(resources={document.identity: document} if spec is not None else {})
    assert limited(cluster, asked, lends=lends).addressing.borrowing is (borrows and lends)
    fixed = replace(calm, addressing=Addressing())
    assert limited(cluster, fixed, lends=lends) == fixed
