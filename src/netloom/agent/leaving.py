"""Give back the blocks that go, as soon as nobody has an address in them.

Which those are is in ``core/ipam/draining``: drained blocks go at once. Stranded ones, and those of
a network that is deleted, go after a while, for what stranded them is often taken back: a label
that is changed and changed again, an agent that starts before its host is labelled, a definition
that is deleted to be created anew. Nothing goes because something cannot be read.

An engine that takes its addresses from the host's block itself (Docker by ``bip``, flannel's CNI
plugin) is in no journal of ours, but its bridge has a network inside the block: such a block is
kept.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Iterable, Mapping

from netloom.agent.addresses import AddressBook
from netloom.core.ipam.blocks import within
from netloom.core.ipam.draining import draining, stranded
from netloom.core.resources.node import KIND, labels_of
from netloom.model.datastore import Store
from netloom.model.host import Block, Host
from netloom.model.keys import network_key, resource_key
from netloom.model.network import Network
from netloom.model.view import Cluster, HostFacts
from netloom.reconcile import claims
from netloom.reconcile.cluster import unreadable

_log = logging.getLogger(__name__)
#: For how long a block is kept that is stranded or whose network is gone.
PATIENCE_S = 10.0


class Leaving:
    """Tells which of one host's blocks go now. Used by one thread."""

    def __init__(self, host: Host, clock: Callable[[], float] = time.monotonic) -> None:
        self._host = host
        self._clock = clock
        self._since: dict[Block, float] = {}

    def due(self, cluster: Cluster, own: Iterable[Block], facts: HostFacts) -> list[Block]:
        """Return what goes of ``own``, the host's blocks in this picture, once it is empty."""
        now_s = self._clock()
        at_once: list[Block] = []
        later: list[Block] = []
        by_network: dict[str, list[Block]] = {}
        for block in own:
            by_network.setdefault(block.network, []).append(block)
        for name, blocks in by_network.items():
            network = cluster.networks.get(name)
            if network is not None:
                at_once += drained(network, blocks, facts)
                cidrs = stranded(network, [b.cidr for b in blocks], labels(cluster, self._host))
                later += [b for b in blocks if b.confirmed and b.cidr in cidrs]
            elif network_key(name) not in unreadable(cluster):
                later += blocks
        since = {b: self._since.get(b, now_s) for b in _unused(later, facts) if b not in at_once}
        self._since = since
        return [*at_once, *(b for b, at_s in since.items() if now_s - at_s >= PATIENCE_S)]


def labels(cluster: Cluster, host: Host) -> Mapping[str, str] | None:
    """Return the labels of a host; None where its Node is there and could never be read."""
    unread = resource_key(KIND, "", host.name) in unreadable(cluster)
    if unread and (KIND, "", host.name) not in cluster.resources:
        return None
    return labels_of(cluster, host)


def drained(network: Network, own: Iterable[Block], facts: HostFacts) -> list[Block]:
    """Return those of a host's blocks of a network that are drained; a loan always is."""
    blocks = [block for block in own if block.confirmed]
    cidrs = draining(network, [block.cidr for block in blocks if not block.lender])
    return _unused([block for block in blocks if block.lender or block.cidr in cidrs], facts)


def give_back(
    store: Store, book: AddressBook, going: Collection[Block], own: Iterable[Block] = ()
) -> list[Block]:
    """Release those of ``going`` that are empty; return them. The others are dealt from again.

    But not those of ``own``, the picture's, that were given back a moment ago and of which it has
    yet to hear. Safe to repeat. Raises Unavailable: call again.
    """
    passing = [
        block
        for block in own
        if (block.network, block.cidr) in book.given_up
        and block not in going
        and not claims.holds(store, block)
    ]
    gone = [b for b in book.give_up((*going, *passing)) if claims.release(store, b)]
    for block in gone:
        _log.info("gave block %s of network %s back", block.cidr, block.network)
    return gone


def _unused(blocks: Iterable[Block], facts: HostFacts) -> list[Block]:
    """Leave out the blocks that another program's bridge has a network in."""
    return [b for b in blocks if not any(within(cidr, b.cidr) for cidr, _ in facts.routes)]
