"""What a host owes a network at each look: finish, put back, and hold the blocks that it needs.

:func:`hold_blocks` says what is due and has ``reconcile/claims`` do it, claim by claim.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from netloom.core.ipam.blocks import overlap, within
from netloom.core.ipam.draining import outgrown
from netloom.model.addr import IPNetwork
from netloom.model.datastore import Store
from netloom.model.errors import Conflict, Exhausted, NetloomError
from netloom.model.host import Block, block_order
from netloom.model.network import Network
from netloom.reconcile.claim_refusals import FormerSize
from netloom.reconcile.claims import Search, claim, settle


@dataclass(frozen=True, slots=True)
class Held:
    """What a host's picture shows of its blocks of a network.

    ``blocks`` may be pending; loans among them are no matter here. Those in ``forgotten`` only a
    former store named: this one was restored, or is another. ``hints`` are blocks that the host
    held before, tried first. ``labels`` are the host's: from a pool that is not open to them
    nothing new is claimed.
    ``resized``: a pool whose block size was changed is to give a block of the new size.
    """

    blocks: Collection[Block] = ()
    forgotten: Collection[IPNetwork] = ()
    hints: tuple[IPNetwork, ...] = ()
    labels: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    resized: bool = True


def hold_blocks(
    store: Store, network: Network, host_id: str, held: Held = Held()
) -> tuple[Block, ...]:
    """Do what a host owes a network now; return the blocks that it got thereby, by address.

    It finishes what an earlier run began, puts back what a restored store has forgotten, since
    containers live there, and in ``host-block`` mode claims a block of each pool that is open to it
    and that it holds none of. Of a pool whose block size was changed it claims a block of the new
    size; those of the former are drained then. Asks the store nothing when nothing is due.
    Idempotent. Raises as :func:`claim` does, a Conflict after it has done what it can for the other
    blocks; FormerSize.
    """
    if not all(block.confirmed for block in held.blocks if not block.lender):
        settle(store, network, host_id)  # a run that died left it pending
    got: list[Block] = []
    failed: NetloomError | None = None
    for search in _due(network, host_id, held):
        try:
            got.append(claim(store, search))
        except Exhausted as error:
            failed = failed or (FormerSize.of(error, search.known) if search.known else error)
        except Conflict as error:
            failed = failed or error
    if failed is not None:
        raise failed
    return tuple(sorted(got, key=block_order))


def _due(network: Network, host_id: str, held: Held) -> Iterator[Search]:
    """Yield what a host is to claim, those that it puts back first."""
    own = [block.cidr for block in held.blocks if block.confirmed and not block.lender]
    for cidr in own:
        pool = next((pool for pool in network.pools if within(cidr, pool.cidr)), None)
        if pool is not None and cidr in held.forgotten:
            yield Search(network, pool, host_id, hints=(cidr,), only=cidr)
    for pool in network.pools:
        if not pool.open_to(held.labels):
            continue
        if held.resized and outgrown(pool, own):
            former = tuple(cidr for cidr in own if within(cidr, pool.cidr))
            yield Search(network, pool, host_id, known=former)
        elif network.addressing.mode == "host-block" and not any(
            overlap(cidr, pool.cidr) for cidr in own
        ):
            yield Search(network, pool, host_id, hints=held.hints)
