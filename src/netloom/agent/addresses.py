"""Deal addresses of the host's own blocks, through its journal, and tell who holds which.

The journal is the truth and the book's index its picture in memory, built at start and after any
write whose outcome is unknown. Nothing here needs the cluster store: containers are attached and
detached while it is away, from the blocks that the host has.

Every change is one transaction of the journal, so that a crash leaves an address either held by a
handle or free. ``agent/mirror.py`` copies the endpoints to the cluster store in the background.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime

from netloom.agent import journal as records
from netloom.agent.bookkeeping import Bookkeeping
from netloom.agent.journal import Record
from netloom.agent.lent import LentAddresses
from netloom.core.ipam.ledger import Usage
from netloom.core.ipam.supply import Supply, pick
from netloom.model.addr import IPAddress, IPNetwork
from netloom.model.datastore import Compare, Delete, Put, Store
from netloom.model.endpoint import Endpoint
from netloom.model.errors import Conflict, InvalidConfig
from netloom.model.host import Block
from netloom.model.view import Problem

#: The most operations that one transaction of the journal gets.
_BATCH = 100


def utc_now() -> str:
    """Return the time as an endpoint's ``created`` has it: ISO 8601, UTC, seconds."""
    return datetime.now(UTC).isoformat(timespec="seconds")


