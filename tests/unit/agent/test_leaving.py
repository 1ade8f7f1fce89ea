"""Drained blocks are given back when they are empty, and nobody is dealt an address of one."""

from __future__ import annotations

import json
from dataclasses import replace
from ipaddress import ip_address, ip_network

import pytest
from tests.unit.memory_store import MemoryStore
from tests.unit.views import facts

from netloom.agent.addresses import AddressBook
from netloom.agent.leaving import drained, give_back
from netloom.core.ipam.supply import NeedBlock, Supply
from netloom.model.datastore import Put, Transaction
from netloom.model.endpoint import Endpoint
from netloom.model.host import Block
from netloom.model.keys import block_key
from netloom.model.network import Addressing, Network
from netloom.model.pool import Pool
from netloom.reconcile.claims import list_claims

POOL = Pool(ip_network("10.1.0.0/24"), 26)
OPEN = Network("blue", (POOL,), Addressing("on-demand", 4))
CLOSED = replace(OPEN, pools=(replace(POOL, disabled=True),))
HELD = tuple(
    Block("blue", ip_network(f"10.1.0.{64 * n}/26"), "h1", confirmed=True) for n in range(2)
)
NOTHING = facts()


@pytest.fixture
def store() -> MemoryStore:
    store = MemoryStore()
    puts = [Put(block_key(b.network, b.cidr), json.dumps(b.render()).encode()) for b in HELD]
    store.commit(Transaction(puts))
    return store


@pytest.fixture
def book() -> AddressBook:
    """Return a book in which one container has an address of the first block."""
    book = AddressBook(MemoryStore())
    book.begin("h1", ())
    book.reserve(draft("a"), Supply(OPEN, "h1", HELD))
    return book


def draft(container: str) -> Endpoint:
    return Endpoint("blue", "h1", container, "eth0", "/x", "veth", "02:00:00:00:00:01", ())


def held(store: MemoryStore) -> list[str]:
    return [str(each.cidr) for each in list_claims(store, "blue")]


def test_an_empty_block_goes_at_once_and_one_in_use_with_its_last_container(
    store: MemoryStore, book: AddressBook
) -> None:
    give_back(store, book, drained(OPEN, HELD, NOTHING))
    assert held(store) == ["10.1.0.0/26", "10.1.0.64/26"]
    for _ in range(2):
        give_back(store, book, drained(CLOSED, HELD, NOTHING))
        assert held(store) == ["10.1.0.0/26"]
    book.release("blue.a.eth0")
    give_back(store, book, drained(CLOSED, HELD, NOTHING))
    assert held(store) == []


def test_whoever_asks_with_an_older_picture_is_dealt_nothing_of_a_block_that_goes(
    store: MemoryStore, book: AddressBook
) -> None:
    """The definition that an attach has read may be older than the one that closed the pool."""
    book.release("blue.a.eth0")
    give_back(store, book, drained(CLOSED, HELD[:1], NOTHING))
    late = Supply(OPEN, "h1", HELD)
    assert book.reserve(draft("b"), late).addresses[0] in HELD[1].cidr
    with pytest.raises(NeedBlock):
        book.reserve(draft("c"), late, (ip_address("10.1.0.9"),))


def test_a_pool_that_is_opened_again_deals_again(store: MemoryStore, book: AddressBook) -> None:
    book.release("blue.a.eth0")
    book.give_up(HELD[:1])
    give_back(store, book, drained(OPEN, HELD, NOTHING))
    assert book.reserve(draft("b"), Supply(OPEN, "h1", HELD)).addresses[0] in HELD[0].cidr


def test_a_block_from_which_another_program_deals_stays(
    store: MemoryStore, book: AddressBook
) -> None:
    """Docker's bridge has an address inside it; our journal knows nothing of its containers."""
    docker = facts(routes=[("10.1.0.64/26", "docker0")])
    give_back(store, book, drained(CLOSED, HELD, docker))
    assert held(store) == ["10.1.0.0/26", "10.1.0.64/26"]


def test_a_new_journal_gives_nothing_back(store: MemoryStore) -> None:
    """It does not know yet which containers of before its loss are still there."""
    give_back(store, AddressBook(MemoryStore()), drained(CLOSED, HELD, NOTHING))
    assert held(store) == ["10.1.0.0/26", "10.1.0.64/26"]
