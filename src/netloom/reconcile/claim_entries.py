"""Claims as they stand in the store: one entry each, read on its own and beside the others.

How a host comes to one is in ``reconcile/claims``, how to one in another's block in
``reconcile/loans``.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace

from netloom.core.ipam.blocks import overlap
from netloom.model.addr import IPNetwork
from netloom.model.datastore import Entry, Store
from netloom.model.errors import InvalidConfig, NetloomError
from netloom.model.host import Block
from netloom.model.keys import BLOCKS, parse_cidr_segment


@dataclass(frozen=True, slots=True)
class Claim:
    """One claim as it stands in the store; ``block`` is None when its value does not parse."""

    cidr: IPNetwork
    entry: Entry
    block: Block | None

    def confirmed(self) -> Claim:
        """Return this claim as it is once confirmed."""
        return replace(self, block=replace(self.block, confirmed=True) if self.block else None)

    def yields_to(self, other: Claim) -> bool:
        """Tell whether this pending claim must give way to ``other``."""
        if other.entry.key == self.entry.key or not overlap(self.cidr, other.cidr):
            return False
        if self.lends(other):
            return False
        settled = other.block is None or other.block.confirmed
        return settled or other.entry.create_revision < self.entry.create_revision

    def lends(self, other: Claim) -> bool:
        """Tell whether ``other`` is a loan that the host of this claim gives, or nobody gave yet.

        A pending one is asked of a host that no longer has the block: nobody ever confirms it.
        """
        loan, own = other.block, self.block
        if loan is None or own is None or not loan.lender:
            return False
        return loan.lender == own.host_id or not loan.confirmed


def list_claims(store: Store, network: str) -> list[Claim]:
    """Return every claim of ``network``; a key that names no CIDR is no claim."""
    claims = []
    for entry in store.list(f"{BLOCKS}{network}/").entries:
        try:
            claims.append(read(entry))
        except InvalidConfig:
            continue  # the view reports it; it cannot overlap anything
    return claims


def read(entry: Entry) -> Claim:
    """Return the claim that an entry is. Raises InvalidConfig for a key that names no CIDR."""
    cidr = parse_cidr_segment(entry.key.rpartition("/")[2])
    try:
        block = Block.parse(json.loads(entry.value), entry.key)
    except (ValueError, NetloomError):
        # Whose it is cannot be told, so it counts as somebody's.
        return Claim(cidr, entry, None)
    return Claim(cidr, entry, block if block.cidr == cidr else None)


def block_of(entry: Entry | None) -> Block | None:
    """Return the block that an entry is; None where there is no entry, or it cannot be told.

    Raises InvalidConfig for a key that names no CIDR.
    """
    return read(entry).block if entry else None


def value_of(block: Block) -> bytes:
    """Return what stands in the store for ``block``."""
    return json.dumps(block.render(), separators=(",", ":")).encode()
