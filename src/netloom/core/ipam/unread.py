"""What people say of addresses, and nobody can read: it has no effect, and is told."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from netloom.core.ipam import configured, reserved
from netloom.core.resources.contract import unreadable
from netloom.model.errors import InvalidConfig
from netloom.model.resource import Resource
from netloom.model.view import Cluster, Problem

_CHECKS: Mapping[str, Callable[[Resource], object]] = {
    configured.KIND: configured.check,
    reserved.KIND: reserved.check,
}


def problems(cluster: Cluster) -> Iterator[Problem]:
    """Yield a problem for each document that was written past the check."""
    for resource in cluster.resources.values():
        if (check := _CHECKS.get(resource.kind)) is None:
            continue
        try:
            check(resource)
        except InvalidConfig as error:
            yield unreadable(resource, error)
