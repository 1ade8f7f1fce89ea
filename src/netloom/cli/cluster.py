"""The cluster as verbs read it, straight from the datastore: no agent needs to run for that."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property
from tempfile import TemporaryDirectory
from typing import TypeVar

from netloom.cli.render import paint, shown
from netloom.cli.settings import Settings
from netloom.core.resources.contract import Picture
from netloom.model import keys
from netloom.model.datastore import Compare, Delete, Put, Store, Transaction
from netloom.model.endpoint import Endpoint
from netloom.model.errors import Conflict, InvalidConfig
from netloom.model.fields import nearest
from netloom.model.host import Block, Host, block_order
from netloom.model.network import Network
from netloom.model.view import Cluster
from netloom.reconcile import cluster as fold
from netloom.store.opening import check_url, open_store

T = TypeVar("T")

#: Stores take a limited number of operations at once; etcd's limit is 128.
MAX_OPERATIONS = 100


class Overtaken(Conflict):
    """Somebody changed what was looked at; nothing was written."""


@dataclass
class ClusterStore:
    """An open store and what was read of it; :meth:`commit` refuses if that changed meanwhile."""

    store: Store

    @cached_property
    def cluster(self) -> Cluster:
        """Networks, hosts, blocks and reservations as they stood when first asked for.

        Records that cannot be read are told on stderr and left out.
        """
        guard = self.store.get(keys.NETWORKS_GUARD)  # before the listing: a change shows later
        listing = self.store.list(keys.CLUSTER)
        self._revisions = {entry.key: entry.mod_revision for entry in listing.entries}
        if guard:
            self._revisions[guard.key] = guard.mod_revision
        cluster = fold.from_listing(listing, self.store.store_id, Cluster())
        for problem in dict.fromkeys(cluster.problems):  # one lease may be two records
            label = paint("warning:", "yellow", sys.stderr)
            text = shown(f"{problem.subject}: {problem.text}", sys.stderr)
            print(f"{label} {text}", file=sys.stderr)
            if problem.remedy:
                print(f"  remedy: {problem.remedy}", file=sys.stderr)
        return cluster

    @cached_property
    def endpoints(self) -> tuple[Endpoint, ...]:
        """All hosts' endpoints, as their agents mirrored them; unreadable ones are left out."""
        found = []
        for entry in self.store.list(keys.ENDPOINTS).entries:
            try:
                found.append(Endpoint.parse(json.loads(entry.value), entry.key))
            except (ValueError, InvalidConfig) as error:
                label = paint("warning:", "yellow", sys.stderr)
                print(f"{label} key {entry.key}: {error}", file=sys.stderr)
        return tuple(found)

    @cached_property
    def alive(self) -> frozenset[str]:
        """The ids of the hosts whose agents run."""
        entries = self.store.list(keys.ALIVE).entries
        return frozenset(entry.key.removeprefix(keys.ALIVE) for entry in entries)

    def picture(self) -> Picture:
        """Return what resources are shown of."""
        cluster = self.cluster  # reading it fills the revisions
        return Picture(cluster, self.endpoints, self._revisions)

    def unchanged(self, *wanted: str) -> list[Compare]:
        """Return the conditions that ``wanted`` keys are as they were when we read them."""
        assert self.cluster is not None  # reading it fills the revisions
        return [Compare(key, self._revisions.get(key, 0)) for key in wanted]

    def commit(self, operations: Sequence[Put | Delete], compares: Sequence[Compare]) -> int:
        """Do all operations or, when another was quicker, none. Raises Overtaken."""
        done = self.store.commit(Transaction(operations, compares))
        if not done.succeeded:
            raise Overtaken(
                "someone else changed the same at the same moment; nothing was written",
                hint="look at it again and repeat",
            )
        return done.revision

    def network(self, name: str) -> Network:
        """Return a network. Raises InvalidConfig with the nearest name."""
        return _named(self.cluster.networks, name, "network", "netloom network create")

    def host(self, name: str) -> Host:
        """Return the host with this id or name. Raises InvalidConfig when none or several have it.

        A host whose record is gone but that still holds blocks or endpoints is found by its id.
        """
        hosts = self.cluster.hosts
        if name in hosts:
            return hosts[name]
        having = [host for host in hosts.values() if host.name == name]
        if len(having) == 1:
            return having[0]
        if having:
            raise InvalidConfig(
                f"{len(having)} hosts are called {name}",
                field="host",
                value=name,
                hint="use the id: " + ", ".join(sorted(host.id for host in having)),
            )
        left = {block.host_id for block in self.cluster.blocks.values()}
        left |= {endpoint.host_id for endpoint in self.endpoints}
        if name in left:
            return Host(name, name)
        return _named({host.name: host for host in hosts.values()}, name, "host", "netloom agent")

    def blocks_of(self, host_id: str = "", network: str = "") -> list[Block]:
        """Return the blocks of a host, of a network, or of both, sorted by network and address."""
        chosen = [
            block
            for block in self.cluster.blocks.values()
            if host_id in ("", block.host_id) and network in ("", block.network)
        ]
        return sorted(chosen, key=block_order)


@contextmanager
def opened(
    settings: Settings, *, create: bool = False, dry_run: bool = False
) -> Iterator[ClusterStore]:
    """Open the cluster's store for one verb; only one that may begin a cluster will ``create`` it.

    A mistyped path then is told, and is not answered from an empty store made on the spot. A
    ``dry_run`` of what would begin a cluster works on an empty one, which is gone afterwards.
    """
    with ExitStack() as leaving:
        url = settings.datastore
        path = url.removeprefix("sqlite://")
        if create and dry_run and path != url and not os.path.lexists(path):
            check_url(url)
            url = f"sqlite://{leaving.enter_context(TemporaryDirectory(prefix='netloom-'))}/none.db"
        store = open_store(url, create=create)
        leaving.callback(store.close)
        yield ClusterStore(store)


def _named(table: Mapping[str, T], name: str, what: str, maker: str) -> T:
    if name in table:
        return table[name]
    hint = nearest(name, table) if table else f"there is none yet; see `{maker} --help`"
    raise InvalidConfig(f"there is no {what} called {name!r}", field=what, value=name, hint=hint)