class AddressBook:
    """The endpoints of this host and the addresses they hold. Safe for threads.

    One process at a time may have it: of two agents on one host the second refuses to start.
    """

    def __init__(self, journal: Store, now: Callable[[], str] = utc_now) -> None:
        self._kept = Bookkeeping(journal)
        self._now = now
        self.lent = LentAddresses(self._kept)
        self._expected: set[tuple[str, IPNetwork]] = set()

    # Asking. This never waits for the journal.

    @property
    def version(self) -> int:
        """Count the changes of the book since start."""
        return self._kept.version

    def endpoints(self) -> tuple[Endpoint, ...]:
        """Return every endpoint of this host, intents (not ``attached``) too, by handle."""
        with self._kept.looking() as index:
            return index.listing()

    def get(self, handle: str) -> Endpoint | None:
        """Return the endpoint of ``handle``."""
        with self._kept.looking() as index:
            record = index.records.get(handle)
            return record.endpoint if record else None

    def find(self, container_id: str, ifname: str, network: str) -> Endpoint | None:
        """Return a container's endpoint; ``network`` "" means whichever network it is in."""
        named = self.get(f"{network}.{container_id}.{ifname}") if network else None
        for each in self.endpoints() if not network else filter(None, [named]):
            if (each.container_id, each.ifname) == (container_id, ifname):
                return each
        return None

    def holder(self, network: str, address: IPAddress) -> str | None:
        """Return the handle that holds ``address``, or None."""
        with self._kept.looking() as index:
            return index.ledger(network).holder(address)

    def usage(self, supply: Supply) -> tuple[Usage, ...]:
        """Count the addresses of each block of a network."""
        with self._kept.looking() as index:
            return supply.usage(index.ledger(supply.network.name))

    def problems(self) -> tuple[Problem, ...]:
        """Return what of the journal could not be read, and addresses that it holds twice."""
        with self._kept.looking() as index:
            return index.problems

    def remembered_blocks(self) -> tuple[Block, ...]:
        """Return the host's blocks as last seen, for times without a cluster store.

        Confirmed ones may be dealt from. One that is not confirmed was lost while containers still
        had addresses in it: it serves as a hint for the next claim only.
        """
        with self._kept.looking() as index:
            return tuple(index.blocks.values())

    @property
    def begun(self) -> bool:
        """Tell whether the journal is this host's from before; a new one wants :meth:`begin`."""
        with self._kept.looking() as index:
            return index.begun

    def on_change(self, listener: Callable[[], None]) -> None:
        """Have ``listener`` called after every change, by the thread that made it.

        It must be quick and must not raise: set an event, ring a bell.
        """
        self._kept.on_change(listener)

    # Changing. Each is one transaction of the journal.

    def begin(
        self, host_id: str, endpoints: Iterable[Endpoint], lent: Iterable[Block] = ()
    ) -> tuple[Endpoint, ...]:
        """Begin a new journal with ``endpoints`` and ``lent``; return those that were taken over.

        They are what the cluster store shows of this host and still lives: a host whose disk was
        lost while its containers run must neither cut them off nor deal their addresses again.
        Those whose handle or address is held already are left out, and so is what other hosts have
        asked for in vain so far. Raises Unavailable.
        """
        with self._kept.turn() as index:
            taken = {address for each in index.listing() for address in each.addresses}
            adopted: list[Endpoint] = []
            for endpoint in endpoints:
                if endpoint.handle in index.records or taken & set(endpoint.addresses):
                    continue
                taken |= set(endpoint.addresses)
                adopted.append(endpoint)
            puts = [records.write_endpoint(endpoint) for endpoint in adopted]
            compares = [Compare(put.key, 0) for put in puts]
            held = {(each.network, address) for each in adopted for address in each.addresses}
            granted = ((b.network, b.cidr.network_address, b.host_id) for b in lent if b.confirmed)
            away = [each for each in granted if each[:2] not in held]
            marks = [records.write_lent(*each) for each in away]
            revision = self._kept.commit([records.write_host(host_id), *puts, *marks], compares)
            with self._kept.touching():
                index.host_id = host_id
                for endpoint in adopted:
                    index.put(records.record_of(endpoint, revision))
                for each in away:
                    index.lend(*each)
        return tuple(adopted)

    def reserve(
        self, draft: Endpoint, supply: Supply, wanted: tuple[IPAddress, ...] = ()
    ) -> Endpoint:
        """Choose addresses for ``draft``, write it as an intent and return it with them.

        One address for each family of the network's pools; ``wanted`` ones as asked for. The
        draft's own ``addresses`` and ``attached`` do not matter; ``created`` is filled in.

        Raises Conflict (attached already, address taken), InvalidConfig (address outside the
        pools), NeedBlock (claim one more block with ``reconcile.claims.claim_needed`` and call
        again), Exhausted, Unavailable (the journal cannot be written; nothing is held then).
        """
        _check_key_parts(draft)
        with self._kept.turn() as index:
            if draft.handle in index.records:
                raise _exists(index.records[draft.handle])
            supply = self._without_given_up(supply)
            ledger = index.supplied(supply)
            addresses = pick(ledger, supply, wanted)
            endpoint = replace(
                draft, addresses=addresses, attached=False, created=draft.created or self._now()
            )
            erased = [
                records.erase_freed(endpoint.network, address)
                for address in addresses
                if ledger.was_freed(address)
            ]
            put = records.write_endpoint(endpoint)
            self._kept.doubtful.add(put.key)
            revision = self._kept.commit([put, *erased], [Compare(put.key, 0)])
            self._kept.doubtful.discard(put.key)
            with self._kept.touching():
                index.put(records.record_of(endpoint, revision))
        return endpoint

    def confirm(self, handle: str) -> Endpoint:
        """Mark an endpoint as attached and return it; repeats are safe.

        Raises Conflict when it was released meanwhile, Unavailable when the journal cannot be
        written.
        """
        with self._kept.turn() as index:
            record = index.records.get(handle)
            if record is None or record.endpoint is None:
                raise Conflict(
                    f"{handle} was released while it was being attached",
                    hint="the container was removed meanwhile; attach it again if it was not",
                )
            if record.endpoint.attached:
                return record.endpoint
            endpoint = replace(record.endpoint, attached=True)
            put = records.write_endpoint(endpoint)
            revision = self._kept.commit([put], [Compare(put.key, record.revision)])
            with self._kept.touching():
                index.put(records.record_of(endpoint, revision))
        return endpoint

    def release(self, handle: str) -> Endpoint | None:
        """Free the addresses of ``handle``; what is not there is well, repeats are safe.

        Returns the endpoint that it was. Raises Unavailable when the journal cannot be written:
        whether they are freed shows when it can again.
        """
        with self._kept.turn() as index:
            record = index.records.get(handle)
            if record is None:
                return None
            marks = list(zip(record.addresses, range(index.order + 1, 1 << 62), strict=False))
            freed = [records.write_freed(record.network, *mark) for mark in marks]
            self._kept.commit([Delete(record.key), *freed], [Compare(record.key, record.revision)])
            with self._kept.touching():
                index.drop(record, marks)
            # Where the journal held an address twice, the other holder must come to light.
            self._kept.stale = index.doubled
        return record.endpoint

    def remember_blocks(self, blocks: Iterable[Block]) -> None:
        """Keep ``blocks``, this host's of all networks, in the journal, and forget the others.

        One that is missing now but has addresses in use is kept, unconfirmed, as a hint for the
        next claim. Writes only what changed. Raises Unavailable.
        """
        with self._kept.turn() as index:
            wanted = {(block.network, block.cidr): block for block in blocks}
            for key, block in index.blocks.items():
                if key not in wanted and index.in_use(block):
                    wanted[key] = replace(block, confirmed=False)
            changed = [block for key, block in wanted.items() if index.blocks.get(key) != block]
            lost = [block for key, block in index.blocks.items() if key not in wanted]
            if not changed and not lost:
                return
            stray = index.stray_marks(wanted)
            operations: list[Put | Delete] = [records.write_block(block) for block in changed]
            operations += [records.erase_block(block) for block in lost]
            operations += [records.erase_freed(network, address) for network, address in stray]
            for start in range(0, len(operations), _BATCH):
                self._kept.commit(operations[start : start + _BATCH])
            with self._kept.looking():
                index.blocks = wanted
                for network, address in stray:
                    index.ledger(network).forget(address)

    @property
    def given_up(self) -> frozenset[tuple[str, IPNetwork]]:
        """Return network and CIDR of what :meth:`give_up` closed last."""
        return self._kept.given_up

    def give_up(self, blocks: Iterable[Block]) -> tuple[Block, ...]:
        """Return those of ``blocks`` that hold no address, and deal from them no more.

        Those given up before and not named now are dealt from again: call it with all, each time.
        """
        with self._kept.standing_still() as index:
            if not index.begun:
                return ()  # a new journal does not know what lives there
            empty = tuple(
                block
                for block in blocks
                if not index.in_use(block) and (block.network, block.cidr) not in self._expected
            )
            self._kept.given_up = frozenset((block.network, block.cidr) for block in empty)
        return empty

    @contextmanager
    def expecting(self, network: str, cidr: IPNetwork) -> Iterator[bool]:
        """Do not give up ``cidr``, which is about to come and to be used.

        False, and nothing is changed, where somebody expects it already.
        """
        with self._kept.looking():
            first = (network, cidr) not in self._expected
            self._expected.add((network, cidr))
        try:
            yield first
        finally:
            if first:
                self._expected.discard((network, cidr))

    def expects(self, network: str, cidr: IPNetwork) -> bool:
        """Tell whether somebody waits for ``cidr``."""
        return (network, cidr) in self._expected

    def wants(self, loan: Block) -> bool:
        """Tell whether somebody waits for ``loan``, or has its address."""
        if self.expects(loan.network, loan.cidr):
            return True
        with self._kept.looking() as index:
            return index.in_use(loan)

    def _without_given_up(self, supply: Supply) -> Supply:
        kept = tuple(b for b in supply.blocks if (b.network, b.cidr) not in self._kept.given_up)
        return supply if len(kept) == len(supply.blocks) else replace(supply, blocks=kept)


def _check_key_parts(draft: Endpoint) -> None:
    parts = {"network": draft.network, "container": draft.container_id, "ifname": draft.ifname}
    for name, text in parts.items():
        if not text or "/" in text or "\0" in text:
            raise InvalidConfig(
                f"{name}: {text!r} cannot name an endpoint",
                field=name,
                value=text,
                hint="it must not be empty or hold '/'",
            )


def _exists(record: Record) -> Conflict:
    held = ", ".join(str(address) for address in record.addresses) or "no address"
    return Conflict(
        f"{record.handle} exists already (it holds {held})",
        hint="remove the container first (CNI DEL), or: "
        f"netloom ipam release --handle {record.handle}",
    )
