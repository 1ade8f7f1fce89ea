"""What attaching containers needs of the agent around it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from netloom.model.datastore import Store
from netloom.model.errors import NetloomError
from netloom.model.host import Block, Host
from netloom.model.kernel import Peer
from netloom.model.keys import network_key
from netloom.model.view import Cluster

#: For so long an attach waits for the watch to bring what is in the store.
NEWS_LIMIT_S = 10.0
_LOOK_S = 0.01


@dataclass(frozen=True, slots=True)
class Surroundings:
    """The agent's host (id, name), picture and store, and its kernel's reader.

    ``claimed`` is told of a new block.
    """

    host: Host
    cluster: Callable[[], Cluster | None]
    store: Callable[[], Store]
    own_blocks: Callable[[str], tuple[Block, ...]]
    claimed: Callable[[Block], None]
    check_peer: Callable[[Peer], list[str]]

    def picture_with(self, network: str) -> Cluster | None:
        """Return the picture; one that lacks ``network`` is waited for if the store has that.

        Who creates a network and starts a container in it at once is ahead of the watch.
        """
        cluster = self.cluster()
        if cluster is None or network in cluster.networks or not self._stored(network):
            return cluster
        end_s = time.monotonic() + NEWS_LIMIT_S
        while cluster is None or network not in cluster.networks:
            if time.monotonic() > end_s:
                return cluster
            time.sleep(_LOOK_S)
            cluster = self.cluster()
        return cluster

    def _stored(self, network: str) -> bool:
        try:
            return self.store().get(network_key(network)) is not None
        except NetloomError:  # away, or no name that a key can have
            return False
