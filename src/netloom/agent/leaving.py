"""Give back the blocks that are drained, as soon as nobody has an address in them.

Which are drained is in ``core/ipam/draining``. An engine that takes its addresses from the host's
block itself (Docker by ``bip``, flannel's CNI plugin) is in no journal of ours, but its bridge has
a network inside the block: such a block is kept.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable

from netloom.agent.addresses import AddressBook
from netloom.core.ipam.blocks import within
from netloom.core.ipam.draining import draining
from netloom.model.datastore import Store
from netloom.model.host import Block
from netloom.model.network import Network
from netloom.model.view import HostFacts
from netloom.reconcile import claims

_log = logging.getLogger(__name__)


def give_back(store: Store, book: AddressBook, drained: Iterable[Block]) -> None:
    """Release those of ``drained`` that are empty; the others are dealt from again if they may.

    Safe to repeat. Raises Unavailable: call again.
    """
    for block in book.give_up(drained):
        if claims.release(store, block):
            _log.info("gave block %s of network %s back", block.cidr, block.network)


def drained(network: Network, own: Iterable[Block], facts: HostFacts) -> list[Block]:
    """Return those of a host's blocks of a network that go once they are empty."""
    blocks = list(own)
    cidrs = draining(network, [block.cidr for block in blocks])
    return [
        block
        for block in blocks
        if block.cidr in cidrs and not any(within(cidr, block.cidr) for cidr, _ in facts.routes)
    ]
