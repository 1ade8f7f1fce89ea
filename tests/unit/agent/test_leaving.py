"""Blocks that go are given back when they are empty, and nobody is dealt an address of one."""

from __future__ import annotations

import json
from dataclasses import replace
from ipaddress import ip_address, ip_network

import pytest
from tests.unit.memory_store import MemoryStore
from tests.unit.views import facts

from netloom.agent.addresses import AddressBook
from netloom.agent.leaving import PATIENCE_S, Leaving, drained, give_back
from netloom.core.ipam.supply import NeedBlock, Supply
from netloom.model.datastore import Put, Transaction
from netloom.model.endpoint import Endpoint
from netloom.model.host import Block, Host
from netloom.model.keys import block_key, network_key, resource_key
from netloom.model.network import Addressing, Network
from netloom.model.pool import Pool
from netloom.model.resource import Resource
from netloom.model.selector import Selector
from netloom.model.view import Cluster, Problem
from netloom.reconcile.claim_entries import list_claims

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


def test_a_block_that_went_is_not_dealt_from_by_a_picture_that_has_yet_to_hear(
    store: MemoryStore, book: AddressBook
) -> None:
    """The pool was opened again at the moment when its block went: the picture shows both."""
    book.release("blue.a.eth0")
    give_back(store, book, drained(CLOSED, HELD[:1], NOTHING), HELD)
    assert give_back(store, book, drained(OPEN, HELD, NOTHING), HELD) == []
    supply = Supply(OPEN, "h1", HELD)
    assert book.reserve(draft("b"), supply).addresses[0] in HELD[1].cidr
    book.release("blue.b.eth0")
    value = json.dumps(HELD[0].render()).encode()
    store.commit(Transaction([Put(block_key("blue", HELD[0].cidr), value)]))
    give_back(store, book, [], HELD)
    assert book.reserve(draft("c"), supply, (ip_address("10.1.0.9"),)), "it was claimed anew"


def test_a_block_that_could_not_be_given_back_is_dealt_from_once_its_pool_is_open_again(
    store: MemoryStore, book: AddressBook
) -> None:
    book.release("blue.a.eth0")
    book.give_up(HELD[:1])  # and the store went away
    give_back(store, book, [], HELD)
    assert book.reserve(draft("b"), Supply(OPEN, "h1", HELD)).addresses[0] in HELD[0].cidr
    assert held(store) == ["10.1.0.0/26", "10.1.0.64/26"]


class Clock:
    """Time that passes when it is told to."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s

    def pass_patience(self) -> None:
        self.now_s += PATIENCE_S


RACK_1 = replace(OPEN, pools=(replace(POOL, node_selector=Selector.parse("rack == '1'", "")),))


def picture(*networks: Network, rack: str = "", problems: tuple[Problem, ...] = ()) -> Cluster:
    node = Resource("Node", "one", labels={"rack": rack})
    return Cluster(
        networks={each.name: each for each in networks},
        resources={node.identity: node} if rack else {},
        problems=problems,
    )


def unreadable(key: str) -> tuple[Problem, ...]:
    return (Problem("error", f"key {key}", "does not parse"),)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def leaving(clock: Clock) -> Leaving:
    return Leaving(Host("h1", "one"), clock)


@pytest.mark.parametrize(
    "shown",
    [
        picture(RACK_1, rack="2"),
        picture(RACK_1),
        picture(replace(OPEN, pools=(Pool(ip_network("10.2.0.0/24"), 26),))),
        picture(),
    ],
)
def test_a_block_of_which_the_host_would_get_none_goes_after_a_while(
    leaving: Leaving, clock: Clock, shown: Cluster
) -> None:
    """The pool selects others, or no labels are known of this one, or pool or network went."""
    assert leaving.due(shown, HELD, NOTHING) == []
    clock.pass_patience()
    assert leaving.due(shown, HELD, NOTHING) == list(HELD)
    docker = facts(routes=[("10.1.0.64/26", "docker0")])
    assert leaving.due(shown, HELD, docker) == [HELD[0]]


def test_a_label_that_is_changed_and_changed_back_takes_no_block(
    leaving: Leaving, clock: Clock
) -> None:
    for rack in ("1", "2", "1", "2"):
        assert leaving.due(picture(RACK_1, rack=rack), HELD, NOTHING) == []
        clock.now_s += PATIENCE_S / 2
    assert leaving.due(picture(RACK_1, rack="1"), HELD, NOTHING) == []
    clock.pass_patience()
    assert leaving.due(picture(RACK_1, rack="2"), HELD, NOTHING) == [], "counted from now"


def test_nothing_goes_because_something_cannot_be_read(leaving: Leaving, clock: Clock) -> None:
    node = unreadable(resource_key("Node", "", "one"))
    for shown in (
        picture(RACK_1, problems=node),
        picture(RACK_1, rack="1", problems=node),
        picture(problems=unreadable(network_key("blue"))),
    ):
        for _ in range(2):
            assert leaving.due(shown, HELD, NOTHING) == []
            clock.pass_patience()


def test_a_disabled_pools_block_goes_at_once_and_a_manual_ones_stays(leaving: Leaving) -> None:
    assert leaving.due(picture(CLOSED), HELD, NOTHING) == list(HELD)
    manual = replace(OPEN, pools=(replace(POOL, manual=True),))
    assert leaving.due(picture(manual), HELD, NOTHING) == []


def test_what_is_pending_goes_with_its_network_alone(leaving: Leaving, clock: Clock) -> None:
    """In a network that is there, settling its claims decides about it."""
    half = (replace(HELD[0], confirmed=False),)
    for shown, expected in ((picture(CLOSED), []), (picture(RACK_1), []), (picture(), [HELD[0]])):
        leaving.due(shown, half, NOTHING)
        clock.pass_patience()
        assert [b.cidr for b in leaving.due(shown, half, NOTHING)] == [b.cidr for b in expected]


def test_an_orphan_block_goes_with_its_last_container(
    store: MemoryStore, book: AddressBook, leaving: Leaving, clock: Clock
) -> None:
    """The network was deleted by force, the container is there still."""
    leaving.due(picture(), HELD, NOTHING)
    clock.pass_patience()
    going = leaving.due(picture(), HELD, NOTHING)
    assert give_back(store, book, going, HELD) == [HELD[1]]
    book.release("blue.a.eth0")
    assert give_back(store, book, going, HELD[:1]) == [HELD[0]]
    assert held(store) == []


def test_a_loan_is_no_block_of_the_new_size() -> None:
    """Blocks are to be of one address, as loans are: the former block is dealt from until then."""
    resized = replace(OPEN, pools=(replace(POOL, block_size=32),))
    loan = Block("blue", ip_network("10.1.0.200/32"), "h1", True, "h2")
    new = Block("blue", ip_network("10.1.0.201/32"), "h1", True)
    assert drained(resized, [HELD[0], loan], NOTHING) == [loan]
    assert drained(resized, [HELD[0], loan, new], NOTHING) == [HELD[0], loan]
