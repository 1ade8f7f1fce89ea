"""Borrow an address from another host's block, and keep what was borrowed.

The borrower's half of a loan; ``reconcile/loans`` has the whole. An attach waits here for a
lender's answer, a few seconds at most; the rest is done in the background by :meth:`tidy`.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from contextlib import closing

from netloom.agent.addresses import AddressBook
from netloom.agent.mirror import read_endpoints
from netloom.core.ipam.borrowing import lenders, offers
from netloom.core.ipam.supply import NeedBlock
from netloom.model.addr import as_network
from netloom.model.datastore import Entry, Store
from netloom.model.errors import Exhausted
from netloom.model.host import Block
from netloom.model.keys import ENDPOINTS, alive_key, block_key
from netloom.model.view import Cluster
from netloom.reconcile import loans

_log = logging.getLogger(__name__)
#: How long one host is waited for, and all of them together.
LENDER_PATIENCE_S = 2.0
PATIENCE_S = 8.0
#: How often one host may refuse: what it refuses, it has not told this one of yet.
_MOST_REFUSED = 3


class Borrowing:
    """Borrows for one host. Safe for threads."""

    def __init__(
        self, host_id: str, book: AddressBook, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._host_id = host_id
        self._book = book
        self._clock = clock

    def borrow(
        self, store: Store, cluster: Cluster, need: NeedBlock, expect: Callable[[Block], bool]
    ) -> Block:
        """Return a loan, confirmed, of what is needed.

        ``expect`` is told of each before it is asked for, and says whether nobody else is about to.
        Raises Exhausted, saying whom it asked in vain, and Unavailable.
        """
        ends = self._clock() + PATIENCE_S
        answers: list[str] = []
        silent: set[str] = set()
        for block in lenders(cluster, need):
            patience_s = min(ends - self._clock(), LENDER_PATIENCE_S)
            if patience_s <= 0:
                break
            if block.host_id in silent:
                continue
            try:
                loan, answer = self._borrow_of(store, cluster, need, block, expect, patience_s)
            except _Silent as error:
                silent.add(block.host_id)
                loan, answer = None, str(error)
            if loan is not None:
                return loan
            answers.append(answer)
        said = "; ".join(answers) or "no other host has a block to lend from"
        raise Exhausted(
            f"network {need.network.name}: no block is free and no address can be borrowed: {said}",
            hint="add a pool, free what leaked (netloom ipam check), or forget hosts that are gone "
            "(netloom host forget)",
        )

    def _borrow_of(
        self,
        store: Store,
        cluster: Cluster,
        need: NeedBlock,
        block: Block,
        expect: Callable[[Block], bool],
        patience_s: float,
    ) -> tuple[Block | None, str]:
        """Return a loan out of ``block``, or why there is none. Raises _Silent."""
        host = cluster.hosts.get(block.host_id)
        who = f"{host.name if host else block.host_id} ({block.cidr})"
        if store.get(alive_key(block.host_id)) is None:
            raise _Silent(f"{who} is away")
        endpoints = read_endpoints(store, f"{ENDPOINTS}{block.host_id}/{block.network}/")
        used = {address: each.handle for each in endpoints for address in each.addresses}
        answer = f"{who} has none free"
        if need.wish in used:
            answer = f"{need.wish} is held by {used[need.wish]} on {who}"
        elif need.wish == block.cidr.network_address:
            answer = f"{need.wish} is the first address of a block of {who}, which is not lent"
        refused = 0
        for address in offers(cluster, need, block, used):
            loan = Block(block.network, as_network(address), self._host_id, lender=block.host_id)
            if not expect(loan):
                continue  # another container of this host's asks for it
            request = loans.ask(store, need.network, loan, block.cidr)
            if request is None:
                continue  # another host was quicker
            self._wait(store, request, patience_s)
            if loans.withdraw(store, request):
                raise _Silent(f"{who} did not answer within {patience_s:.0f} s")
            granted = loans.answer(store, request)
            if granted is not None and granted.confirmed:
                _log.info("borrowed %s of network %s from %s", address, loan.network, who)
                return granted, ""
            refused, answer = refused + 1, f"{who} refused"
            if refused == _MOST_REFUSED:
                break
        return None, answer

    def _wait(self, store: Store, request: Entry, patience_s: float) -> None:
        """Wait until the request was answered, or for as long as said."""
        ends = self._clock() + patience_s
        with closing(store.watch(request.key, request.mod_revision)) as watch:
            while (left := ends - self._clock()) > 0:
                loan = loans.answer(store, request)
                if loan is None or loan.confirmed:
                    return
                batch = watch.next(left)
                if batch is None or batch.compacted:
                    return

    def tidy(self, store: Store, cluster: Cluster, own: Iterable[Block]) -> None:
        """Withdraw requests that nobody waits for, and ask again for loans that a store forgot.

        ``own`` are this host's blocks of the picture, pending ones too. Raises Unavailable.
        """
        shown = {(block.network, block.cidr): block for block in own if block.lender}
        for key, loan in shown.items():
            if block_key(*key) in cluster.standing:
                self._renew(store, cluster, loan)
            elif not loan.confirmed and not self._book.wants(loan):
                loans.refuse(store, loan)
        for block in self._book.remembered_blocks():
            lost = block.lender and (block.network, block.cidr) not in shown
            if lost and self._book.wants(block):
                self._renew(store, cluster, block)

    def _renew(self, store: Store, cluster: Cluster, loan: Block) -> None:
        """Ask for what containers live on: the lender knows of it, or says no."""
        network = cluster.networks.get(loan.network)
        if network is not None:
            loans.renew(store, network, loan)


class _Silent(Exception):
    """A host that does not answer now, whichever of its blocks it is asked for."""
