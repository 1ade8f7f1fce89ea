"""Resources that are kept as they were written: one key for each."""

from __future__ import annotations

import json
from dataclasses import dataclass

from netloom.core.resources.contract import Operation, Picture
from netloom.model.datastore import Delete, Put
from netloom.model.keys import resource_key
from netloom.model.resource import Resource


@dataclass(frozen=True, slots=True)
class Documents:
    """Keeps one kind below ``cluster/resources/<kind>/``."""

    kind: str

    def shown(self, picture: Picture) -> tuple[Resource, ...]:
        """Return the documents of this kind."""
        found = picture.cluster.resources.items()
        return tuple(each for (kind, _, _), each in found if kind == self.kind)

    def keys(self, picture: Picture, resource: Resource) -> tuple[str, ...]:
        """Return the document's key."""
        return (resource_key(*resource.identity),)

    def written(self, picture: Picture, resource: Resource) -> tuple[Operation, ...]:
        """Return how to write the document."""
        value = json.dumps(resource.render()).encode()
        return (Put(resource_key(*resource.identity), value),)

    def removed(self, picture: Picture, resource: Resource) -> tuple[Operation, ...]:
        """Return how to delete the document."""
        return (Delete(resource_key(*resource.identity)),)
