"""The address book: what is dealt, held, freed and remembered across restarts."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import IPv4Network, ip_address, ip_network
from pathlib import Path

import pytest
from tests.unit.memory_store import Died, FaultyStore, MemoryStore

from netloom.agent.addresses import AddressBook
from netloom.core.ipam.supply import NeedBlock, Supply
from netloom.model.addr import IPAddress
from netloom.model.datastore import Committed, Delete, Put, Store, Transaction
from netloom.model.endpoint import Endpoint
from netloom.model.errors import Conflict, Exhausted, InvalidConfig, Unavailable
from netloom.model.host import Block, Reservation
from netloom.model.keys import JOURNAL_ENDPOINTS, JOURNAL_FREED
from netloom.model.network import Addressing, Network
from netloom.model.pool import Pool
from netloom.reconcile.claims import claim_needed
from netloom.reconcile.holding import hold_blocks
from netloom.store.sqlite import SqliteStore

POOL = Pool(ip_network("10.244.0.0/16"), 29)
POOL6 = Pool(ip_network("fd00:10::/48"), 64)
BLUE = Network("blue", (POOL,))
DUAL = Network("blue", (POOL, POOL6))
RED = Network("red", (Pool(ip_network("10.9.0.0/24"), 30),), Addressing("on-demand", 2))


def block(cidr: str, network: str = "blue", host: str = "h1", confirmed: bool = True) -> Block:
    return Block(network, ip_network(cidr), host, confirmed)


FOUR = block("10.244.0.0/29")
SIX = block("fd00:10:0:1::/64")
EDGES = frozenset(ip_address(f"10.244.0.{n}") for n in (0, 1, 7))
BRIDGED = Supply(BLUE, "h1", (FOUR,), {FOUR.cidr: EDGES})
BARE = Supply(BLUE, "h1", (FOUR,))


def draft(container: str, network: str = "blue", ifname: str = "eth0") -> Endpoint:
    return Endpoint(
        network, "h1", container, ifname, "/run/netns/c", "veth1", "02:00:00:00:00:01", ()
    )


@pytest.fixture(params=["memory", "sqlite"])
def journal(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    store: Store = (
        MemoryStore() if request.param == "memory" else SqliteStore(str(tmp_path / "j.db"))
    )
    yield store
    store.close()


@pytest.fixture
def book(journal: Store) -> AddressBook:
    return AddressBook(journal, now=lambda: "2026-01-02T03:04:05+00:00")


def texts(endpoint: Endpoint) -> list[str]:
    return [str(address) for address in endpoint.addresses]


def fill(book: AddressBook, supply: Supply, prefix: str = "c") -> list[str]:
    """Attach containers until none fits; return their addresses in order."""
    result: list[str] = []
    try:
        while True:
            endpoint = book.reserve(draft(f"{prefix}{len(result)}", supply.network.name), supply)
            book.confirm(endpoint.handle)
            result.append(str(endpoint.addresses[0]))
    except Exhausted:
        return result


def test_an_endpoint_is_first_an_intent_and_then_attached(book: AddressBook) -> None:
    intent = book.reserve(draft("c1"), BRIDGED)
    assert texts(intent) == ["10.244.0.2"]
    assert not intent.attached
    assert intent.created == "2026-01-02T03:04:05+00:00"
    assert book.endpoints() == (intent,)
    assert book.confirm("blue.c1.eth0") == replace(intent, attached=True)
    assert book.endpoints() == (replace(intent, attached=True),)


def test_every_address_is_attributable_to_its_handle(book: AddressBook) -> None:
    book.reserve(draft("c1"), BRIDGED)
    assert book.holder("blue", ip_address("10.244.0.2")) == "blue.c1.eth0"
    assert book.holder("blue", ip_address("10.244.0.3")) is None
    assert book.holder("nowhere", ip_address("10.244.0.2")) is None


def test_an_endpoint_gets_one_address_of_each_family_ipv4_first(book: AddressBook) -> None:
    supply = Supply(DUAL, "h1", (SIX, FOUR))
    assert texts(book.reserve(draft("c1"), supply)) == ["10.244.0.0", "fd00:10:0:1::"]


def test_a_network_of_ipv6_alone_deals_ipv6_alone(book: AddressBook) -> None:
    supply = Supply(Network("blue", (POOL6,)), "h1", (SIX,))
    assert texts(book.reserve(draft("c1"), supply)) == ["fd00:10:0:1::"]


def test_attaching_twice_names_the_handle_and_what_it_holds(book: AddressBook) -> None:
    book.reserve(draft("c1"), BRIDGED)
    with pytest.raises(Conflict, match=r"blue\.c1\.eth0 exists already \(it holds 10\.244\.0\.2\)"):
        book.reserve(draft("c1"), BRIDGED)
    assert len(book.endpoints()) == 1


def test_release_frees_and_is_safe_to_repeat(book: AddressBook, journal: Store) -> None:
    intent = book.reserve(draft("c1"), BRIDGED)
    assert book.release(intent.handle) == intent
    revision = journal.list("").revision
    assert book.release(intent.handle) is None
    assert book.release("blue.never.eth0") is None
    assert journal.list("").revision == revision
    assert book.endpoints() == ()
    assert book.holder("blue", ip_address("10.244.0.2")) is None


def test_confirming_what_was_released_meanwhile_says_so(book: AddressBook) -> None:
    handle = book.reserve(draft("c1"), BRIDGED).handle
    book.release(handle)
    with pytest.raises(Conflict, match="was released while it was being attached"):
        book.confirm(handle)


def test_confirming_twice_writes_once(book: AddressBook, journal: Store) -> None:
    handle = book.reserve(draft("c1"), BRIDGED).handle
    first = book.confirm(handle)
    revision = journal.list("").revision
    assert book.confirm(handle) == first
    assert journal.list("").revision == revision


def test_addresses_come_back_last_freed_last_also_after_a_restart(
    book: AddressBook, journal: Store
) -> None:
    assert fill(book, BARE) == [f"10.244.0.{n}" for n in range(8)]
    for number in (5, 1, 6):
        book.release(f"blue.c{number}.eth0")
    again = AddressBook(journal)
    assert fill(again, BARE, "d") == ["10.244.0.5", "10.244.0.1", "10.244.0.6"]


def test_a_never_used_address_goes_first_also_after_a_restart(
    book: AddressBook, journal: Store
) -> None:
    book.release(book.reserve(draft("c1"), BARE).handle)
    assert texts(AddressBook(journal).reserve(draft("c2"), BARE)) == ["10.244.0.1"]


def test_all_survives_a_restart(book: AddressBook, journal: Store) -> None:
    book.confirm(book.reserve(draft("c1"), BRIDGED).handle)
    book.reserve(draft("c2"), BRIDGED)
    book.release("blue.gone.eth0")
    again = AddressBook(journal)
    assert again.endpoints() == book.endpoints()
    assert [each.attached for each in again.endpoints()] == [True, False]
    assert again.holder("blue", ip_address("10.244.0.3")) == "blue.c2.eth0"


def test_an_address_dealt_again_leaves_no_freed_mark(book: AddressBook, journal: Store) -> None:
    fill(book, BARE)
    book.release("blue.c3.eth0")
    assert len(journal.list(JOURNAL_FREED).entries) == 1
    book.reserve(draft("d"), BARE)
    assert journal.list(JOURNAL_FREED).entries == ()


def test_an_address_asked_for_is_given_even_when_reserved(book: AddressBook) -> None:
    supply = replace(
        BRIDGED, reservations=(Reservation("blue", ip_network("10.244.0.4/30"), "printers"),)
    )
    wanted = (ip_address("10.244.0.5"),)
    assert texts(book.reserve(draft("static"), supply, wanted)) == ["10.244.0.5"]
    assert fill(book, supply) == ["10.244.0.2", "10.244.0.3"]


def test_a_reservation_of_another_network_does_no_harm(book: AddressBook) -> None:
    supply = replace(BARE, reservations=(Reservation("red", ip_network("10.244.0.0/29")),))
    assert texts(book.reserve(draft("c1"), supply)) == ["10.244.0.0"]


def test_reservations_and_exclusions_take_effect_when_the_supply_changes(book: AddressBook) -> None:
    assert texts(book.reserve(draft("c1"), BARE)) == ["10.244.0.0"]
    reserved = replace(BARE, reservations=(Reservation("blue", ip_network("10.244.0.0/30")),))
    assert texts(book.reserve(draft("c2"), reserved)) == ["10.244.0.4"]
    assert texts(book.reserve(draft("c3"), BARE)) == ["10.244.0.1"]


@pytest.mark.parametrize(
    ("wanted", "kind", "says"),
    [
        (["10.244.0.2"], Conflict, r"10\.244\.0\.2 of network blue is held by blue\.c1\.eth0"),
        (["10.244.0.1"], Conflict, "kept for the network itself"),
        (["10.244.9.5"], Conflict, r"in no block that this host holds .* 10\.244\.0\.0/29"),
        (["192.168.0.1"], InvalidConfig, r"192\.168\.0\.1 is in no pool of network blue"),
        (["fd00:10::5"], InvalidConfig, "is in no pool of network blue"),
        (["10.244.0.3", "10.244.0.4"], InvalidConfig, "one IPv4 address"),
    ],
)
def test_an_address_that_cannot_be_given_is_refused_by_name(
    book: AddressBook, wanted: list[str], kind: type[Exception], says: str
) -> None:
    book.reserve(draft("c1"), BRIDGED)
    before = book.endpoints()
    addresses: tuple[IPAddress, ...] = tuple(ip_address(text) for text in wanted)
    with pytest.raises(kind, match=says) as error:
        book.reserve(draft("c2"), BRIDGED, addresses)
    assert getattr(error.value, "hint", "")
    assert not isinstance(error.value, NeedBlock), "the host has the one block that it may"
    assert book.endpoints() == before


def test_only_the_hosts_own_confirmed_blocks_inside_the_pools_are_dealt_from(
    book: AddressBook,
) -> None:
    others = (
        block("10.244.1.0/29", host="h2"),
        block("10.244.2.0/29", confirmed=False),
        block("10.99.0.0/29"),
        block("10.244.3.0/29", network="red"),
    )
    assert fill(book, replace(BARE, blocks=(*others, FOUR))) == [f"10.244.0.{n}" for n in range(8)]


def test_a_full_block_names_use_holders_and_remedy(book: AddressBook) -> None:
    fill(book, BRIDGED)
    with pytest.raises(Exhausted) as error:
        book.reserve(draft("late"), BRIDGED)
    assert not isinstance(error.value, NeedBlock)
    assert str(error.value) == (
        "network blue: no free IPv4 address on this host: 10.244.0.0/29 has 5 of 8 in use by "
        "blue.c0.eth0, blue.c1.eth0, blue.c2.eth0 and 2 more, 3 kept back or reserved"
    )
    assert "netloom ipam check" in error.value.hint
    assert len(book.endpoints()) == 5


def test_when_one_family_is_full_no_address_of_the_other_is_lost(book: AddressBook) -> None:
    supply = Supply(DUAL, "h1", (FOUR, SIX))
    fill(book, supply)
    for _ in range(3):
        with pytest.raises(Exhausted, match="no free IPv4 address"):
            book.reserve(draft("late"), supply)
    book.release("blue.c0.eth0")
    assert texts(book.reserve(draft("late"), supply)) == ["10.244.0.0", "fd00:10:0:1::8"]


def test_a_host_without_a_block_needs_one(book: AddressBook) -> None:
    with pytest.raises(NeedBlock, match="has no IPv4 block yet") as error:
        book.reserve(draft("c1"), Supply(BLUE, "h1", ()))
    assert error.value.pool == POOL
    assert book.endpoints() == ()


def test_on_demand_one_more_block_is_claimed_until_the_limit(book: AddressBook) -> None:
    """Two blocks of four addresses: eight containers, and the ninth is told why not."""
    cluster = MemoryStore()
    supply = Supply(RED, "h1", ())
    dealt = []
    for number in range(8):
        try:
            endpoint = book.reserve(draft(f"c{number}", "red"), supply)
        except NeedBlock as need:
            supply = replace(supply, blocks=(*supply.blocks, claim_needed(cluster, need)))
            endpoint = book.reserve(draft(f"c{number}", "red"), supply)
        dealt.append(endpoint.addresses[0])
    assert len(set(dealt)) == 8
    assert len(supply.blocks) == 2
    with pytest.raises(Exhausted, match="no free IPv4 address") as error:
        book.reserve(draft("late", "red"), supply)
    assert not isinstance(error.value, NeedBlock)
    assert "maxBlocksPerHost than 2" in error.value.hint


def test_a_static_address_in_a_free_block_makes_the_host_claim_that_very_block(
    book: AddressBook,
) -> None:
    cluster = MemoryStore()
    wanted = (ip_address("10.9.0.77"),)
    with pytest.raises(NeedBlock) as error:
        book.reserve(draft("c1", "red"), Supply(RED, "h1", ()), wanted)
    claimed = claim_needed(cluster, error.value)
    assert claimed.cidr == ip_network("10.9.0.76/30")
    endpoint = book.reserve(draft("c1", "red"), Supply(RED, "h1", (claimed,)), wanted)
    assert texts(endpoint) == ["10.9.0.77"]
    with pytest.raises(NeedBlock) as other:
        AddressBook(MemoryStore()).reserve(draft("c2", "red"), Supply(RED, "h2", ()), wanted)
    with pytest.raises(Conflict, match="is held by host h1"):
        claim_needed(cluster, other.value)


def test_a_second_pool_is_used_when_the_first_has_no_block_left() -> None:
    pools = (Pool(ip_network("10.9.0.0/30"), 30), Pool(ip_network("10.8.0.0/30"), 30))
    network = Network("red", pools, Addressing("on-demand", 4))
    cluster = MemoryStore()
    book = AddressBook(MemoryStore())
    supply = Supply(network, "h1", ())
    for number in range(5):
        try:
            endpoint = book.reserve(draft(f"c{number}", "red"), supply)
        except NeedBlock as need:
            supply = replace(supply, blocks=(*supply.blocks, claim_needed(cluster, need)))
            endpoint = book.reserve(draft(f"c{number}", "red"), supply)
    assert texts(endpoint) == ["10.8.0.0"]
    with pytest.raises(NeedBlock) as error:
        book.reserve(draft("c5", "red"), replace(supply, blocks=supply.blocks[:1]))
    assert claim_needed(cluster, error.value).cidr == supply.blocks[1].cidr


def test_a_host_of_a_dual_stack_network_holds_a_block_of_each_pool() -> None:
    cluster = MemoryStore()
    blocks = hold_blocks(cluster, DUAL, "h1")
    assert [str(each.cidr) for each in blocks] == ["10.244.0.0/29", "fd00:10::/64"]
    assert hold_blocks(cluster, DUAL, "h1") == blocks
    assert hold_blocks(cluster, RED, "h1") == ()


@pytest.mark.parametrize("part", ["", "a/b", "a\0b"])
def test_a_name_that_would_break_the_journals_keys_is_refused(book: AddressBook, part: str) -> None:
    with pytest.raises(InvalidConfig, match="cannot name an endpoint"):
        book.reserve(draft(part), BARE)


def test_names_whose_dots_make_equal_handles_are_kept_apart(book: AddressBook) -> None:
    book.reserve(draft("a.b", ifname="eth0"), BARE)
    with pytest.raises(Conflict, match=r"blue\.a\.b\.eth0 exists already"):
        book.reserve(draft("a", ifname="b.eth0"), BARE)
    assert book.find("a", "b.eth0", "blue") is None
    assert book.find("a.b", "eth0", "blue") is not None


def test_an_endpoint_is_found_with_and_without_its_network(book: AddressBook) -> None:
    endpoint = book.reserve(draft("c1"), BARE)
    assert book.find("c1", "eth0", "blue") == endpoint
    assert book.find("c1", "eth0", "") == endpoint
    assert book.find("c1", "eth1", "") is None
    assert book.find("c1", "eth0", "red") is None
    assert book.get(endpoint.handle) == endpoint


def test_every_change_grows_the_version_and_is_told_to_listeners(book: AddressBook) -> None:
    heard: list[int] = []
    book.on_change(lambda: heard.append(book.version))
    start = book.version
    handle = book.reserve(draft("c1"), BARE).handle
    book.confirm(handle)
    book.confirm(handle)  # no change, no call
    book.release(handle)
    book.release(handle)
    assert heard == [start + 1, start + 2, start + 3]


def test_many_threads_get_different_addresses(tmp_path: Path) -> None:
    journal = SqliteStore(str(tmp_path / "journal.db"))
    book = AddressBook(journal)
    wide = Network("blue", (Pool(ip_network("10.244.0.0/16"), 24),))
    supply = Supply(wide, "h1", (block("10.244.0.0/24"),))
    failures: list[BaseException] = []

    def attach(thread: int) -> None:
        try:
            for number in range(20):
                book.confirm(book.reserve(draft(f"t{thread}n{number}"), supply).handle)
                if number % 4 == 0:
                    book.release(f"blue.t{thread}n{number}.eth0")
        except BaseException as error:  # noqa: BLE001 - shown by the assertion below
            failures.append(error)

    threads = [threading.Thread(target=attach, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    addresses = [endpoint.addresses[0] for endpoint in book.endpoints()]
    assert len(addresses) == len(set(addresses)) == 8 * 15
    assert AddressBook(journal).endpoints() == book.endpoints()
    journal.close()


@pytest.mark.parametrize("done", [True, False])
@pytest.mark.parametrize("error", [Died, Unavailable])
def test_an_intent_whose_write_has_an_unknown_outcome_holds_nothing(
    done: bool, error: type[BaseException]
) -> None:
    """The caller was told that it failed, so whatever the disk says must be taken back."""
    store = MemoryStore()
    AddressBook(store).reserve(draft("c0"), BARE)
    faulty = FaultyStore(store, 2, done=done, error=error)  # reading takes the first call
    book = AddressBook(faulty)
    with pytest.raises(error):
        book.reserve(draft("c1"), BARE)
    faulty.heal()
    assert texts(book.reserve(draft("c2"), BARE)) == ["10.244.0.1"]
    assert [each.handle for each in book.endpoints()] == ["blue.c0.eth0", "blue.c2.eth0"]
    assert AddressBook(store).endpoints() == book.endpoints()
    assert texts(book.reserve(draft("c1"), BARE)) == ["10.244.0.2"]


@pytest.mark.parametrize("done", [True, False])
def test_a_release_with_an_unknown_outcome_can_be_repeated(done: bool) -> None:
    store = MemoryStore()
    handle = AddressBook(store).reserve(draft("c1"), BARE).handle
    faulty = FaultyStore(store, 2, done=done, error=Unavailable)
    book = AddressBook(faulty)
    with pytest.raises(Unavailable):
        book.release(handle)
    faulty.heal()
    book.release(handle)
    assert book.endpoints() == AddressBook(store).endpoints() == ()


def test_asking_works_while_the_journal_does_not() -> None:
    store = MemoryStore()
    AddressBook(store).reserve(draft("c1"), BARE)
    faulty = FaultyStore(store, 2, done=False, error=Unavailable)
    book = AddressBook(faulty)
    for _ in range(2):
        with pytest.raises(Unavailable):
            book.reserve(draft("c2"), BARE)
    assert [each.handle for each in book.endpoints()] == ["blue.c1.eth0"]
    assert book.find("c1", "eth0", "") is not None


def test_asking_does_not_wait_for_a_journal_that_hangs() -> None:
    writing, go_on = threading.Event(), threading.Event()

    class Hanging(MemoryStore):
        def commit(self, transaction: Transaction) -> Committed:
            writing.set()
            assert go_on.wait(30)
            return super().commit(transaction)

    book = AddressBook(Hanging())
    writer = threading.Thread(target=lambda: book.reserve(draft("c1"), BARE))
    writer.start()
    assert writing.wait(30)
    seen: list[object] = []

    def ask() -> None:
        seen.append(book.endpoints())
        seen.append(book.find("c1", "eth0", ""))
        seen.append(book.holder("blue", ip_address("10.244.0.0")))
        seen.append(book.usage(BARE)[0].in_use)
        seen.append(book.version)

    reader = threading.Thread(target=ask)
    reader.start()
    reader.join(30)
    stuck = reader.is_alive()
    go_on.set()
    writer.join(30)
    assert not stuck, "asking waited for the journal"
    assert seen == [(), None, None, 0, 0]
    assert len(book.endpoints()) == 1


def test_another_hand_on_the_journal_is_noticed_and_the_book_goes_on(
    book: AddressBook, journal: Store
) -> None:
    other = AddressBook(journal)
    other.reserve(draft("c1"), BARE)
    with pytest.raises(Unavailable, match="changed by another process"):
        book.reserve(draft("c1"), BARE)
    assert texts(book.reserve(draft("c2"), BARE)) == ["10.244.0.1"]


def test_a_record_that_does_not_parse_keeps_its_addresses_and_harms_nothing_else(
    journal: Store,
) -> None:
    first = AddressBook(journal)
    good = first.reserve(draft("good"), BARE)
    torn = first.reserve(draft("torn"), BARE).render() | {"labels": 1}
    key = f"{JOURNAL_ENDPOINTS}blue/torn/eth0"
    journal.commit(
        Transaction(
            [
                Put(key, json.dumps(torn).encode()),
                Put(f"{JOURNAL_ENDPOINTS}blue/rubbish/eth0", b"\xff\x00"),
                Put(f"{JOURNAL_FREED}blue/nonsense", b"x"),
            ]
        )
    )
    book = AddressBook(journal)
    assert book.endpoints() == (good,)
    assert {problem.subject for problem in book.problems()} == {
        f"key {key}",
        f"key {JOURNAL_ENDPOINTS}blue/rubbish/eth0",
    }
    assert book.holder("blue", ip_address("10.244.0.1")) == "blue.torn.eth0"
    assert texts(book.reserve(draft("next"), BARE)) == ["10.244.0.2"]
    book.release("blue.torn.eth0")
    assert book.holder("blue", ip_address("10.244.0.1")) is None
    assert journal.get(key) is None


def test_a_container_that_a_newer_agent_attached_is_one_of_an_older_agent_too(
    journal: Store,
) -> None:
    newer = AddressBook(journal).reserve(draft("newer"), BARE)
    key = f"{JOURNAL_ENDPOINTS}blue/newer/eth0"
    document = newer.render() | {"ofANewerVersion": 1}
    journal.commit(Transaction([Put(key, json.dumps(document).encode())]))
    book = AddressBook(journal)
    assert (book.endpoints(), book.problems()) == ((newer,), ())


def test_an_address_that_the_journal_holds_twice_stays_held_when_one_holder_goes(
    journal: Store,
) -> None:
    one = AddressBook(journal).reserve(draft("one"), BARE)
    two = replace(one, container_id="two")
    key = f"{JOURNAL_ENDPOINTS}blue/two/eth0"
    journal.commit(Transaction([Put(key, json.dumps(two.render()).encode())]))
    book = AddressBook(journal)
    assert "10.244.0.0 of network blue is held by blue.one.eth0" in book.problems()[0].text
    book.release("blue.one.eth0")
    assert texts(book.reserve(draft("three"), BARE)) == ["10.244.0.1"]
    assert book.holder("blue", ip_address("10.244.0.0")) == "blue.two.eth0"
    assert book.problems() == ()


def test_blocks_are_remembered_for_times_without_a_cluster_store(
    book: AddressBook, journal: Store
) -> None:
    book.remember_blocks([FOUR, SIX])
    revision = journal.list("").revision
    book.remember_blocks([SIX, FOUR])
    assert journal.list("").revision == revision, "nothing changed, nothing is written"
    again = AddressBook(journal)
    assert set(again.remembered_blocks()) == {FOUR, SIX}
    supply = Supply(DUAL, "h1", again.remembered_blocks())
    assert texts(again.reserve(draft("c1"), supply)) == ["10.244.0.0", "fd00:10:0:1::"]


def test_a_block_given_back_is_forgotten_with_its_freed_marks(
    book: AddressBook, journal: Store
) -> None:
    book.remember_blocks([FOUR, SIX])
    book.release(book.reserve(draft("c1"), Supply(DUAL, "h1", (FOUR, SIX))).handle)
    book.remember_blocks([SIX])
    assert book.remembered_blocks() == (SIX,)
    keys = [entry.key for entry in journal.list(JOURNAL_FREED).entries]
    assert keys == [f"{JOURNAL_FREED}blue/fd00:10:0:1::"]
    assert texts(book.reserve(draft("c2"), BARE)) == ["10.244.0.0"]


def test_a_lost_block_with_containers_in_it_stays_as_a_hint_but_is_not_dealt_from(
    book: AddressBook, journal: Store
) -> None:
    book.remember_blocks([FOUR])
    book.reserve(draft("c1"), BARE)
    book.remember_blocks([])
    again = AddressBook(journal)
    assert again.remembered_blocks() == (replace(FOUR, confirmed=False),)
    with pytest.raises(NeedBlock):
        again.reserve(draft("c2"), replace(BARE, blocks=again.remembered_blocks()))
    again.release("blue.c1.eth0")
    again.remember_blocks([])
    assert again.remembered_blocks() == ()


def test_a_new_journal_takes_over_what_still_lives(book: AddressBook, journal: Store) -> None:
    """A host that lost its disk must not deal addresses of its running containers again."""
    lost = AddressBook(MemoryStore())
    alive = [lost.confirm(lost.reserve(draft(name), BARE).handle) for name in ("c1", "c2")]
    assert not book.begun
    assert book.begin("h1", alive) == tuple(alive)
    assert book.endpoints() == tuple(alive)
    assert texts(book.reserve(draft("c3"), BARE)) == ["10.244.0.2"]
    again = AddressBook(journal)
    assert again.begun
    assert again.endpoints() == book.endpoints()


def test_taking_over_leaves_out_what_is_held_already(book: AddressBook) -> None:
    here = book.reserve(draft("here"), BARE)
    twin = replace(here, container_id="twin")
    other = replace(here, container_id="other", addresses=(ip_address("10.244.0.5"),))
    same = replace(other, container_id="same")
    assert book.begin("h1", [here, twin, other, same]) == (other,)
    assert book.problems() == ()


def test_a_journal_is_begun_by_its_mark_or_by_any_record(journal: Store) -> None:
    assert not AddressBook(journal).begun
    AddressBook(journal).begin("h1", [])
    assert AddressBook(journal).begun
    older = MemoryStore()
    AddressBook(older).reserve(draft("c1"), BARE)
    assert AddressBook(older).begun


def test_usage_is_counted_for_each_block(book: AddressBook) -> None:
    book.reserve(draft("c1"), BRIDGED)
    (usage,) = book.usage(BRIDGED)
    assert (usage.total, usage.in_use, usage.withheld, usage.free) == (8, 1, 3, 4)
    assert isinstance(usage.cidr, IPv4Network)


def test_a_deleted_record_frees_its_address_at_the_next_start(journal: Store) -> None:
    AddressBook(journal).reserve(draft("c1"), BARE)
    journal.commit(Transaction([Delete(f"{JOURNAL_ENDPOINTS}blue/c1/eth0")]))
    assert texts(AddressBook(journal).reserve(draft("c2"), BARE)) == ["10.244.0.0"]
