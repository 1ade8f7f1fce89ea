"""What a container's addresses are dealt from."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

from tests.unit.views import host, network

from netloom.agent.reserving import Reserving
from netloom.core.desired import Standing
from netloom.model.host import Host
from netloom.model.resource import Resource
from netloom.model.view import Cluster

LABELLED = Resource.parse(
    {"kind": "Node", "metadata": {"name": "worker-1", "labels": {"rack": "1"}}, "spec": {}}
)


def labels(picture: Cluster | None) -> dict[str, str]:
    """Return the labels by which the pools of host h1, called worker-1, are chosen."""
    around: Any = SimpleNamespace(host=Host("h1", "worker-1"), cluster=lambda: picture)
    reserving = Reserving(cast(Any, None), around, cast(Any, None))
    return dict(reserving.supply(network(), cast(Standing, None), ()).labels)


def test_labels_hold_before_the_own_record_is_in_the_picture() -> None:
    """A host is labelled by its name, and its first container may come before its record."""
    picture = Cluster(resources={LABELLED.identity: LABELLED}, hosts={"h2": host("h2")})
    assert labels(picture) == {"rack": "1"}


def test_without_a_picture_there_are_no_labels() -> None:
    assert labels(None) == {}
