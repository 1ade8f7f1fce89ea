"""Lend single addresses of one host's block to another, so that no two ever have the same one.

Only the holder of a block knows what it has dealt of it: its journal says so, also while the store
is away. So a loan takes two hands. The borrower writes it *pending* (:func:`ask`), on condition
that nobody has asked for this address and that the lender holds the block. The lender first writes
into its journal that the address is not its to deal, and then confirms (:func:`grant`), on
condition that it is still asked for and the block is still its own; or it deletes the request
(:func:`refuse`), since a container of its own has the address. A borrower that has waited long
enough takes the request back (:func:`withdraw`) and asks for another.

The borrower ends the loan (``claims.release``) when no container has the address any more; the
lender sees it gone, and deals the address again. A crash between any two steps costs nothing: a
request that nobody waits for is withdrawn by its host's next run, a loan that no container uses is
ended, and an address in the lender's journal without a loan is taken back. That one waits a little
for the borrower, who asks again (:func:`renew`) for what a store forgot: until then the lender's
journal alone knows, and it lends what one host has to no other. A lender that knows of the loan
from a former store as well says so itself (:func:`put_back`).

A block in which a loan stands is claimed by nobody but its lender (``reconcile/claims``), so the
rule holds too when the lender is forgotten, or a store was restored from an older copy.
"""

from __future__ import annotations

from dataclasses import replace

from netloom.core.ipam.blocks import within
from netloom.model.addr import IPNetwork
from netloom.model.datastore import Compare, Delete, Entry, Put, Store, Transaction
from netloom.model.host import Block
from netloom.model.keys import block_key, joins_key
from netloom.model.network import Network
from netloom.reconcile.claim_entries import block_of, list_claims, value_of
from netloom.reconcile.claims import unmoved


def ask(store: Store, network: Network, loan: Block, lenders: IPNetwork) -> Entry | None:
    """Ask for ``loan``, pending, out of the block ``lenders``; return the request as it stands.

    None when the address is asked for or lent already, or the block is not its lender's any more.
    Like a first block it makes the host a part of the network. Raises Unavailable.
    """
    held = store.get(block_key(loan.network, lenders))
    if held is None or not _is(held, loan.lender, lenders) or not within(loan.cidr, lenders):
        return None
    key, value = block_key(loan.network, loan.cidr), value_of(replace(loan, confirmed=False))
    puts = (Put(key, value), Put(joins_key(loan.network), b""))
    compares = (Compare(key, 0), Compare(held.key, held.mod_revision), unmoved(store, network))
    done = store.commit(Transaction(puts, compares))
    return Entry(key, value, done.revision, done.revision) if done.succeeded else None


def renew(store: Store, network: Network, loan: Block) -> None:
    """Ask again for a loan that a store forgot while a container lives on it; idempotent.

    The lender may have yet to put its block back, or never will: nobody else claims it as long as
    the request stands. Nothing is written where the address is in a third host's block by now.
    Raises Unavailable.
    """
    key, value = block_key(loan.network, loan.cidr), value_of(replace(loan, confirmed=False))
    if store.get(key) is not None:
        return
    around = [c for c in list_claims(store, network.name) if within(loan.cidr, c.cidr)]
    if all(c.block is not None and c.block.host_id == loan.lender for c in around):
        compares = [Compare(c.entry.key, c.entry.mod_revision) for c in around]
        puts = (Put(key, value), Put(joins_key(loan.network), b""))
        there = (Compare(key, 0), *compares, unmoved(store, network))
        store.commit(Transaction(puts, there))


def answer(store: Store, request: Entry) -> Block | None:
    """Return the loan as it stands now, pending or confirmed; None when it was refused."""
    now = store.get(request.key)
    if now is None or now.create_revision != request.create_revision:
        return None
    return block_of(now)


def withdraw(store: Store, request: Entry) -> bool:
    """Take a request back; False when the lender was quicker and it has its :func:`answer`."""
    change = Transaction([Delete(request.key)], [Compare(request.key, request.mod_revision)])
    return store.commit(change).succeeded


def grant(store: Store, loan: Block, own: Block) -> bool:
    """Confirm ``loan`` out of the block ``own``, which this host holds; idempotent.

    The journal must say before that the address is not this host's to deal. False when it is not
    asked for any more, or the block is not this host's: the next picture tells.
    """
    entry = store.get(block_key(loan.network, loan.cidr))
    held = store.get(block_key(own.network, own.cidr))
    if entry is None or held is None or not _is(held, own.host_id, own.cidr):
        return False
    asked = block_of(entry)
    if asked is None or replace(asked, confirmed=False) != replace(loan, confirmed=False):
        return False
    if asked.confirmed:
        return True
    compares = [Compare(entry.key, entry.mod_revision), Compare(held.key, held.mod_revision)]
    put = Put(entry.key, value_of(replace(loan, confirmed=True)))
    return store.commit(Transaction([put], compares)).succeeded


def put_back(store: Store, loan: Block, own: Block) -> None:
    """Say again what a store forgot and the lender's journal knows; idempotent.

    The borrower sees it, and ends it where nobody lives on it.
    """
    key, held = block_key(loan.network, loan.cidr), store.get(block_key(own.network, own.cidr))
    if held is not None and _is(held, own.host_id, own.cidr):
        puts = (
            Put(key, value_of(replace(loan, confirmed=True))),
            Put(joins_key(loan.network), b""),
        )
        compares = (Compare(key, 0), Compare(held.key, held.mod_revision))
        store.commit(Transaction(puts, compares))


def refuse(store: Store, loan: Block) -> None:
    """Delete the request for ``loan``; a confirmed one, or another's, stays."""
    entry = store.get(block_key(loan.network, loan.cidr))
    if entry is not None and block_of(entry) == replace(loan, confirmed=False):
        withdraw(store, entry)


def stands(store: Store, network: str, cidr: IPNetwork, borrower: str) -> bool:
    """Tell whether the store has a loan of ``cidr`` to ``borrower``, or what cannot be read."""
    entry = store.get(block_key(network, cidr))
    if entry is None:
        return False
    loan = block_of(entry)
    return loan is None or loan.host_id == borrower


def _is(entry: Entry, host_id: str, cidr: IPNetwork) -> bool:
    """Tell whether ``entry`` is a confirmed block ``cidr`` of ``host_id``, and no loan itself."""
    block = block_of(entry)
    return block is not None and block == Block(block.network, cidr, host_id, confirmed=True)
