"""Answer other hosts that ask for an address of this one's blocks, and take back what they end.

The lender's half of a loan; ``reconcile/loans`` has the whole. What a picture showed and the next
one does not has ended. What the journal knows and no picture of this store has shown may be what
the store forgot: who has the address is given time to say so, and meanwhile nobody else gets it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import replace

from netloom.agent.addresses import AddressBook
from netloom.core.desired import Standing
from netloom.core.ipam.blocks import within
from netloom.model.addr import IPNetwork, as_network
from netloom.model.datastore import Store
from netloom.model.errors import Conflict
from netloom.model.host import Block
from netloom.model.keys import block_key
from netloom.model.tables import Kept
from netloom.model.view import Cluster
from netloom.reconcile import loans

_log = logging.getLogger(__name__)
#: For how long an address stays lent that no picture shows as lent.
PATIENCE_S = 10.0


class Lending:
    """Lends for one host, picture by picture. For one thread."""

    def __init__(
        self, host_id: str, book: AddressBook, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._book = book
        self._clock = clock
        self._own = Kept[tuple[str, IPNetwork], Block](lambda block: block.lender == host_id)
        #: The loans of this host that the picture shows, asked for and granted.
        self._loans: dict[tuple[str, IPNetwork], Block] = {}
        #: Loans, by who has them, that this very store has shown; and since when others are missed.
        self._shown: set[tuple[str, IPNetwork, str]] = set()
        self._missed_s: dict[tuple[str, IPNetwork, str], float] = {}

    def sync(self, store: Store, cluster: Cluster, standing: Mapping[str, Standing]) -> None:
        """Answer what is asked, and deal again what is back; ``standing`` are networks that do.

        A request out of a block that this host does not hold now is left alone: who asked waits
        for this host to put its block back, or for nothing. Raises Unavailable: call again.
        """
        self._look(cluster)
        for (network, address), borrower in self._book.lent.all().items():
            if self._has_ended(store, network, as_network(address), borrower):
                self._book.lent.take_back(network, address)
        for loan in self._loans.values():
            here = standing.get(loan.network)
            for own in here.blocks if here is not None else ():
                if here is not None and not own.lender and within(loan.cidr, own.cidr):
                    # One that stands from a former store is asked for anew in this one.
                    stands = _stands(cluster, loan)
                    asked = replace(loan, confirmed=loan.confirmed and not stands)
                    if stands and self._knows(loan):
                        loans.put_back(store, loan, own)
                    self._answer(store, here, asked, own)

    def _look(self, cluster: Cluster) -> None:
        self._loans = {(b.network, b.cidr): b for b in self._own.look(cluster.blocks)}
        for loan in self._loans.values():
            change = self._shown.discard if _stands(cluster, loan) else self._shown.add
            change((loan.network, loan.cidr, loan.host_id))

    def _has_ended(self, store: Store, network: str, cidr: IPNetwork, borrower: str) -> bool:
        """Tell whether an address that the journal says is lent is this host's to deal again."""
        loan, key = self._loans.get((network, cidr)), (network, cidr, borrower)
        # A loan to another that this host did not confirm is older than the store: it will go.
        there = loan is not None and (loan.confirmed or loan.host_id == borrower)
        if there or not store.settled or loans.stands(store, network, cidr, borrower):
            self._missed_s.pop(key, None)
            return False
        now_s = self._clock()
        if key not in self._shown and now_s - self._missed_s.setdefault(key, now_s) < PATIENCE_S:
            return False
        self._shown.discard(key)
        self._missed_s.pop(key, None)
        return True

    def _answer(self, store: Store, here: Standing, loan: Block, own: Block) -> None:
        """Lend an address, also one that is lent already to a journal that forgot; or refuse."""
        address = loan.cidr.network_address
        known = self._knows(loan)
        try:
            kept = here.excluded(own) | {own.cidr.network_address}
            if not loan.confirmed and not known and address in kept:
                raise Conflict(f"{address} of network {loan.network} is the network's own")
            self._book.lent.lend(loan, own)
        except Conflict as error:
            if not loan.confirmed:
                _log.info("host %s asks in vain: %s", loan.host_id, error)
                loans.refuse(store, loan)
            return
        if not loan.confirmed and loans.grant(store, loan, own):
            _log.info("lent %s of network %s to host %s", address, loan.network, loan.host_id)

    def _knows(self, loan: Block) -> bool:
        borrower = self._book.lent.borrower(loan.network, loan.cidr.network_address)
        return borrower == loan.host_id


def _stands(cluster: Cluster, loan: Block) -> bool:
    """Tell whether a former store alone named a loan."""
    return block_key(loan.network, loan.cidr) in cluster.standing
