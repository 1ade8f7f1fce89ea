"""The journal's contents in memory, arranged for the address book's questions.

Built from what was read, kept in step by the book after each write, thrown away and built anew
when a write's outcome is unknown. No locks and no I/O of its own.
"""

from __future__ import annotations

from collections.abc import Iterable

from netloom.agent.journal import Contents, Record
from netloom.core.ipam.ledger import Ledger, lent_to
from netloom.core.ipam.supply import Supply
from netloom.model.addr import IPAddress, IPNetwork
from netloom.model.endpoint import Endpoint
from netloom.model.errors import Conflict
from netloom.model.host import Block
from netloom.model.view import Problem


class Index:
    """Records by handle, a ledger for each network, the blocks last seen.

    ``lent`` says which host has an address of this one's blocks. ``order`` is the newest freed
    mark's number. ``problems`` are what could not be read, and
    addresses that the journal holds twice (``doubled``: there are such).
    """

    def __init__(self, contents: Contents) -> None:
        self.host_id = contents.host_id
        self.records: dict[str, Record] = {}
        self.blocks = {(block.network, block.cidr): block for block in contents.blocks}
        self.lent: dict[tuple[str, IPAddress], str] = {}
        self.order = max((order for order, _, _ in contents.freed), default=0)
        self._ledgers: dict[str, Ledger] = {}
        self._supplies: dict[str, Supply] = {}
        self._listing: tuple[Endpoint, ...] | None = None
        self.doubled = False
        problems = list(contents.problems)
        for order, network, address in contents.freed:
            self.ledger(network).free(address, order)
        for record in contents.records:
            try:
                self.put(record)
            except Conflict as error:
                self.doubled = True
                problems.append(Problem("error", record.handle, str(error), error.hint))
        for network, address, host_id in contents.lent:
            try:
                self.lend(network, address, host_id)
            except Conflict as error:
                self.doubled = True
                problems.append(Problem("error", f"address {address}", str(error), error.hint))
        self.problems = tuple(problems)

    @property
    def begun(self) -> bool:
        """Tell whether the journal is this host's from before."""
        return self.host_id != "" or bool(self.records)

    def lend(self, network: str, address: IPAddress, host_id: str) -> None:
        """Have another host hold an address. Raises Conflict when somebody does."""
        self.ledger(network).hold(address, lent_to(host_id))
        self.lent[network, address] = host_id

    def take_back(self, network: str, address: IPAddress, order: int) -> None:
        """Free an address that was lent, under the number ``order``."""
        self.order = max(self.order, order)
        host_id = self.lent.pop((network, address))
        ledger = self.ledger(network)
        if ledger.holder(address) == lent_to(host_id):
            ledger.free(address, order)

    def listing(self) -> tuple[Endpoint, ...]:
        """Return every endpoint, sorted by handle."""
        if self._listing is None:
            records = [self.records[handle] for handle in sorted(self.records)]
            self._listing = tuple(each.endpoint for each in records if each.endpoint is not None)
        return self._listing

    def put(self, record: Record) -> None:
        """Take a new or changed record in. Raises Conflict when another holds its address.

        The record is in even then, and those of its addresses that are free are held.
        """
        self.records[record.handle] = record
        self._listing = None
        failed: Conflict | None = None
        for address in record.addresses:
            try:
                self.ledger(record.network).hold(address, record.handle)
            except Conflict as error:
                failed = error
        if failed is not None:
            raise failed

    def drop(self, record: Record, marks: Iterable[tuple[IPAddress, int]]) -> None:
        """Take a record out; ``marks`` are its addresses with the numbers they were freed under."""
        ledger = self.ledger(record.network)
        for address, order in marks:
            self.order = max(self.order, order)
            if ledger.holder(address) == record.handle:
                ledger.free(address, order)
        del self.records[record.handle]
        self._listing = None

    def ledger(self, network: str) -> Ledger:
        """Return the ledger of a network as it is."""
        ledger = self._ledgers.get(network)
        if ledger is None:
            ledger = self._ledgers[network] = Ledger(network)
        return ledger

    def supplied(self, supply: Supply) -> Ledger:
        """Return the ledger of a network, dealing from ``supply``."""
        name = supply.network.name
        ledger = self.ledger(name)
        known = self._supplies.get(name)
        if known is not supply:
            if known != supply:
                supply.configure(ledger)
            self._supplies[name] = supply
        return ledger

    def in_use(self, block: Block) -> bool:
        """Tell whether any address of ``block`` is held."""
        return bool(self.ledger(block.network).holders(block.cidr, 1))

    def stray_marks(self, blocks: Iterable[tuple[str, IPNetwork]]) -> list[tuple[str, IPAddress]]:
        """Return the freed addresses, with their network, that are in none of ``blocks``."""
        kept = list(blocks)
        return [
            (network, address)
            for network, ledger in self._ledgers.items()
            for address in ledger.freed()
            if not any(name == network and address in cidr for name, cidr in kept)
        ]
