"""Deleting a network with all that hangs on it; to be repeated after a crash."""

from __future__ import annotations

from netloom.cli.cluster import MAX_OPERATIONS, ClusterStore
from netloom.model import keys
from netloom.model.datastore import Compare, Delete, Put


def belongings(cluster: ClusterStore, name: str) -> list[str]:
    """Return the keys of all that hangs on a network, whether or not it is there itself."""
    blocks = [keys.block_key(name, block.cidr) for block in cluster.blocks_of(network=name)]
    reserved = [cidr for network, cidr in cluster.cluster.reservations if network == name]
    return [
        *blocks,
        *(keys.reservation_key(name, cidr) for cidr in reserved),
        *(
            keys.endpoint_key(e.host_id, name, e.container_id, e.ifname)
            for e in cluster.endpoints
            if e.network == name
        ),
    ]


def delete(cluster: ClusterStore, name: str) -> int:
    """Delete the definition, then what hangs on it; return the revision of the end.

    In this order, since hosts claim blocks of a network that is there. Raises Overtaken when the
    network is another than the one looked at, or is made anew meanwhile.
    """
    definition = keys.network_key(name)
    conditions = cluster.unchanged(definition, keys.NETWORKS_GUARD)
    doomed = [Delete(key) for key in (definition, *belongings(cluster, name))]
    revision, most = 0, MAX_OPERATIONS - 1
    for start in range(0, len(doomed), most):
        part = doomed[start : start + most]
        revision = cluster.commit([*part, Put(keys.NETWORKS_GUARD, b"")], conditions)
        conditions = [Compare(definition, 0)]
    return revision
