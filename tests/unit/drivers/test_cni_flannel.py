"""A configuration written for flannel's plugin, given to ours."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest
from tests.unit.drivers.conftest import Caller, Memory

FLANNEL: dict[str, Any] = {
    "type": "flannel",
    "subnetFile": "/run/flannel/subnet.env",
    "dataDir": "/var/lib/cni/flannel",
    "delegate": {"hairpinMode": True, "isDefaultGateway": True},
}


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"delegate": {}},
        {"delegate": {"type": "bridge", "bridge": "cni0", "mtu": 1450, "forceAddress": True}},
        {
            "delegate": {
                "isGateway": True,
                "hairpinMode": False,
                "ipMasq": True,
                "promiscMode": True,
            }
        },
        {"ipam": {"type": "host-local", "dataDir": "/run/ipam"}},
        {"ipam": {}},
    ],
)
def test_what_flannels_users_write_is_taken(call: Caller, memory: Memory, more: dict[str, Any]):
    assert call("ADD", FLANNEL | more).code == 0
    assert [request.network for request in memory.requests] == ["default"]
    assert call("DEL", FLANNEL | more).code == 0
    assert memory.attached == {}


@pytest.mark.parametrize(
    ("more", "field"),
    [
        ({"delegate": {"type": "macvlan"}}, "delegate.type"),
        ({"delegate": {"name": "x"}}, "delegate.name"),
        ({"delegate": {"ipam": {}}}, "delegate.ipam"),
        ({"delegate": {"vlan": 7}}, "delegate.vlan"),
        ({"delegate": {"isGateway": False}}, "delegate.isGateway"),
        ({"delegate": {"mtu": "big"}}, "delegate.mtu"),
        ({"delegate": {"hairpinMode": "maybe"}}, "delegate.hairpinMode"),
        ({"delegate": []}, "delegate"),
        ({"ipam": {"type": "dhcp"}}, "ipam.type"),
        ({"ipam": {"routes": [{"dst": "10.0.0.0/8"}]}}, "ipam.routes"),
    ],
)
def test_what_ours_cannot_do_in_its_place_is_refused_by_name(
    call: Caller, memory: Memory, more: dict[str, Any], field: str
):
    answer = call("ADD", FLANNEL | more)
    document = json.loads(answer.text)
    assert answer.code == 1
    assert document["code"] == 7
    assert document["msg"].startswith(f"{field}:")
    assert memory.attached == {}
    assert call("DEL", FLANNEL | more).code == 0


def test_what_the_network_has_otherwise_is_said_in_the_log(
    call: Caller, caplog: pytest.LogCaptureFixture
):
    with caplog.at_level(logging.WARNING):
        assert call("ADD", FLANNEL | {"delegate": {"mtu": 1400}}).code == 0
    assert "delegate.mtu: 1400 is wanted" in caplog.text
