"""The mirror: the cluster store shows what the journal says, sooner or later, whatever happens."""

from __future__ import annotations

import json
from collections.abc import Iterator
from ipaddress import ip_network
from pathlib import Path

import pytest
from tests.unit.memory_store import FaultyStore, MemoryStore

from netloom.agent.addresses import AddressBook
from netloom.agent.mirror import Mirror, Synced
from netloom.core.ipam.supply import Supply
from netloom.model.datastore import Committed, Delete, Put, Store, Transaction
from netloom.model.endpoint import Endpoint
from netloom.model.errors import Unavailable
from netloom.model.host import Block
from netloom.model.keys import ENDPOINTS, endpoint_key
from netloom.model.network import Network
from netloom.model.pool import Pool
from netloom.store.sqlite import SqliteStore

POOL = Pool(ip_network("10.244.0.0/16"), 22)
SUPPLY = Supply(
    Network("blue", (POOL,)), "h1", (Block("blue", ip_network("10.244.0.0/22"), "h1", True),)
)


def attach(book: AddressBook, container: str) -> Endpoint:
    draft = Endpoint(
        "blue", "h1", container, "eth0", "/run/netns/c", "veth1", "02:00:00:00:00:01", ()
    )
    return book.confirm(book.reserve(draft, SUPPLY).handle)


def shown(store: Store, host: str = "h1") -> list[Endpoint]:
    entries = store.list(f"{ENDPOINTS}{host}/").entries
    return [Endpoint.parse(json.loads(entry.value)) for entry in entries]


@pytest.fixture(params=["memory", "sqlite"])
def cluster(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    store: Store = (
        MemoryStore() if request.param == "memory" else SqliteStore(str(tmp_path / "c.db"))
    )
    yield store
    store.close()


@pytest.fixture
def book() -> AddressBook:
    return AddressBook(MemoryStore())


def test_the_store_shows_the_hosts_endpoints(book: AddressBook, cluster: Store) -> None:
    mirror = Mirror(book, "h1")
    one, two = attach(book, "c1"), attach(book, "c2")
    assert mirror.sync_once(cluster) == Synced(book.version, 2, 0)
    assert shown(cluster) == [one, two]
    book.release(one.handle)
    assert mirror.sync_once(cluster) == Synced(book.version, 0, 1)
    assert shown(cluster) == [two]


def test_a_second_run_changes_nothing(book: AddressBook, cluster: Store) -> None:
    mirror = Mirror(book, "h1")
    attach(book, "c1")
    mirror.sync_once(cluster)
    revision = cluster.list("").revision
    assert mirror.sync_once(cluster) == Synced(book.version, 0, 0)
    assert cluster.list("").revision == revision


def test_a_new_agent_writes_only_what_differs(cluster: Store) -> None:
    journal = MemoryStore()
    first = AddressBook(journal)
    attach(first, "c1")
    Mirror(first, "h1").sync_once(cluster)
    again = AddressBook(journal)
    two = attach(again, "c2")
    assert Mirror(again, "h1").sync_once(cluster) == Synced(again.version, 1, 0)
    assert two in shown(cluster)


def test_other_hosts_records_are_left_alone(book: AddressBook, cluster: Store) -> None:
    for host in ("h10", "h2", "h"):
        key = endpoint_key(host, "blue", "x", "eth0")
        cluster.commit(Transaction([Put(key, b"theirs")]))
    attach(book, "c1")
    mirror = Mirror(book, "h1")
    mirror.sync_once(cluster)
    book.release("blue.c1.eth0")
    mirror.sync_once(cluster)
    assert len(cluster.list(ENDPOINTS).entries) == 3


def test_what_another_hand_did_is_put_right(book: AddressBook, cluster: Store) -> None:
    one, two = attach(book, "c1"), attach(book, "c2")
    mirror = Mirror(book, "h1")
    mirror.sync_once(cluster)
    cluster.commit(
        Transaction(
            [
                Delete(endpoint_key("h1", "blue", "c1", "eth0")),
                Put(endpoint_key("h1", "blue", "c2", "eth0"), b"rubbish"),
                Put(endpoint_key("h1", "blue", "never", "eth0"), b"{}"),
            ]
        )
    )
    assert mirror.sync_once(cluster) == Synced(book.version, 2, 1)
    assert shown(cluster) == [one, two]


def test_a_store_put_in_place_of_the_old_one_is_filled(book: AddressBook, cluster: Store) -> None:
    mirror = Mirror(book, "h1")
    one = attach(book, "c1")
    mirror.sync_once(MemoryStore())
    two = attach(book, "c2")
    mirror.sync_once(cluster)
    assert shown(cluster) == [one, two]


def test_hundreds_of_endpoints_go_in_transactions_of_a_size_that_every_store_takes(
    book: AddressBook,
) -> None:
    sizes: list[int] = []

    class Recording(MemoryStore):
        def commit(self, transaction: Transaction) -> Committed:
            sizes.append(len(transaction.operations))
            return super().commit(transaction)

    endpoints = [attach(book, f"c{number:03}") for number in range(250)]
    store = Recording()
    Mirror(book, "h1").sync_once(store)
    assert shown(store) == endpoints
    assert sum(sizes) == 250
    assert max(sizes) <= 128
    assert len(sizes) == 3


@pytest.mark.parametrize("done", [True, False])
def test_a_store_that_goes_away_at_any_step_is_caught_up_with_later(done: bool) -> None:
    for step in range(1, 20):
        book = AddressBook(MemoryStore())
        store = MemoryStore()
        mirror = Mirror(book, "h1")
        faulty = FaultyStore(store, step, done=done, error=Unavailable)
        for number in range(6):
            attach(book, f"c{number}")
            if number % 2:
                book.release(f"blue.c{number - 1}.eth0")
            try:
                mirror.sync_once(faulty)
            except Unavailable:
                assert faulty.failed
        faulty.heal()
        mirror.sync_once(faulty)
        assert shown(store) == list(book.endpoints())
        assert [each.container_id for each in shown(store)] == ["c1", "c3", "c5"]
        if not faulty.failed:
            assert step > 7, "six runs take at least a listing and six writes"
            return
    raise AssertionError("the runs never ended")
