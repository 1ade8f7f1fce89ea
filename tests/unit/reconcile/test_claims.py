"""Claiming blocks: two phases, lost races, death at every step."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from dataclasses import replace
from ipaddress import ip_network

import pytest
from tests.unit.memory_store import Died, FaultyStore, MemoryStore

from netloom.model.addr import IPNetwork
from netloom.model.datastore import Committed, Delete, Put, Store, Transaction
from netloom.model.errors import Conflict, Exhausted, Unavailable
from netloom.model.host import Block, Reservation
from netloom.model.keys import BLOCKS, block_key, reservation_key, resource_key
from netloom.model.network import Addressing, Network
from netloom.model.pool import Pool
from netloom.model.selector import Selector
from netloom.reconcile.claim_entries import list_claims
from netloom.reconcile.claim_refusals import FormerSize
from netloom.reconcile.claims import MOST_ATTEMPTS, Search, claim, release, settle
from netloom.reconcile.holding import Held, hold_blocks

POOL = Pool(ip_network("10.244.0.0/16"), 24)
FLANNEL = Network("blue", (POOL,))
SMALL = Pool(ip_network("10.9.0.0/24"), 26)
CALICO = Network("red", (SMALL,), Addressing("on-demand", 3))


def host(host_id: str, **changes: object) -> Search:
    return replace(Search(FLANNEL, POOL, host_id), **changes)  # type: ignore[arg-type]


def on_demand(host_id: str, **changes: object) -> Search:
    return replace(Search(CALICO, SMALL, host_id), **changes)  # type: ignore[arg-type]


def put(store: Store, block: Block) -> None:
    value = json.dumps(block.render()).encode()
    assert store.commit(Transaction([Put(block_key(block.network, block.cidr), value)])).succeeded


def blocks(store: Store, network: str = "blue") -> dict[str, str]:
    """Every claim as ``cidr -> host``, with '?' behind the host of a pending one."""
    return {
        str(each.cidr): f"{each.block.host_id}{'' if each.block.confirmed else '?'}"
        for each in list_claims(store, network)
        if each.block
    }


class Interposed(MemoryStore):
    """Runs ``before`` once, just ahead of the n-th commit: what another host does meanwhile."""

    def __init__(self, n: int, before: Callable[[MemoryStore], None]) -> None:
        super().__init__()
        self._left = n
        self._before = before

    def commit(self, transaction: Transaction) -> Committed:
        self._left -= 1
        if self._left == 0:
            self._before(self)
        return super().commit(transaction)


def test_a_claim_ends_confirmed_in_the_store() -> None:
    store = MemoryStore()
    block = claim(store, host("h1"))
    assert block == Block("blue", ip_network("10.244.0.0/24"), "h1", confirmed=True)
    assert blocks(store) == {"10.244.0.0/24": "h1"}


def test_a_host_finds_its_block_again_after_a_restart() -> None:
    store = MemoryStore()
    first = claim(store, host("h1"))
    claim(store, host("h2"))
    assert claim(store, host("h1")) == first
    assert len(blocks(store)) == 2


def test_a_host_that_knows_its_blocks_claims_one_more_on_demand_up_to_its_limit() -> None:
    store = MemoryStore()
    known: list[IPNetwork] = []
    for _ in range(3):
        known.append(claim(store, on_demand("h1", known=tuple(known))).cidr)
    assert len(set(known)) == 3
    with pytest.raises(Exhausted, match=r"host h1 holds all 3 blocks of pool 10\.9\.0\.0/24") as e:
        claim(store, on_demand("h1", known=tuple(known)))
    assert "maxBlocksPerHost" in e.value.hint


def test_a_host_with_one_block_per_pool_claims_no_second_one() -> None:
    store = MemoryStore()
    first = claim(store, host("h1"))
    with pytest.raises(Exhausted, match=r"holds the one block .*10\.244\.0\.0/24"):
        claim(store, host("h1", known=(first.cidr,)))


def test_the_limit_counts_each_pool_by_itself() -> None:
    other = Pool(ip_network("fd00::/48"), 64)
    dual = replace(FLANNEL, pools=(POOL, other))
    store = MemoryStore()
    four = claim(store, Search(dual, POOL, "h1"))
    six = claim(store, Search(dual, other, "h1", known=(four.cidr,)))
    assert (four.cidr.version, six.cidr.version) == (4, 6)


def test_a_full_pool_says_how_full_and_what_to_do() -> None:
    store = MemoryStore()
    for number in range(4):
        claim(store, on_demand(f"h{number}"))
    with pytest.raises(Exhausted, match=r"no free /26 block: 4 of 4 are held by 4 hosts") as error:
        claim(store, on_demand("h9"))
    assert "netloom host forget" in error.value.hint


def test_a_reserved_block_is_not_claimed() -> None:
    store = MemoryStore()
    reservation = Reservation("blue", ip_network("10.244.0.0/23"), "the printers")
    key = reservation_key("blue", reservation.cidr)
    store.commit(Transaction([Put(key, json.dumps(reservation.render()).encode())]))
    assert claim(store, host("h1")).cidr == ip_network("10.244.2.0/24")


def test_the_block_held_before_is_claimed_again_in_a_new_empty_store() -> None:
    before = ip_network("10.244.77.0/24")
    assert claim(MemoryStore(), host("h1", hints=(before,))).cidr == before


def test_one_very_block_can_be_asked_for() -> None:
    wanted = ip_network("10.9.0.128/26")
    store = MemoryStore()
    assert claim(store, on_demand("h1", only=wanted)).cidr == wanted
    with pytest.raises(Conflict, match=r"block 10\.9\.0\.128/26 is held by host h1"):
        claim(store, on_demand("h2", only=wanted))


def test_a_block_that_another_took_meanwhile_is_left_to_it() -> None:
    def rival(store: MemoryStore) -> None:
        put(store, Block("blue", ip_network("10.244.0.0/24"), "h2", confirmed=False))

    store = Interposed(1, rival)
    mine = claim(store, host("h1"))
    assert mine.cidr != ip_network("10.244.0.0/24")
    assert blocks(store) == {"10.244.0.0/24": "h2?", str(mine.cidr): "h1"}


@pytest.mark.parametrize("rival_cidr", ["10.244.0.64/26", "10.244.0.0/20"])
def test_an_older_claim_of_another_size_makes_the_younger_one_withdraw(rival_cidr: str) -> None:
    def rival(store: MemoryStore) -> None:
        put(store, Block("blue", ip_network(rival_cidr), "h2", confirmed=False))

    store = Interposed(1, rival)
    mine = claim(store, host("h1"))
    assert not mine.cidr.overlaps(ip_network(rival_cidr))
    assert blocks(store) == {rival_cidr: "h2?", str(mine.cidr): "h1"}


@pytest.mark.parametrize("rival_cidr", ["10.244.0.64/26", "10.244.0.0/20"])
def test_the_older_of_two_pending_claims_is_confirmed(rival_cidr: str) -> None:
    def rival(store: MemoryStore) -> None:
        put(store, Block("blue", ip_network(rival_cidr), "h2", confirmed=False))

    store = Interposed(2, rival)  # between the first host's two phases
    assert claim(store, host("h1")).cidr == ip_network("10.244.0.0/24")
    settle(store, FLANNEL, "h2")
    assert blocks(store) == {"10.244.0.0/24": "h1"}


def test_a_confirmed_overlap_wins_over_an_older_pending_claim() -> None:
    """Only a hand that went past the rule makes this; two confirmed claims must not come of it."""
    store = MemoryStore()
    put(store, Block("blue", ip_network("10.244.0.0/24"), "h1", confirmed=False))
    put(store, Block("blue", ip_network("10.244.0.0/20"), "h2", confirmed=True))
    settle(store, FLANNEL, "h1")
    assert blocks(store) == {"10.244.0.0/20": "h2"}


def test_a_claim_that_does_not_parse_is_nobodys_to_take() -> None:
    store = MemoryStore()
    store.commit(Transaction([Put(block_key("blue", ip_network("10.244.0.0/24")), b"{rubbish")]))
    store.commit(Transaction([Put(f"{BLOCKS}blue/rubbish", b"x")]))
    assert claim(store, host("h1")).cidr == ip_network("10.244.1.0/24")


@pytest.mark.parametrize("cidr", ["10.244.0.0/16", "10.0.0.0/8", "0.0.0.0/0"])
def test_an_unreadable_key_over_the_whole_pool_keeps_nobody_from_a_block(cidr: str) -> None:
    store = MemoryStore()
    store.commit(Transaction([Put(block_key("blue", ip_network(cidr)), b"{rubbish")]))
    assert claim(store, host("h1")).cidr == ip_network("10.244.0.0/24")


def test_pending_blocks_of_other_hosts_are_never_touched() -> None:
    store = MemoryStore()
    put(store, Block("blue", ip_network("10.244.0.0/24"), "gone", confirmed=False))
    before = store.get(block_key("blue", ip_network("10.244.0.0/24")))
    assert claim(store, host("h1")).cidr != ip_network("10.244.0.0/24")
    assert store.get(block_key("blue", ip_network("10.244.0.0/24"))) == before


def test_an_own_pending_block_outside_every_pool_is_withdrawn() -> None:
    store = MemoryStore()
    put(store, Block("blue", ip_network("10.99.0.0/24"), "h1", confirmed=False))
    settle(store, FLANNEL, "h1")
    assert blocks(store) == {}


def test_settling_twice_changes_nothing_the_second_time() -> None:
    store = MemoryStore()
    put(store, Block("blue", ip_network("10.244.3.0/24"), "h1", confirmed=False))
    settle(store, FLANNEL, "h1")
    revision = store.list("").revision
    settle(store, FLANNEL, "h1")
    assert store.list("").revision == revision


def test_an_older_own_pending_claim_beats_a_younger_own_one() -> None:
    store = MemoryStore()
    put(store, Block("blue", ip_network("10.244.3.0/24"), "h1", confirmed=False))
    put(store, Block("blue", ip_network("10.244.3.0/26"), "h1", confirmed=False))
    settle(store, FLANNEL, "h1")
    assert blocks(store) == {"10.244.3.0/24": "h1"}


def test_two_runs_of_one_host_at_once_end_with_one_block() -> None:
    def second_run(store: MemoryStore) -> None:
        assert claim(store, host("h1")).cidr == ip_network("10.244.0.0/24")

    for step in (1, 2):
        store = Interposed(step, second_run)
        assert claim(store, host("h1")).cidr == ip_network("10.244.0.0/24")
        assert blocks(store) == {"10.244.0.0/24": "h1"}


def test_a_pending_block_that_a_person_removed_is_never_taken_for_confirmed() -> None:
    def operator(store: MemoryStore) -> None:
        key = block_key("blue", ip_network("10.244.0.0/24"))
        store.commit(Transaction([Delete(key)]))

    store = Interposed(2, operator)
    block = claim(store, host("h1"))
    assert blocks(store) == {str(block.cidr): "h1"}


def test_a_host_that_always_loses_gives_up_with_a_clear_word() -> None:
    class Unlucky(MemoryStore):
        def commit(self, transaction: Transaction) -> Committed:
            return Committed(False, self.list("").revision)

    with pytest.raises(Unavailable, match=f"lost {MOST_ATTEMPTS} races"):
        claim(Unlucky(), host("h1"))


@pytest.mark.parametrize("done", [True, False])
@pytest.mark.parametrize("error", [Died, Unavailable])
def test_death_at_any_step_leaves_neither_leak_nor_duplicate(
    done: bool, error: type[BaseException]
) -> None:
    """For every k: fail at the k-th store operation, run again; another host runs in between."""
    for k in range(1, 100):
        store = MemoryStore()
        faulty = FaultyStore(store, k, done=done, error=error)
        with contextlib.suppress(error):
            claim(faulty, host("h1"))
        other = claim(store, host("h2"))
        mine = claim(store, host("h1"))
        assert not mine.cidr.overlaps(other.cidr)
        assert blocks(store) == {str(mine.cidr): "h1", str(other.cidr): "h2"}
        if not faulty.failed:
            assert k > 4, "a claim takes at least four operations"
            return
    raise AssertionError("a claim never ended")


@pytest.mark.parametrize("done", [True, False])
def test_death_at_any_step_of_a_withdrawal_is_repaired(done: bool) -> None:
    for k in range(1, 100):
        store = MemoryStore()
        put(store, Block("blue", ip_network("10.244.0.0/20"), "h2", confirmed=False))
        put(store, Block("blue", ip_network("10.244.0.0/24"), "h1", confirmed=False))
        faulty = FaultyStore(store, k, done=done)
        with contextlib.suppress(Died):
            settle(faulty, FLANNEL, "h1")
        settle(store, FLANNEL, "h1")
        assert blocks(store) == {"10.244.0.0/20": "h2?"}
        if not faulty.failed:
            return
    raise AssertionError("settling never ended")


def test_a_released_block_can_be_claimed_by_another_and_release_is_safe_to_repeat() -> None:
    store = MemoryStore()
    block = claim(store, host("h1"))
    assert release(store, block)
    assert not release(store, block)
    assert claim(store, host("h2")).cidr == block.cidr
    assert not release(store, block)
    assert blocks(store) == {"10.244.0.0/24": "h2"}


def test_blocks_that_an_ipreservation_covers_wholly_are_not_claimed() -> None:
    """IPReservations speak of addresses, whatever the network; one in part leaves some to deal."""
    store = MemoryStore()
    document = {
        "kind": "IPReservation",
        "metadata": {"name": "lab"},
        "spec": {"reservedCIDRs": ["10.244.0.0/23", "10.244.2.0/25", "192.168.0.0/16"]},
    }
    unreadable = {"kind": "IPReservation", "metadata": {"name": "bad"}, "spec": []}
    for each in (document, unreadable):
        key = resource_key("IPReservation", "", str(each["metadata"]["name"]))  # type: ignore[index]
        store.commit(Transaction([Put(key, json.dumps(each).encode())]))
    assert str(claim(store, host("h1")).cidr) == "10.244.2.0/24"


def test_in_host_block_mode_nothing_is_claimed_of_a_pool_that_is_closed_to_the_host() -> None:
    store = MemoryStore()
    racks = Selector.parse("rack == '1'", "nodeSelector")
    pools = (
        POOL,
        replace(POOL, cidr=ip_network("10.245.0.0/16"), disabled=True),
        replace(POOL, cidr=ip_network("10.246.0.0/16"), node_selector=racks),
    )
    network = replace(FLANNEL, pools=pools)
    assert [str(b.cidr) for b in hold_blocks(store, network, "h1")] == ["10.244.0.0/24"]
    got = hold_blocks(store, network, "h2", Held(labels={"rack": "1"}))
    assert [str(block.cidr) for block in got] == ["10.244.1.0/24", "10.246.0.0/24"]
    closed = Block("blue", ip_network("10.245.7.0/24"), "h3", confirmed=True)
    held = Held([closed], forgotten=[closed.cidr])
    back = hold_blocks(store, network, "h3", held)
    assert closed in back, "containers live in it: what a store forgot is put back in any case"


def test_what_a_store_forgot_is_put_back_beyond_a_limit_that_was_lowered_since() -> None:
    """Containers live there; nothing further is claimed."""
    store = MemoryStore()
    held = [Block("red", ip_network(f"10.9.0.{64 * n}/26"), "h1", confirmed=True) for n in range(3)]
    lowered = replace(CALICO, addressing=Addressing("on-demand", 1))
    got = hold_blocks(store, lowered, "h1", Held(held, [block.cidr for block in held]))
    assert list(got) == held
    known = tuple(block.cidr for block in held)
    with pytest.raises(Exhausted, match="holds all 3 blocks of pool"):
        claim(store, on_demand("h1", network=lowered, known=known))


@pytest.mark.parametrize("mode", ["host-block", "on-demand"])
@pytest.mark.parametrize("size", [22, 26])
def test_of_a_pool_with_another_block_size_one_block_of_the_new_size_is_claimed(
    mode: str, size: int
) -> None:
    """Beside the former one, once; a network's limit counts the new size alone."""
    store = MemoryStore()
    former = Block("blue", ip_network("10.244.0.0/24"), "h1", confirmed=True)
    put(store, former)
    pool = replace(POOL, block_size=size)
    network = replace(FLANNEL, pools=(pool,), addressing=Addressing(mode, 1))
    (new,) = hold_blocks(store, network, "h1", Held([former]))
    assert new.cidr.prefixlen == size
    assert not hold_blocks(store, network, "h1", Held([former, new]))
    assert not hold_blocks(store, network, "h1", Held([former], resized=False))
    assert claim(store, Search(network, pool, "h1", known=(former.cidr,))) == new
    with pytest.raises(Exhausted, match="that it may"):
        claim(store, Search(network, pool, "h1", known=(former.cidr, new.cidr)))


def test_a_pool_without_room_for_the_new_size_leaves_the_host_its_former_block() -> None:
    store = MemoryStore()
    held = [
        Block("blue", ip_network(f"10.9.0.{64 * n}/26"), f"h{n}", confirmed=True) for n in range(4)
    ]
    for block in held:
        put(store, block)
    network = replace(FLANNEL, pools=(replace(SMALL, block_size=28),))
    with pytest.raises(FormerSize, match=r"until there is one, addresses come from 10\.9\.0\.0/26"):
        hold_blocks(store, network, "h0", Held(held[:1]))
    assert len(blocks(store)) == 4


def test_a_restored_store_gets_the_former_block_and_the_new_one_back() -> None:
    held = [
        Block("blue", ip_network(cidr), "h1", confirmed=True)
        for cidr in ("10.244.0.0/24", "10.244.1.0/26")
    ]
    store = MemoryStore()
    network = replace(FLANNEL, pools=(replace(POOL, block_size=26),))
    got = hold_blocks(store, network, "h1", Held(held, [block.cidr for block in held]))
    assert list(got) == held
