"""Which block of a pool a host claims next."""

from __future__ import annotations

from ipaddress import ip_network

from netloom.core.ipam.blocks import Preference, block_of, next_block
from netloom.model.addr import IPNetwork
from netloom.model.pool import Pool


def pool(cidr: str, block_size: int) -> Pool:
    return Pool(ip_network(cidr), block_size)


def cidrs(*texts: str) -> list[IPNetwork]:
    return [ip_network(text) for text in texts]


FLANNEL = pool("10.244.0.0/16", 24)


def test_a_first_host_gets_the_first_block() -> None:
    assert next_block(FLANNEL, [], [], Preference("h1")) == ip_network("10.244.0.0/24")


def test_tidy_hosts_fill_gaps_from_below() -> None:
    taken = cidrs("10.244.0.0/24", "10.244.2.0/24")
    assert next_block(FLANNEL, taken, [], Preference("h3")) == ip_network("10.244.1.0/24")


def test_the_block_held_before_is_preferred_to_a_lower_one() -> None:
    hint = ip_network("10.244.7.0/24")
    assert next_block(FLANNEL, [], [], Preference("h1", hints=(hint,))) == hint


def test_a_block_held_before_that_another_took_in_part_is_not_chosen() -> None:
    preference = Preference("h1", hints=tuple(cidrs("10.244.7.0/24")))
    chosen = next_block(FLANNEL, cidrs("10.244.7.64/26"), [], preference)
    assert chosen == ip_network("10.244.0.0/24")


def test_a_block_held_before_outside_the_pool_is_not_chosen() -> None:
    preference = Preference("h1", hints=tuple(cidrs("10.9.7.0/24", "fd00::/64")))
    assert next_block(FLANNEL, [], [], preference) == ip_network("10.244.0.0/24")


def test_a_block_held_before_keeps_the_size_it_had() -> None:
    hint = ip_network("10.244.7.64/26")
    assert next_block(FLANNEL, [], [], Preference("h1", hints=(hint,))) == hint


def test_a_smaller_claim_takes_the_whole_block_around_it_away() -> None:
    chosen = next_block(FLANNEL, cidrs("10.244.0.192/26"), [], Preference("h1"))
    assert chosen == ip_network("10.244.1.0/24")


def test_a_larger_claim_takes_all_blocks_inside_it_away() -> None:
    chosen = next_block(FLANNEL, cidrs("10.244.0.0/20"), [], Preference("h1"))
    assert chosen == ip_network("10.244.16.0/24")


def test_a_claim_larger_than_the_pool_leaves_nothing() -> None:
    assert next_block(FLANNEL, cidrs("10.0.0.0/8"), [], Preference("h1")) is None


def test_claims_of_other_pools_and_families_do_no_harm() -> None:
    taken = cidrs("10.245.0.0/24", "fd00::/64")
    assert next_block(FLANNEL, taken, [], Preference("h1")) == ip_network("10.244.0.0/24")


def test_a_block_reserved_wholly_is_skipped() -> None:
    chosen = next_block(FLANNEL, [], cidrs("10.244.0.0/23"), Preference("h1"))
    assert chosen == ip_network("10.244.2.0/24")


def test_a_block_reserved_in_two_halves_is_skipped() -> None:
    chosen = next_block(FLANNEL, [], cidrs("10.244.0.0/25", "10.244.0.128/25"), Preference("h1"))
    assert chosen == ip_network("10.244.1.0/24")


def test_a_block_reserved_in_part_is_used() -> None:
    chosen = next_block(FLANNEL, [], cidrs("10.244.0.0/25"), Preference("h1"))
    assert chosen == ip_network("10.244.0.0/24")


def test_reservations_that_cover_parts_of_two_blocks_take_neither_away() -> None:
    reserved = cidrs("10.244.0.128/25", "10.244.1.0/25")
    assert next_block(FLANNEL, [], reserved, Preference("h1")) == ip_network("10.244.0.0/24")


def test_a_full_pool_has_no_next_block() -> None:
    small = pool("10.0.0.0/24", 26)
    taken = cidrs("10.0.0.0/26", "10.0.0.64/26", "10.0.0.128/26")
    assert next_block(small, taken, [], Preference("h1")) == ip_network("10.0.0.192/26")
    assert next_block(small, [*taken, ip_network("10.0.0.192/26")], [], Preference("h1")) is None


def test_a_pool_of_one_block_gives_it_once() -> None:
    one = pool("10.0.0.0/24", 24)
    assert next_block(one, [], [], Preference("h1", tidy=False)) == ip_network("10.0.0.0/24")
    assert next_block(one, cidrs("10.0.0.0/24"), [], Preference("h2")) is None


def test_a_host_that_lost_a_race_jumps_to_a_place_of_its_own_nearby() -> None:
    taken = cidrs("10.244.0.0/24")
    second_tries = {
        next_block(FLANNEL, taken, [], Preference(f"h{number}", attempt=1)) for number in range(40)
    }
    assert len(second_tries) > 8
    assert all(choice < ip_network("10.244.20.0/24") for choice in second_tries if choice)


def test_fifty_hosts_in_lockstep_part_after_a_few_tries_with_small_numbers() -> None:
    taken: list[IPNetwork] = []
    waiting = [f"host-{number}" for number in range(50)]
    attempt = 0
    while waiting:
        winners: dict[IPNetwork, str] = {}
        for host in waiting:
            choice = next_block(FLANNEL, taken, [], Preference(host, attempt=attempt))
            assert choice is not None
            winners.setdefault(choice, host)
        taken += winners
        waiting = [host for host in waiting if host not in winners.values()]
        attempt += 1
    assert len(set(taken)) == 50
    assert attempt <= 10
    assert max(taken) < ip_network("10.244.160.0/24")


def test_on_demand_hosts_start_far_apart() -> None:
    wide = pool("10.0.0.0/8", 26)
    choices = {
        next_block(wide, [], [], Preference(f"host-{number}", tidy=False)) for number in range(1000)
    }
    assert len(choices) >= 990


def test_the_same_question_has_the_same_answer() -> None:
    preference = Preference("h1", tidy=False, attempt=3)
    taken = cidrs("10.244.9.0/24")
    assert next_block(FLANNEL, taken, [], preference) == next_block(FLANNEL, taken, [], preference)


def test_a_huge_pool_costs_no_enumeration() -> None:
    """2^74 blocks: any loop over them would never end."""
    huge = pool("fd00::/48", 122)
    taken: list[IPNetwork] = []
    for number in range(50):
        choice = next_block(huge, taken, cidrs("fd00::/49"), Preference(f"h{number}", tidy=False))
        assert choice is not None
        assert choice.prefixlen == 122
        assert choice > ip_network("fd00:0:0:8000::/128")
        taken.append(choice)
    assert len(set(taken)) == 50


def test_all_blocks_of_a_pool_are_found_whatever_the_order() -> None:
    small = pool("10.0.0.0/20", 26)
    taken: list[IPNetwork] = []
    for number in range(64):
        choice = next_block(
            small, taken, [], Preference(f"h{number % 3}", tidy=False, attempt=number)
        )
        assert choice is not None
        assert choice not in taken
        taken.append(choice)
    assert next_block(small, taken, [], Preference("h9")) is None


def test_an_address_tells_the_block_around_it() -> None:
    assert block_of(pool("fd00::/48", 122), ip_network("fd00::7f/128")) == ip_network(
        "fd00::40/122"
    )
