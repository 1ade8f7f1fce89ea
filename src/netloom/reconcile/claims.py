"""Claim blocks in the cluster store so that no two hosts ever hold the same address.

A claim has two phases. The host writes the block as *pending*, on condition that its key is absent;
then it lists the claims of the network. If one that overlaps is older (its key was created at an
earlier revision) or confirmed, the host withdraws and looks elsewhere; otherwise it confirms. Of
two overlapping claims, of whatever sizes, the younger one's list always shows the older one, so at
most one is confirmed; and the oldest never has to yield, so somebody always gets on.

In a store that was restored from an older copy a block may look free that a host deals from: until
the hosts of before have had time to claim theirs anew (``Store.settled``), nobody claims a block
that he did not hold before.

A **loan** (``reconcile/loans``) is one address inside another host's block. It takes part here only
so far: a range in which one stands is no block for anybody but its lender.

A pending block is neither dealt from nor routed, and only its own host touches it. A crash between
any two steps therefore costs nothing: the host's next run finds its pending blocks and confirms or
withdraws them by the same rule.

The first block of a host in a network makes it a part of the network, and it will send to the
others by the backends that its picture names. So that claim holds only while the definition still
names them all, and it is told (``keys.joins_key``) to whoever is about to take one out of it.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass

from netloom.core.ipam.blocks import (
    Preference,
    block_limit,
    next_block,
    overlap,
    within,
)
from netloom.core.ipam.draining import of_present_size
from netloom.core.ipam.supply import NeedBlock
from netloom.model.addr import IPNetwork
from netloom.model.datastore import Compare, Delete, Entry, Put, Store, Transaction
from netloom.model.errors import Conflict, Exhausted, NetloomError, Unavailable
from netloom.model.host import Block
from netloom.model.keys import block_key, joins_key, network_key
from netloom.model.network import Network
from netloom.model.pool import Pool
from netloom.reconcile.claim_entries import Claim, block_of, list_claims, value_of
from netloom.reconcile.claim_refusals import limit_reached, pool_exhausted
from netloom.reconcile.withheld import reserved

#: Lost races in a row after which a claim gives up for now. Each one means that another host
#: got on, so that this is reached only when something writes the same keys in a loop.
MOST_ATTEMPTS = 64


class Unsettled(Unavailable):
    """The store was restored a moment ago: a block that looks free may be somebody's."""


@dataclass(frozen=True, slots=True)
class Search:
    """What a host wants: one block of ``pool`` that is not among the ``known`` ones.

    ``known`` are the blocks of the pool that the caller deals from already: a block that this host
    holds beyond them (from a run that ended between claiming and using it) is found instead of
    claiming one more. ``hints`` are blocks held before, tried first. ``only`` asks for this very
    block and no other.
    """

    network: Network
    pool: Pool
    host_id: str
    known: Collection[IPNetwork] = ()
    hints: tuple[IPNetwork, ...] = ()
    only: IPNetwork | None = None


def claim(store: Store, search: Search) -> Block:
    """Return a confirmed block of the host as ``search`` wants it; claim one if need be.

    Settles the host's pending blocks of the network first. Safe to repeat after any failure: it
    neither leaks a block nor claims one too many.

    Raises Exhausted (pool or the host's limit reached: the user acts), Conflict (``only`` is
    taken), Unavailable (store away, or the outcome of a write unknown: call again), Unsettled.
    """
    for attempt in range(MOST_ATTEMPTS):
        claims = settle(store, search.network, search.host_id)
        own = _own(claims, search)
        for block in own:
            if block.cidr not in search.known and search.only in (None, block.cidr):
                return block
        cidr = _choose(store, claims, own, search, attempt)
        if cidr not in search.hints and not store.settled:
            raise Unsettled(
                f"network {search.network.name}: the store was restored from an older copy: no "
                "new block is claimed until those who held one before have had time to say so",
                hint="nothing to do: it is tried again in a few seconds",
            )
        pending = Block(search.network.name, cidr, search.host_id, confirmed=False)
        key = block_key(search.network.name, cidr)
        puts, compares = [Put(key, value_of(pending))], [Compare(key, 0)]
        if not any(each.block and each.block.host_id == search.host_id for each in claims):
            compares.append(unmoved(store, search.network))
            puts.append(Put(joins_key(search.network.name), b""))
        # Won or lost, the next round settles what stands in the store then.
        store.commit(Transaction(puts, compares))
    raise Unavailable(
        f"network {search.network.name}: lost {MOST_ATTEMPTS} races for a block of "
        f"{search.pool.cidr} in a row",
        hint="other hosts claim blocks at the same time; it is tried again",
    )


def claim_needed(store: Store, need: NeedBlock, hints: tuple[IPNetwork, ...] = ()) -> Block:
    """Claim the block that dealing addresses asked for, from the first pool that has one.

    Raises as :func:`claim` does; Exhausted when no pool has one.
    """
    for number, pool in enumerate(need.pools, start=1):
        search = Search(need.network, pool, need.host_id, need.known, hints, need.only)
        try:
            return claim(store, search)
        except Exhausted:
            if number == len(need.pools):
                raise
    raise need


