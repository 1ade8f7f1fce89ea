"""ClusterInformation: what this cluster is; to look at."""

from __future__ import annotations

from typing import NoReturn

from netloom import __version__
from netloom.core.resources.contract import Operation, Picture
from netloom.model.errors import Conflict
from netloom.model.resource import Resource

KIND, NAME = "ClusterInformation", "default"


def check(resource: Resource) -> tuple[str, ...]:
    """Take any: none is ever written."""
    return ()


class Information:
    """Shows the one ClusterInformation; writes nothing."""

    def shown(self, picture: Picture) -> tuple[Resource, ...]:
        """Return what the store and the networks in it say."""
        types = {network.backend.type for network in picture.cluster.networks.values()}
        spec = {
            "clusterGUID": picture.cluster.store_id,
            "clusterType": ",".join(["netloom", *sorted(types)]),
            "calicoVersion": f"netloom-{__version__}",
            "datastoreReady": True,
        }
        return (Resource(KIND, NAME, spec),)

    def keys(self, picture: Picture, resource: Resource) -> tuple[str, ...]:
        """Return nothing: no record says it."""
        return ()

    def written(self, picture: Picture, resource: Resource) -> tuple[Operation, ...]:
        """Refuse. Raises Conflict."""
        _refuse()

    def removed(self, picture: Picture, resource: Resource) -> tuple[Operation, ...]:
        """Refuse. Raises Conflict."""
        _refuse()


def _refuse() -> NoReturn:
    raise Conflict(
        f"{KIND}({NAME}) is what the datastore says of itself",
        hint="leave it out; to keep agents from acting, stop them on their hosts",
    )
