"""Hosts that lend to each other over one store in memory, without kernel and threads.

Each has a journal, a picture of the store as of its last look, and what its agent does with them.
A host that waits for an answer lets the others work meanwhile: there is no other time here.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Container
from contextlib import suppress
from typing import Any, cast

from tests.unit.memory_store import FaultyStore, MemoryStore
from tests.unit.views import facts, network

from netloom.agent.addresses import AddressBook
from netloom.agent.borrowing import Borrowing
from netloom.agent.leaving import drained, give_back
from netloom.agent.lending import Lending
from netloom.agent.mirror import Mirror
from netloom.agent.reserving import Reserving
from netloom.agent.surroundings import Surroundings
from netloom.core.desired import Standing
from netloom.model.addr import IPAddress
from netloom.model.datastore import Batch, Delete, Event, Put, Store, Transaction
from netloom.model.endpoint import Endpoint
from netloom.model.errors import Conflict, Exhausted
from netloom.model.host import Block, Host
from netloom.model.keys import BLOCKS, CLUSTER, alive_key, block_key, network_key
from netloom.model.network import Network
from netloom.model.view import Cluster
from netloom.reconcile.cluster import fold, from_listing
from netloom.reconcile.holding import Held, hold_blocks

#: Four blocks of four addresses: soon there is none to claim.
BLUE = network(
    "blue",
    pools=[{"cidr": "10.0.0.0/28", "blockSize": 30}],
    addressing={"mode": "on-demand", "borrowing": True},
    attachment="routed",
    backend="host-gw",
)


class _Standing:
    """A network as it stands, with nothing kept back of a block but its first address."""

    def __init__(self, blocks: tuple[Block, ...]) -> None:
        self.blocks = blocks

    def excluded(self, block: Block) -> frozenset[IPAddress]:
        return frozenset() if block.lender else frozenset({block.cidr.network_address})


class Crowd(MemoryStore):
    """The store, the hosts, and the time, which passes while somebody waits."""

    def __init__(self, *names: str) -> None:
        super().__init__()
        self.now_s = 0.0
        self._events: list[tuple[int, Event]] = []
        self.hosts = {name: LoanHost(name, self) for name in names}
        #: Which hosts work while another one waits.
        self.awake = set(names)
        definition = json.dumps(BLUE.render()).encode()
        self.commit(Transaction([Put(network_key(BLUE.name), definition)]))
        for name in names:
            self.live(name)
        self._copy = self.list(BLOCKS).entries

    def keep_copy(self) -> None:
        """Copy what is claimed and lent, as somebody's backup does."""
        self._copy = self.list(BLOCKS).entries

    def restore(self, forgotten: Container[int] = ()) -> None:
        """Have the store be restored, with the loans of the copy.

        Of the blocks, counted from the lowest, those ``forgotten`` are not in it; of the others it
        has what is true, since who has lost his block to another is another matter. All hosts had
        seen what it says by then.
        """
        for host in self.hosts.values():
            host.look()
        gone = [
            Delete(entry.key)
            for number, entry in enumerate(self.list(BLOCKS).entries)
            if number in forgotten or b"lender" in entry.value
        ]
        old = [Put(e.key, e.value) for e in self._copy if b"lender" in e.value]
        self.commit(Transaction(gone))
        self.commit(Transaction(old))
        self.store_id += "+"
        self.settled = False

    def settle(self) -> None:
        """Let all hosts return to a store that was restored, as long as it waits for them."""
        for _ in range(3):
            for host in self.hosts.values():
                host.look()
                with suppress(Conflict, Exhausted):
                    host.upkeep()
        self.settled = True

    def pass_time(self) -> None:
        """Let more time pass than anybody waits for."""
        self.now_s += 60.0

    def batch(self, after_revision: int) -> Batch:
        """Return what changed since, as a watch brings it."""
        new = (event for revision, event in self._events if revision > after_revision)
        return Batch(self._revision, tuple(e for e in new if e.key.startswith(CLUSTER)))

    def _change(self, operation: Put | Delete) -> None:
        super()._change(operation)
        event = Event(operation.key, self._entries.get(operation.key))
        self._events.append((self._revision, event))

    def live(self, name: str) -> None:
        self.commit(Transaction([Put(alive_key(name), b"{}")]))
        self.awake.add(name)

    def leave(self, name: str) -> None:
        self.commit(Transaction([Delete(alive_key(name))]))
        self.awake.discard(name)

    def watch(self, prefix: str, after_revision: int) -> Any:
        return _Waiting(self)

    def clock(self) -> float:
        return self.now_s

    def holders(self) -> dict[IPAddress, list[str]]:
        """Return who has which address, by the journals."""
        found: dict[IPAddress, list[str]] = {}
        for host in self.hosts.values():
            for endpoint in host.book.endpoints():
                for address in endpoint.addresses:
                    found.setdefault(address, []).append(endpoint.handle)
        return found


