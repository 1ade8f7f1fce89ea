"""The addresses of this host's blocks that other hosts have: written down, and dealt to nobody.

The lender's half of a loan (``reconcile/loans`` has the whole). What is lent is held in the ledger
like a container's address, so its block is neither drained nor given back while it is away.
"""

from __future__ import annotations

from collections.abc import Mapping

from netloom.agent import journal as records
from netloom.agent.bookkeeping import Bookkeeping
from netloom.model.addr import IPAddress
from netloom.model.errors import Conflict
from netloom.model.host import Block


class LentAddresses:
    """What a host has lent, by (network, address): the id of the host that has it."""

    def __init__(self, kept: Bookkeeping) -> None:
        self._kept = kept

    def all(self) -> Mapping[tuple[str, IPAddress], str]:
        """Return all that is lent."""
        with self._kept.looking() as index:
            return dict(index.lent)

    def borrower(self, network: str, address: IPAddress) -> str:
        """Return the id of the host that has borrowed ``address``, or ""."""
        with self._kept.looking() as index:
            return index.lent.get((network, address), "")

    def lend(self, loan: Block, block: Block) -> None:
        """Deal ``loan``, an address of the own ``block``, to nobody here from now on; idempotent.

        Raises Conflict when the address is in use, here or on a third host, or the block is being
        given back, Unavailable when the journal cannot be written.
        """
        address, network = loan.cidr.network_address, loan.network
        with self._kept.turn() as index:
            if index.lent.get((network, address)) == loan.host_id:
                return
            if (network, block.cidr) in self._kept.given_up:
                raise Conflict(f"block {block.cidr} of network {network} is being given back")
            ledger = index.ledger(network)
            if holder := ledger.holder(address):
                raise Conflict(f"{address} of network {network} is held by {holder}")
            erased = records.erase_freed(network, address)
            self._kept.commit([records.write_lent(network, address, loan.host_id), erased])
            with self._kept.touching() as touched:
                touched.lend(network, address, loan.host_id)

    def take_back(self, network: str, address: IPAddress) -> None:
        """Deal ``address`` again; it was used, so as late as possible. Idempotent.

        Raises Unavailable when the journal cannot be written.
        """
        with self._kept.turn() as index:
            if (network, address) not in index.lent:
                return
            order = index.order + 1
            erased = records.erase_lent(network, address)
            self._kept.commit([erased, records.write_freed(network, address, order)])
            with self._kept.touching() as touched:
                touched.take_back(network, address, order)
