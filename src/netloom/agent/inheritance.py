"""Going on where flannel's daemon ended: once, before the first turn that knows the network."""

from __future__ import annotations

import logging
from collections.abc import Callable

from netloom.model.view import Cluster
from netloom.reconcile.contracts import Change, Kernel, Verb
from netloom.store.flannel.leavings import leavings

_log = logging.getLogger(__name__)


class Inheritance:
    """What flannel's daemon left on this host becomes ours. Used by the engine's thread.

    Without it the agent would meet a device and routes of another's in its way.
    """

    def __init__(self, kernel: Kernel, cluster: Callable[[], Cluster | None], network: str) -> None:
        self._kernel = kernel
        self._cluster = cluster
        self._network = network
        self._done = False

    def take(self) -> frozenset[str]:
        """Mark what was left as ours, if that is still to be done; return the kinds changed."""
        cluster = None if self._done else self._cluster()
        network = cluster.networks.get(self._network) if cluster else None
        if cluster is None or network is None:
            return frozenset()
        self._done = True
        left = leavings(self._kernel.read(("link", "address", "route")), network, cluster)
        changes = [Change(Verb.REPLACE, now, was, "left by flannel") for was, now in left]
        for outcome in self._kernel.apply(changes) if changes else ():
            if outcome.error:
                _log.warning("left by flannel: %s: %s", outcome.change, outcome.error)
            else:
                _log.info("left by flannel and taken over: %s", outcome.change.obj.key)
        return (
            frozenset(("link", "route", "neighbour", "fdb", "address")) if changes else frozenset()
        )