class _Waiting:
    """A watch that gives the others a turn each time somebody looks at it."""

    def __init__(self, crowd: Crowd) -> None:
        self._crowd = crowd

    def next(self, timeout_s: float | None = None) -> Batch | None:
        self._crowd.now_s += 0.5
        if timeout_s is not None and timeout_s <= 0.5:
            return None
        for name in sorted(self._crowd.awake):
            self._crowd.hosts[name].lend()
        return Batch(0)

    def close(self) -> None:
        pass


class MeddledStore(FaultyStore):
    """A store of which somebody else makes use right before the k-th operation."""

    def __init__(self, inner: Store, at: int, meddle: Callable[[], None]) -> None:
        super().__init__(inner, at, done=True)
        self._meddle = meddle

    def _fails(self) -> bool:
        if next(self._calls) == self._fails_at:
            self._meddle()
        return False


class LoanHost:
    """One host of the crowd."""

    def __init__(self, name: str, crowd: Crowd) -> None:
        self.name = name
        self.disk = MemoryStore()
        self.store: Store = crowd
        self._crowd = crowd
        self.cluster = Cluster()
        self.start()
        self.book.begin(name, ())

    def start(self) -> None:
        """Begin as an agent does after whatever happened: from the disk and the store."""
        self.book = AddressBook(self.disk)
        self.claimed: dict[Block, None] = {}
        self._lending = Lending(self.name, self.book, self._crowd.clock)
        self._borrowing = Borrowing(self.name, self.book, self._crowd.clock)
        self._mirror = Mirror(self.book, self.name)
        around = Surroundings(
            Host(self.name, self.name),
            lambda: self.cluster,
            lambda: self.store,
            lambda network: self.own(),
            lambda block: self.claimed.update({block: None}),
            lambda peer: [],
        )
        self._reserving = Reserving(self.book, around, self._borrowing)
        self.look()

    def look(self) -> None:
        """Take a new picture: what came since the last, or all of another store."""
        crowd, before = self._crowd, self.cluster
        if before.store_id == crowd.store_id:
            self.cluster = fold(before, crowd.batch(before.revision))
        else:
            self.cluster = from_listing(crowd.list(CLUSTER), crowd.store_id, before)
        shown = self.cluster.blocks
        for block in tuple(self.claimed):
            if shown.get((block.network, block.cidr)) == block:
                del self.claimed[block]

    def own(self) -> tuple[Block, ...]:
        """Return the blocks that are this host's, for all that it knows."""
        shown = [b for b in self.cluster.blocks.values() if b.host_id == self.name and b.confirmed]
        return tuple(dict.fromkeys((*shown, *self.claimed)))

    def attach(self, container: str, *wanted: IPAddress, net: Network = BLUE) -> Endpoint:
        """Attach a container, as far as its address goes. Raises as an attach does."""
        draft = Endpoint(
            "blue", self.name, container, "eth0", "/x", "veth", "02:00:00:00:00:01", ()
        )
        got = self._reserving.reserve(draft, net, self._standing(), wanted)
        self.book.confirm(got.handle)
        return got

    def detach(self, container: str) -> None:
        """Free a container's address."""
        self.book.release(f"blue.{container}.eth0")

    def lend(self) -> None:
        """Answer those who ask, with a picture of now."""
        self.look()
        self._lending.sync(self.store, self.cluster, {"blue": self._standing()})

    def upkeep(self, net: Network = BLUE) -> None:
        """Do what the agent does in the background, with the picture that there is."""
        own = [b for b in self.cluster.blocks.values() if b.host_id == self.name]
        hints = tuple(b.cidr for b in self.book.remembered_blocks() if not b.lender)
        standing = frozenset(
            block.cidr
            for block in own
            if block_key(block.network, block.cidr) in self.cluster.standing
        )
        hold_blocks(self.store, net, self.name, Held(own, standing, hints))
        self.book.remember_blocks(self.own())
        for block in give_back(self.store, self.book, drained(net, own, facts()), own):
            self.claimed.pop(block, None)
        self._lending.sync(self.store, self.cluster, {"blue": self._standing()})
        self._borrowing.tidy(self.store, self.cluster, own)
        self._mirror.sync_once(self.store)

    def die(self) -> None:
        """Begin anew after a crash."""
        self.store = self._crowd
        self.start()

    def _standing(self) -> Standing:
        return cast(Standing, _Standing(self.own()))