def settle(store: Store, network: Network, host_id: str) -> list[Claim]:
    """Confirm or withdraw every pending block of the host; return all claims of the network.

    The claims are as they stood in the listing, those of the host as they were settled. Blocks
    that lie in no pool of the network any more are withdrawn. Idempotent.
    """
    while True:
        claims = [c for c in list_claims(store, network.name) if not _means_none(c, network)]
        changes = [
            (each, _settled(each, claims, network))
            for each in claims
            if each.block is not None
            and each.block.host_id == host_id
            and not each.block.confirmed
            and not each.block.lender
        ]
        # A write that loses was overtaken by another hand on the same block: look again.
        if all(_write(store, each, operation) for each, operation in changes):
            break
    confirmed = {
        each.entry.key: each.confirmed()
        for each, operation in changes
        if isinstance(operation, Put)
    }
    withdrawn = {each.entry.key for each, _ in changes} - confirmed.keys()
    return [
        confirmed.get(each.entry.key, each) for each in claims if each.entry.key not in withdrawn
    ]


def release(store: Store, block: Block) -> bool:
    """Give ``block`` back; True when it was the host's and is gone now.

    Safe to repeat: what is absent or held by another host by now stays as it is. The caller makes
    sure that no address of it is in use.
    """
    entry = _entry_of(store, block)
    if entry is None:
        return False
    outcome = store.commit(
        Transaction([Delete(entry.key)], [Compare(entry.key, entry.mod_revision)])
    )
    return outcome.succeeded


def holds(store: Store, block: Block) -> bool:
    """Tell whether the store has ``block``, confirmed, as its host's at this moment."""
    held = block_of(_entry_of(store, block))
    return held is not None and held.confirmed


def _entry_of(store: Store, block: Block) -> Entry | None:
    """Return the entry of a block if it is still its host's."""
    entry = store.get(block_key(block.network, block.cidr))
    held = block_of(entry)
    return entry if held is not None and held.host_id == block.host_id else None


def _settled(each: Claim, claims: list[Claim], network: Network) -> Put | Delete:
    wanted = any(within(each.cidr, pool.cidr) for pool in network.pools)
    if not wanted or any(each.yields_to(other) for other in claims):
        return Delete(each.entry.key)
    block = each.confirmed().block
    assert block is not None
    return Put(each.entry.key, value_of(block))


def _means_none(claim: Claim, network: Network) -> bool:
    """Tell whether it is no claim of anybody's: unreadable, and over more than a pool's block.

    Else one such key would keep every host from a block.
    """
    return claim.block is None and any(
        within(pool.cidr, claim.cidr) and claim.cidr.prefixlen < pool.block_size
        for pool in network.pools
    )


def unmoved(store: Store, network: Network) -> Compare:
    """Return the condition that every backend ``network`` names is in the definition still.

    Raises Unavailable when one is not: the picture that ``network`` is from has yet to catch up.
    """
    key = network_key(network.name)
    entry = store.get(key)
    if entry is None:
        return Compare(key, 0)
    try:
        now = Network.parse(json.loads(entry.value), key)
    except (ValueError, NetloomError):
        now = network  # nobody ends a move in what does not parse: the last good form stands
    there = {choice.label for choice in (now.backend, *now.retiring)}
    gone = [c.label for c in (network.backend, *network.retiring) if c.label not in there]
    if gone:
        raise Unavailable(
            f"network {network.name} has moved from {' and '.join(gone)} to {now.backend.label}, "
            "which this host has yet to hear of",
            hint="it is tried again in a moment",
        )
    return Compare(key, entry.mod_revision)


def _own(claims: list[Claim], search: Search) -> list[Block]:
    return [
        each.block
        for each in claims
        if each.block is not None
        and each.block.host_id == search.host_id
        and not each.block.lender
        and within(each.cidr, search.pool.cidr)
    ]


def _in_the_way(claims: list[Claim], search: Search) -> list[Claim]:
    """Return the claims that a new block must not overlap: all but loans that the host gives."""
    return [c for c in claims if c.block is None or c.block.lender != search.host_id]


def _choose(
    store: Store, claims: list[Claim], own: list[Block], search: Search, attempt: int
) -> IPNetwork:
    size = search.only.prefixlen if search.only else search.pool.block_size
    counted = of_present_size(search.pool, [block.cidr for block in own])
    # What is put back was the host's, and containers live there: no limit takes it away.
    limited = size == search.pool.block_size and search.only not in search.hints
    if limited and len(counted) >= block_limit(search.network.addressing):
        raise limit_reached(search.network, search.host_id, search.pool, own)
    claims = _in_the_way(claims, search)
    if search.only is not None:
        return _only(claims, search, search.only)
    chosen = next_block(
        search.pool,
        [each.cidr for each in claims],
        reserved(store, search.network),
        Preference(
            search.host_id,
            tidy=search.network.addressing.mode == "host-block",
            hints=search.hints,
            attempt=attempt,
        ),
    )
    if chosen is None:
        raise pool_exhausted(search.network, search.pool, {e.cidr: e.block for e in claims})
    return chosen


def _only(claims: list[Claim], search: Search, wanted: IPNetwork) -> IPNetwork:
    for each in claims:
        if overlap(each.cidr, wanted):
            holder = f"host {each.block.host_id}" if each.block else "a claim that does not parse"
            raise Conflict(
                f"network {search.network.name}: block {wanted} is held by {holder} ({each.cidr})",
                hint="choose an address of a block of this host, or of a free one: "
                "netloom ipam show --show-blocks",
            )
    return wanted


def _write(store: Store, each: Claim, operation: Put | Delete) -> bool:
    return store.commit(
        Transaction([operation], [Compare(each.entry.key, each.entry.mod_revision)])
    ).succeeded
