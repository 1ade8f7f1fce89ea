"""What a kind of resource is, and where its resources are kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from netloom.model.datastore import Delete, Put
from netloom.model.endpoint import Endpoint
from netloom.model.errors import InvalidConfig
from netloom.model.labels import check_labels
from netloom.model.resource import Resource
from netloom.model.view import Cluster, Problem

Operation = Put | Delete


@dataclass(frozen=True, slots=True)
class Picture:
    """What resources are shown of. ``versions`` has the ``mod_revision`` of every key."""

    cluster: Cluster
    endpoints: tuple[Endpoint, ...] = ()
    versions: Mapping[str, int] = field(default_factory=dict)


class Keeping(Protocol):
    """Where the resources of a kind are: documents of their own, or views of other records.

    ``written`` and ``removed`` return what to do in the store; they raise InvalidConfig or Conflict
    when it cannot be, and nothing was done then.
    """

    def shown(self, picture: Picture) -> tuple[Resource, ...]:
        """Return all resources of the kind, in any order."""
        ...

    def keys(self, picture: Picture, resource: Resource) -> tuple[str, ...]:
        """Return the store's keys that hold ``resource``: their revision is its version."""
        ...

    def written(self, picture: Picture, resource: Resource) -> tuple[Operation, ...]:
        """Return how to make the store say ``resource``, whether it is there or not."""
        ...

    def removed(self, picture: Picture, resource: Resource) -> tuple[Operation, ...]:
        """Return how to take a resource that is shown out of the store."""
        ...


#: Resources by (kind, namespace, name), and what is wrong with each.
Misfits = Mapping[tuple[str, str, str], InvalidConfig]


def _all_fit(_: Picture) -> Misfits:
    return {}


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of resource: its name, what else people call it, its check, and where it is kept.

    ``check`` raises InvalidConfig naming the field; it returns what of the document is understood
    but has no effect here, so that whoever writes it can be told: one dotted path each, or
    ``path: what does it here instead``. A kind that is ``told`` is shown, and written by nobody.
    ``misfits`` returns the resources of the kind that do not fit to all else in a picture.
    """

    name: str
    plural: str
    check: Callable[[Resource], tuple[str, ...]]
    keeping: Keeping
    aliases: tuple[str, ...] = ()
    namespaced: bool = False
    told: bool = False
    misfits: Callable[[Picture], Misfits] = _all_fit

    def called(self, word: str) -> bool:
        """Tell whether ``word`` means this kind, whatever its case."""
        names = (self.name, self.plural, *self.aliases, *(f"{alias}s" for alias in self.aliases))
        return word.lower() in {name.lower() for name in names}

    def find(self, picture: Picture, namespace: str, name: str) -> Resource | None:
        """Return one resource of the kind, or None."""
        for resource in self.keeping.shown(picture):
            if (resource.namespace, resource.name) == (namespace, name):
                return resource
        return None

    def version(self, picture: Picture, resource: Resource) -> int:
        """Return the store's revision at which ``resource`` last changed; 0 when it is not kept."""
        keys = self.keeping.keys(picture, resource)
        return max((picture.versions.get(key, 0) for key in keys), default=0)

    def whole(self, resource: Resource) -> tuple[str, ...]:
        """Check all of a document. Raises InvalidConfig; returns what has no effect here."""
        if self.namespaced != bool(resource.namespace):
            word = "has to be in a namespace" if self.namespaced else "is in no namespace"
            raise InvalidConfig(
                f"metadata.namespace: {self.name} {word}",
                field="metadata.namespace",
                value=resource.namespace,
                hint="write e.g. namespace: default" if self.namespaced else "leave it out",
            )
        check_labels(resource.labels, "metadata.labels")
        return self.check(resource)


def unreadable(resource: Resource, error: InvalidConfig) -> Problem:
    """Return the problem of a resource in the store that is not as it should be."""
    return Problem("error", f"{resource.kind}({resource.name})", str(error), error.hint)
