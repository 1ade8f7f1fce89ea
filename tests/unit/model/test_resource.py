"""Resources: what a document must have, and that nothing of it is lost on the way."""

from __future__ import annotations

import json
from typing import Any

import pytest

from netloom.model.datastore import Entry, Listing
from netloom.model.errors import InvalidConfig
from netloom.model.keys import RESOURCES, resource_key
from netloom.model.resource import Resource
from netloom.reconcile.cluster import from_listing

PEER: dict[str, Any] = {
    "apiVersion": "projectcalico.org/v3",
    "kind": "BGPPeer",
    "metadata": {"name": "rack1-tor", "labels": {"rack": "1"}, "resourceVersion": "77"},
    "spec": {"peerIP": "192.168.26.2", "asNumber": 64513},
}


def test_a_resource_reads_what_it_wrote() -> None:
    resource = Resource.parse(PEER)
    assert Resource.parse(resource.render()) == resource
    assert resource.identity == ("BGPPeer", "", "rack1-tor")
    assert "resourceVersion" not in resource.render()["metadata"]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"kind": None}, "kind"),
        ({"kind": "bgp peer"}, "kind"),
        ({"metadata": {}}, "metadata.name"),
        ({"metadata": {"name": "Rack_1"}}, "metadata.name"),
        ({"metadata": {"name": "a/b"}}, "metadata.name"),
        ({"metadata": {"name": "a", "labels": {"rack": 1}}}, "metadata.labels.rack"),
        ({"metadata": {"name": "a", "lables": {}}}, "metadata.lables"),
        ({"specs": {}}, "specs"),
    ],
)
def test_what_is_wrong_is_named_by_its_field(change: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidConfig) as caught:
        Resource.parse({**PEER, **change})
    assert caught.value.field == field


@pytest.mark.parametrize("namespace", ["", "shop"])
def test_the_cluster_finds_a_resource_under_its_key(namespace: str) -> None:
    data = {**PEER, "metadata": {"name": "x", "namespace": namespace}}
    resource = Resource.parse(data)
    key = resource_key(*resource.identity)
    entry = Entry(key, json.dumps(resource.render()).encode(), 1, 1)
    cluster = from_listing(Listing(1, (entry,)), "store")
    assert cluster.resources == {resource.identity: resource}
    assert not cluster.problems


@pytest.mark.parametrize("rest", ["BGPPeer", "BGPPeer/", "BGPPeer//x", "a/b/c/d", ""])
def test_a_key_that_names_no_resource_is_a_problem_and_does_no_harm(rest: str) -> None:
    cluster = from_listing(Listing(1, (Entry(RESOURCES + rest, b"{}", 1, 1),)), "store")
    assert [problem.subject for problem in cluster.problems] == [f"key {RESOURCES}{rest}"]
