"""Any history of attaches, detaches, crashes and new blocks keeps the promises of addressing.

Two hosts share one cluster store; each has its journal. A crash is a store that fails at its next
write, done or not, after which the host starts anew from its journal.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from ipaddress import ip_network

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    rule,
)
from tests.unit.memory_store import Died, FaultyStore, MemoryStore

from netloom.agent.addresses import AddressBook
from netloom.agent.mirror import Mirror
from netloom.core.ipam.audit import Facts, check
from netloom.core.ipam.supply import NeedBlock, Supply
from netloom.model.addr import IPAddress
from netloom.model.endpoint import Endpoint
from netloom.model.errors import Conflict, Exhausted
from netloom.model.host import Block, Host, Reservation
from netloom.model.keys import ENDPOINTS
from netloom.model.network import Addressing, Network
from netloom.model.pool import Pool
from netloom.model.view import Cluster
from netloom.reconcile.claim_entries import list_claims
from netloom.reconcile.claims import claim_needed, settle

POOL4 = Pool(ip_network("10.0.0.0/26"), 30)
POOL6 = Pool(ip_network("fd00::/120"), 126)
NETWORK = Network("blue", (POOL4, POOL6), Addressing("on-demand", 3))
HOSTS = ("h1", "h2")
RESERVED = Reservation("blue", ip_network("10.0.0.4/31"))


class HostModel:
    """One host: its journal on disk, its book, and what we know must be true of it."""

    def __init__(self, host_id: str, cluster: MemoryStore) -> None:
        self.host_id = host_id
        self.cluster = cluster
        self.disk = MemoryStore()
        self.book = AddressBook(self.disk)
        self.confirmed: dict[str, tuple[IPAddress, ...]] = {}
        self.freed: list[IPAddress] = []
        self.used: set[IPAddress] = set()

    def blocks(self) -> tuple[Block, ...]:
        return tuple(
            each.block
            for each in list_claims(self.cluster, "blue")
            if each.block and each.block.host_id == self.host_id and each.block.confirmed
        )

    def supply(self) -> Supply:
        blocks = self.blocks()
        # As a bridge: the first address of every block is kept back.
        excluded = {block.cidr: frozenset({block.cidr[0]}) for block in blocks}
        return Supply(NETWORK, self.host_id, blocks, excluded, (RESERVED,))

    def draft(self, container: str) -> Endpoint:
        return Endpoint(
            "blue", self.host_id, container, "eth0", "/x", "veth", "02:00:00:00:00:01", ()
        )

    def note_dealt(self, endpoint: Endpoint) -> None:
        """Check what was dealt against the history, and remember it."""
        for address in endpoint.addresses:
            rest = self.candidates(address.version)
            fresh = [a for a in rest if a not in self.used]
            if fresh:
                assert address in fresh, f"{address} was used before, {fresh} never"
            else:
                longest = next(a for a in self.freed if a in rest)
                assert address == longest, f"{address} dealt before {longest}, freed earlier"
            self.take(address)

    def take(self, address: IPAddress) -> None:
        self.used.add(address)
        if address in self.freed:
            self.freed.remove(address)

    def candidates(self, family: int) -> list[IPAddress]:
        """What could have been dealt of one family just now, by the rules alone."""
        held = {a for each in self.confirmed.values() for a in each}
        return [
            address
            for block in self.blocks()
            if block.cidr.version == family
            for address in block.cidr
            if address != block.cidr[0] and address not in RESERVED.cidr and address not in held
        ]


def dying_book(disk: MemoryStore, step: int, *, done: bool) -> tuple[AddressBook, FaultyStore]:
    """Return a book of ``disk`` that dies at its ``step``-th write: one listing comes before."""
    store = FaultyStore(disk, 1 + step, done=done)
    return AddressBook(store), store


class AddressingMachine(RuleBasedStateMachine):
    """Rules are what users, crashes and other hosts do."""

    attached = Bundle("attached")

    @initialize()
    def start(self) -> None:
        self.cluster = MemoryStore()
        self.hosts = {host: HostModel(host, self.cluster) for host in HOSTS}
        self.count = 0

    def name(self) -> str:
        self.count += 1
        return f"c{self.count}"

    @rule(target=attached, host=st.sampled_from(HOSTS))
    def attach(self, host: str) -> object:
        """Attach a container, claiming blocks as need be; when all is full, say so and why."""
        model = self.hosts[host]
        draft = model.draft(self.name())
        for _ in range(8):
            try:
                endpoint = model.book.reserve(draft, model.supply())
                break
            except NeedBlock as need:
                try:
                    claim_needed(self.cluster, need)
                except Exhausted:
                    return multiple()
            except Exhausted:
                families = [f for f in (4, 6) if not model.candidates(f)]
                assert families, "refused although every family has a free address"
                return multiple()
        else:
            raise AssertionError("a new block did not help")
        model.note_dealt(endpoint)
        model.book.confirm(endpoint.handle)
        model.confirmed[endpoint.handle] = endpoint.addresses
        return (host, endpoint.handle)

    @rule(target=attached, host=st.sampled_from(HOSTS), number=st.integers(1, 62))
    def attach_static(self, host: str, number: int) -> object:
        """Ask for one address: it is given, or refused for a reason that holds."""
        model = self.hosts[host]
        wanted = POOL4.cidr[number]
        try:
            endpoint = model.book.reserve(model.draft(self.name()), model.supply(), (wanted,))
        except Conflict:
            held = {a for each in model.confirmed.values() for a in each}
            own = [b.cidr for b in model.blocks() if wanted in b.cidr]
            kept_back = any(wanted == cidr[0] for cidr in own)
            assert wanted in held or not own or kept_back or not model.candidates(6)
            return multiple()
        assert wanted in endpoint.addresses
        for address in endpoint.addresses:
            model.take(address)
        model.book.confirm(endpoint.handle)
        model.confirmed[endpoint.handle] = endpoint.addresses
        return (host, endpoint.handle)

    @rule(which=consumes(attached))
    def detach(self, which: tuple[str, str]) -> None:
        host, handle = which
        model = self.hosts[host]
        model.book.release(handle)
        model.book.release(handle)
        model.freed += model.confirmed.pop(handle, ())

    @rule(which=attached)
    def attach_again_under_the_same_handle(self, which: tuple[str, str]) -> None:
        host, handle = which
        model = self.hosts[host]
        if handle not in model.confirmed:
            return  # a crash took it away
        with pytest.raises(Conflict, match=handle):
            model.book.reserve(model.draft(handle.split(".")[1]), model.supply())

    @rule(host=st.sampled_from(HOSTS), done=st.booleans(), step=st.integers(1, 2))
    def crash_while_attaching(self, host: str, done: bool, step: int) -> None:
        """Die at the intent's or the confirmation's write; the next start drops the intent."""
        model = self.hosts[host]
        book, store = dying_book(model.disk, step, done=done)
        draft = model.draft(self.name())
        exhausted = False
        try:
            book.confirm(book.reserve(draft, model.supply()).handle)
        except Died:
            pass
        except Exhausted:
            exhausted = True
        assert store.failed != exhausted, "it dies, unless there is no address to write of"
        self.restart(model)
        endpoint = model.book.release(draft.handle)
        if endpoint is not None:
            for address in endpoint.addresses:
                model.take(address)
                model.freed.append(address)

    @rule(which=attached, done=st.booleans())
    def crash_while_detaching(self, which: tuple[str, str], done: bool) -> None:
        """Die at the release's write: the container is wholly held or wholly free."""
        host, handle = which
        model = self.hosts[host]
        if handle not in model.confirmed:
            return
        book, _ = dying_book(model.disk, 1, done=done)
        with pytest.raises(Died):
            book.release(handle)
        self.restart(model)
        assert (model.book.get(handle) is None) == done
        if done:
            model.freed += model.confirmed.pop(handle)

    @rule(host=st.sampled_from(HOSTS), done=st.booleans(), step=st.integers(1, 8))
    def crash_while_claiming(self, host: str, done: bool, step: int) -> None:
        model = self.hosts[host]
        need = NeedBlock(model.supply(), (POOL4,), text="")
        with suppress(Died, Exhausted):
            claim_needed(FaultyStore(self.cluster, step, done=done), need)
        self.restart(model)
        settle(self.cluster, NETWORK, host)

    @rule(host=st.sampled_from(HOSTS))
    def crash(self, host: str) -> None:
        self.restart(self.hosts[host])

    def restart(self, model: HostModel) -> None:
        model.book = AddressBook(model.disk)

    @rule(host=st.sampled_from(HOSTS))
    def mirror(self, host: str) -> None:
        """The store then shows exactly what the host has."""
        model = self.hosts[host]
        Mirror(model.book, host).sync_once(self.cluster)
        shown = self.cluster.list(f"{ENDPOINTS}{host}/").entries
        parsed = {Endpoint.parse(json.loads(entry.value)).handle for entry in shown}
        assert parsed == set(model.confirmed)

    @invariant()
    def every_address_has_one_holder_and_the_right_one(self) -> None:
        holders: dict[IPAddress, str] = {}
        for model in self.hosts.values():
            endpoints = {each.handle: each for each in model.book.endpoints()}
            assert endpoints.keys() == model.confirmed.keys()
            for handle, addresses in model.confirmed.items():
                assert endpoints[handle].addresses == addresses
                for address in addresses:
                    assert address not in holders, f"{address} is held twice"
                    holders[address] = handle
                    assert model.book.holder("blue", address) == handle

    @invariant()
    def the_audit_finds_nothing(self) -> None:
        blocks = {
            ("blue", each.cidr): each.block
            for each in list_claims(self.cluster, "blue")
            if each.block
        }
        picture = Cluster(
            networks={"blue": NETWORK},
            hosts={host: Host(host, host) for host in HOSTS},
            blocks=blocks,
        )
        for model in self.hosts.values():
            facts = Facts(picture, model.host_id, model.book.endpoints())
            assert check(facts) == ()

    @invariant()
    def no_block_is_pending_between_runs(self) -> None:
        assert all(
            each.block and each.block.confirmed for each in list_claims(self.cluster, "blue")
        )

    @invariant()
    def blocks_never_overlap_and_keep_to_the_limit(self) -> None:
        claims = [each.cidr for each in list_claims(self.cluster, "blue")]
        for number, cidr in enumerate(claims):
            assert not any(
                other.version == cidr.version and other.overlaps(cidr)
                for other in claims[number + 1 :]
            )
        for model in self.hosts.values():
            for pool in NETWORK.pools:
                own = [b for b in model.blocks() if b.cidr.version == pool.family]
                assert len(own) <= 3


TestAddressing: Callable[[], object] = AddressingMachine.TestCase
TestAddressing.settings = settings(  # type: ignore[attr-defined]
    max_examples=60, stateful_step_count=40, deadline=None
)
