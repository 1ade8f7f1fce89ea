"""Which address of its blocks a host deals next."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from ipaddress import ip_address, ip_network

import pytest

from netloom.core.ipam.ledger import Ledger, Usage
from netloom.model.addr import Family, IPAddress, IPNetwork
from netloom.model.errors import Conflict

SMALL = ip_network("10.0.0.0/29")


def edges(cidr: IPNetwork) -> list[IPAddress]:
    """What a bridge keeps: .0, .1 and the broadcast address."""
    return [cidr[0], cidr[1], cidr[-1]]


def bridge_ledger(*blocks: str, reserved: Iterable[str] = ()) -> Ledger:
    ledger = Ledger("blue")
    cidrs = [ip_network(block) for block in blocks]
    ledger.configure({cidr: edges(cidr) for cidr in cidrs}, [ip_network(r) for r in reserved])
    return ledger


def deal(ledger: Ledger, handle: str, family: Family = 4) -> str | None:
    address = ledger.choose(family)
    if address is None:
        return None
    ledger.hold(address, handle)
    return str(address)


def deal_all(ledger: Ledger, family: Family = 4) -> list[str]:
    result = []
    while (address := deal(ledger, f"blue.c{len(result)}.eth0", family)) is not None:
        result.append(address)
    return result


def test_addresses_are_dealt_lowest_first_without_those_kept_for_the_bridge() -> None:
    assert deal_all(bridge_ledger("10.0.0.0/29")) == [f"10.0.0.{n}" for n in range(2, 7)]


def test_a_block_without_exclusions_deals_its_first_and_last_address() -> None:
    ledger = Ledger("blue")
    ledger.configure({SMALL: ()}, [])
    assert deal_all(ledger) == [f"10.0.0.{n}" for n in range(8)]


def test_a_freed_address_comes_back_after_all_that_were_never_used() -> None:
    ledger = bridge_ledger("10.0.0.0/29")
    assert deal(ledger, "a") == "10.0.0.2"
    ledger.free(ip_address("10.0.0.2"), 1)
    assert deal_all(ledger) == ["10.0.0.3", "10.0.0.4", "10.0.0.5", "10.0.0.6", "10.0.0.2"]


def test_the_address_freed_longest_ago_comes_back_first() -> None:
    ledger = bridge_ledger("10.0.0.0/29")
    deal_all(ledger)
    for order, number in enumerate((5, 2, 6)):
        ledger.free(ip_address(f"10.0.0.{number}"), order)
    assert deal_all(ledger) == ["10.0.0.5", "10.0.0.2", "10.0.0.6"]


def test_an_address_freed_twice_rests_from_the_second_time_on() -> None:
    ledger = bridge_ledger("10.0.0.0/29")
    deal_all(ledger)
    for order, number in enumerate((2, 3, 2)):
        ledger.free(ip_address(f"10.0.0.{number}"), order)
    assert deal_all(ledger) == ["10.0.0.3", "10.0.0.2"]


def test_reserved_addresses_are_not_dealt_but_can_be_asked_for() -> None:
    ledger = bridge_ledger("10.0.0.0/28", reserved=["10.0.0.0/29", "10.0.0.12/32"])
    assert deal_all(ledger) == [f"10.0.0.{n}" for n in (8, 9, 10, 11, 13, 14)]
    ledger.want(ip_address("10.0.0.5"))
    ledger.hold(ip_address("10.0.0.5"), "static")


def test_a_freed_address_that_is_reserved_now_is_not_dealt() -> None:
    ledger = bridge_ledger("10.0.0.0/29")
    deal_all(ledger)
    ledger.free(ip_address("10.0.0.3"), 1)
    ledger.configure({SMALL: edges(SMALL)}, [ip_network("10.0.0.3/32")])
    assert ledger.choose(4) is None
    ledger.configure({SMALL: edges(SMALL)}, [])
    assert deal(ledger, "again") == "10.0.0.3"


def test_a_lifted_reservation_makes_low_addresses_dealt_again() -> None:
    ledger = bridge_ledger("10.0.0.0/29", reserved=["10.0.0.0/30"])
    assert deal(ledger, "a") == "10.0.0.4"
    ledger.configure({SMALL: edges(SMALL)}, [])
    assert deal(ledger, "b") == "10.0.0.2"


def test_a_second_block_is_used_when_the_first_is_full() -> None:
    ledger = bridge_ledger("10.0.0.0/30", "10.0.9.0/30")
    assert deal_all(ledger) == ["10.0.0.2", "10.0.9.2"]


def test_families_are_dealt_apart() -> None:
    ledger = bridge_ledger("10.0.0.0/29", "fd00::/64")
    assert deal(ledger, "a", 6) == "fd00::2"
    assert deal(ledger, "a", 4) == "10.0.0.2"
    assert Ledger("blue").choose(6) is None


def test_addresses_equal_as_numbers_are_different_in_each_family() -> None:
    ledger = Ledger("blue")
    ledger.hold(ip_address("0.0.0.5"), "four")
    ledger.hold(ip_address("::5"), "six")
    assert ledger.holder(ip_address("0.0.0.5")) == "four"
    assert ledger.holder(ip_address("::5")) == "six"


def test_holding_what_another_holds_names_the_holder_and_the_remedy() -> None:
    ledger = bridge_ledger("10.0.0.0/29")
    ledger.hold(ip_address("10.0.0.2"), "blue.c1.eth0")
    with pytest.raises(
        Conflict, match=r"10\.0\.0\.2 of network blue is held by blue\.c1\.eth0"
    ) as e:
        ledger.hold(ip_address("10.0.0.2"), "blue.c2.eth0")
    assert "netloom ipam release --handle blue.c1.eth0" in e.value.hint
    with pytest.raises(Conflict, match="held by"):
        ledger.want(ip_address("10.0.0.2"))


def test_holding_again_by_the_same_handle_is_well() -> None:
    ledger = bridge_ledger("10.0.0.0/29")
    ledger.hold(ip_address("10.0.0.2"), "a")
    ledger.hold(ip_address("10.0.0.2"), "a")
    assert ledger.usage(SMALL, (), ()).in_use == 1


def test_the_gateway_cannot_be_asked_for() -> None:
    with pytest.raises(Conflict, match="kept for the network itself"):
        bridge_ledger("10.0.0.0/29").want(ip_address("10.0.0.1"))


def test_a_huge_reservation_in_a_huge_block_is_jumped_over() -> None:
    """2^63 reserved addresses: stepping over them one by one would never end."""
    ledger = bridge_ledger("fd00::/64", reserved=["fd00::/65"])
    assert deal(ledger, "a", 6) == "fd00::8000:0:0:0"


def calls(work: Callable[[], object]) -> int:
    """Count the function calls that ``work`` makes: a measure of its effort without a clock."""
    count = 0

    def note(frame: object, event: str, argument: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(note)
    try:
        work()
    finally:
        sys.setprofile(None)
    return count


def test_dealing_one_address_costs_the_same_in_a_fresh_and_in_a_nearly_full_large_block() -> None:
    ledger = bridge_ledger("10.0.0.0/16")
    first = calls(lambda: deal(ledger, "first"))
    for number in range(60_000):
        deal(ledger, f"h{number}")
    assert calls(lambda: deal(ledger, "late")) <= first + 20
    for number in range(60_000, 65_531):
        deal(ledger, f"h{number}")
    for order, number in enumerate(range(1000, 9000)):
        ledger.free(ip_address("10.0.0.0") + number, order)
    for number in range(3000):
        deal(ledger, f"again{number}")
    assert calls(lambda: deal(ledger, "reused")) <= first + 20


def test_a_huge_block_does_not_remember_more_freed_addresses_than_the_limit() -> None:
    ledger = Ledger("blue", freed_limit=8)
    ledger.configure({ip_network("fd00::/64"): ()}, [])
    seen: list[str] = []
    for order in range(100):
        address = deal(ledger, "x", 6)
        assert address is not None
        seen.append(address)
        ledger.free(ip_address(address), order)
        assert len(ledger.freed()) <= 8
    assert len(set(seen)) == 8
    assert all(seen[n] == seen[n - 8] for n in range(8, 100))


def test_usage_counts_total_in_use_and_withheld() -> None:
    ledger = bridge_ledger("10.0.0.0/28", reserved=["10.0.0.0/30", "10.0.0.8/30"])
    deal(ledger, "a")
    ledger.hold(ip_address("10.0.0.9"), "static")
    cidr = ip_network("10.0.0.0/28")
    reserved = [ip_network("10.0.0.0/30"), ip_network("10.0.0.8/30")]
    usage = ledger.usage(cidr, edges(cidr), reserved)
    # Withheld: .0-.3, .8, .10, .11 reserved; .15 broadcast.
    assert usage == Usage(ip_network("10.0.0.0/28"), 16, 2, 8)
    assert usage.free == 6
    assert len(deal_all(ledger)) == 6


def test_holders_are_named_lowest_address_first() -> None:
    ledger = bridge_ledger("10.0.0.0/29")
    for handle in ("a", "b", "c"):
        deal(ledger, handle)
    ledger.hold(ip_address("10.9.9.9"), "elsewhere")
    assert ledger.holders(SMALL, 2) == ["a", "b"]


def test_addresses_of_a_lost_block_stay_held_but_are_not_dealt() -> None:
    ledger = bridge_ledger("10.0.0.0/29")
    deal(ledger, "a")
    deal(ledger, "b")
    ledger.free(ip_address("10.0.0.3"), 1)
    other = ip_network("10.0.9.0/29")
    ledger.configure({other: edges(other)}, [])
    assert ledger.holder(ip_address("10.0.0.2")) == "a"
    assert not ledger.owns(ip_address("10.0.0.2"))
    assert deal_all(ledger) == [f"10.0.9.{n}" for n in range(2, 7)]
