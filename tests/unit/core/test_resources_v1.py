"""v1's documents mean the same in v3's form."""

from __future__ import annotations

from typing import Any

import pytest

from netloom.core.resources.v1 import modern
from netloom.model.errors import InvalidConfig

POOL = {
    "apiVersion": "v1",
    "kind": "ipPool",
    "metadata": {"cidr": "10.244.0.0/16"},
    "spec": {"ipip": {"enabled": True, "mode": "cross-subnet"}, "nat-outgoing": True},
}


def test_a_pool_is_named_after_its_range() -> None:
    assert modern(POOL) == {
        "apiVersion": "projectcalico.org/v3",
        "kind": "IPPool",
        "metadata": {"name": "10-244-0-0-16"},
        "spec": {
            "cidr": "10.244.0.0/16",
            "ipipMode": "CrossSubnet",
            "natOutgoing": True,
            "disabled": False,
        },
    }
    assert modern({**POOL, "spec": {}})["spec"]["ipipMode"] == "Never"


@pytest.mark.parametrize(
    ("metadata", "name", "node"),
    [
        ({"scope": "global", "peerIP": "192.168.26.2"}, "192-168-26-2", None),
        ({"scope": "node", "node": "h1", "peerIP": "2001:db8::2"}, "h1.2001-db8--2", "h1"),
    ],
)
def test_a_peer_is_named_after_its_address(
    metadata: dict[str, Any], name: str, node: str | None
) -> None:
    data = {"apiVersion": "v1", "kind": "bgpPeer", "metadata": metadata, "spec": {"asNumber": 7}}
    found = modern(data)
    assert found["metadata"] == {"name": name}
    assert found["spec"].get("node") == node
    assert found["spec"]["peerIP"] == metadata["peerIP"]


def test_a_node_keeps_its_name_and_labels() -> None:
    data = {
        "apiVersion": "v1",
        "kind": "node",
        "metadata": {"name": "h1", "labels": {"rack": "1"}},
        "spec": {"bgp": {"asNumber": 64600, "ipv4Address": "192.168.26.100/24"}},
    }
    found = modern(data)
    assert found["metadata"] == {"name": "h1", "labels": {"rack": "1"}}
    assert found["spec"] == data["spec"]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"kind": "ippools"}, "kind"),
        ({"metadata": {}}, "metadata.cidr"),
        ({"metadata": {"cidr": "10.0.0.0/8", "name": "x"}}, "metadata.name"),
        ({"spec": {"ipip": {"enabled": True, "mode": "sometimes"}}}, "spec.ipip.mode"),
        ({"spec": {"natOutgoing": True}}, "spec.natOutgoing"),
        (
            {
                "kind": "bgpPeer",
                "metadata": {"peerIP": "1.2.3.4", "scope": "node"},
                "spec": {"asNumber": 1},
            },
            "metadata.node",
        ),
    ],
)
def test_what_is_wrong_is_named_by_v1s_field(change: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidConfig) as caught:
        modern({**POOL, **change})
    assert caught.value.field == field
