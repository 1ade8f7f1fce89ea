"""The BGP kinds: what their specs mean, and errors that name the field."""

from __future__ import annotations

import ipaddress
from typing import Any

import pytest

from netloom.core.resources import bgp, bgp_filter
from netloom.core.resources.table import KINDS, kind_called
from netloom.core.resources.values import parse_as
from netloom.model.errors import InvalidConfig
from netloom.model.resource import Resource
from netloom.model.secret import Secret


def _resource(kind: str, spec: dict[str, Any], name: str = "default") -> Resource:
    return Resource.parse({"kind": kind, "metadata": {"name": name}, "spec": spec})


@pytest.mark.parametrize(
    ("written", "number"),
    [(64512, 64512), ("64512", 64512), ("1.10", 65546), (1, 1), (4294967295, 4294967295)],
)
def test_an_as_number_is_read_in_both_notations(written: object, number: int) -> None:
    assert parse_as(written, "asNumber") == number


@pytest.mark.parametrize("written", [0, -1, 4294967296, "x", "1.70000", "70000.1", True, ""])
def test_what_is_no_as_number_is_refused_with_the_range(written: object) -> None:
    with pytest.raises(InvalidConfig, match="is not an AS number") as caught:
        parse_as(written, "spec.asNumber")
    assert caught.value.field == "spec.asNumber"
    assert "4294967295" in caught.value.hint


def test_an_as_number_with_a_dot_and_no_quotes_is_refused_with_them() -> None:
    """YAML reads 1.10 as the number 1.1, which would be another AS."""
    with pytest.raises(InvalidConfig, match=r"1\.1 is not an AS number") as caught:
        parse_as(1.10, "spec.asNumber")
    assert 'in quotes, as "1.10"' in caught.value.hint


def test_a_configuration_says_what_all_hosts_do() -> None:
    spec = {
        "asNumber": "64600",
        "nodeToNodeMeshEnabled": False,
        "listenPort": 1790,
        "nodeMeshPassword": {"secretKeyRef": {"name": "bgp", "key": "mesh"}},
        "nodeMeshMaxRestartTime": "1m30s",
        "logSeverityScreen": "info",
        "communities": [{"name": "blue", "value": "65001:100"}],
        "prefixAdvertisements": [{"cidr": "10.0.0.0/8", "communities": ["blue", "1:2:3"]}],
        "serviceClusterIPs": [{"cidr": "10.96.0.0/12"}],
    }
    parsed = bgp.parse_configuration(_resource("BGPConfiguration", spec))
    assert (parsed.as_number, parsed.mesh, parsed.listen_port) == (64600, False, 1790)
    assert parsed.mesh_password == Secret("bgp", "mesh")
    assert (parsed.mesh_max_restart_s, parsed.log_severity) == (90, "Info")
    assert [one.communities for one in parsed.advertised] == [((65001, 100), (1, 2, 3))]
    assert parsed.ignored_fields == ("spec.serviceClusterIPs",)


def test_a_peer_is_an_address_or_a_selection_of_hosts() -> None:
    spec = {"peerIP": "[2001:db8::1]:1790", "asNumber": 64513, "keepOriginalNextHop": True}
    one = bgp.parse_peer(_resource("BGPPeer", spec, "tor"))
    assert (one.address, one.port) == (ipaddress.ip_address("2001:db8::1"), 1790)
    assert one.next_hop == "keep"
    spec = {"nodeSelector": "all()", "peerSelector": "has(reflector)"}
    two = bgp.parse_peer(_resource("BGPPeer", spec, "reflectors"))
    assert two.peer_selector is not None
    assert two.peer_selector.matches({"reflector": "1"})


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({}, "spec.peerIP"),
        ({"peerIP": "192.0.2.1"}, "spec.asNumber"),
        ({"peerIP": "192.0.2.1:99999", "asNumber": 1}, "spec.peerIP"),
        ({"peerIP": "rack1", "asNumber": 1}, "spec.peerIP"),
        ({"peerIP": "192.0.2.1", "asNumber": 0}, "spec.asNumber"),
        ({"peerSelector": "has(", "node": "a"}, "spec.peerSelector"),
        ({"peerSelector": "all()", "peerIP": "192.0.2.1"}, "spec.peerIP"),
        ({"peerSelector": "all()", "asNumber": 64512}, "spec.asNumber"),
        ({"peerSelector": "all()", "node": "a", "nodeSelector": "all()"}, "spec.node"),
        ({"peerSelector": "all()", "passwort": {}}, "spec.passwort"),
        (
            {"peerSelector": "all()", "password": {"secretKeyRef": {"name": "../x", "key": "k"}}},
            "spec.password.secretKeyRef.name",
        ),
        ({"peerSelector": "all()", "maxRestartTime": "soon"}, "spec.maxRestartTime"),
        ({"peerSelector": "all()", "nextHopMode": "me"}, "spec.nextHopMode"),
    ],
)
def test_what_is_wrong_with_a_peer_is_named(spec: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidConfig) as caught:
        bgp.parse_peer(_resource("BGPPeer", spec, "tor"))
    assert caught.value.field == field


def test_a_filter_keeps_its_rules_in_order() -> None:
    spec = {
        "exportV4": [
            {
                "action": "Reject",
                "cidr": "10.1.0.0/16",
                "matchOperator": "In",
                "prefixLength": {"min": 24},
            },
            {
                "action": "Accept",
                "operations": [
                    {"addCommunity": {"value": "65001:7"}},
                    {"prependASPath": {"prefix": [64512, "64512"]}},
                ],
            },
        ],
        "importV6": [{"action": "Accept", "source": "RemotePeers", "interface": "eth0"}],
    }
    parsed = bgp_filter.parse_filter(_resource("BGPFilter", spec, "f"))
    first, second = parsed.export4
    assert (first.accept, first.operator, first.lengths) == (False, "In", (24, 32))
    assert (second.add_communities, second.prepend_as) == (((65001, 7),), (64512, 64512))
    assert parsed.import6[0].remote
    assert parsed.import4 == parsed.export6 == ()


@pytest.mark.parametrize(
    ("rule", "field"),
    [
        ({}, "spec.exportV4[0].action"),
        ({"action": "Drop"}, "spec.exportV4[0].action"),
        ({"action": "Accept", "cidr": "fd00::/8", "matchOperator": "In"}, "spec.exportV4[0].cidr"),
        ({"action": "Accept", "cidr": "10.0.0.0/8"}, "spec.exportV4[0].matchOperator"),
        ({"action": "Accept", "matchOperator": "In"}, "spec.exportV4[0].cidr"),
        ({"action": "Accept", "prefixLength": {"min": 33}}, "spec.exportV4[0].prefixLength.min"),
        (
            {"action": "Accept", "communities": {"values": ["1"]}},
            "spec.exportV4[0].communities.values[0]",
        ),
    ],
)
def test_what_is_wrong_with_a_rule_is_named(rule: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidConfig) as caught:
        bgp_filter.parse_filter(_resource("BGPFilter", {"exportV4": [rule]}, "f"))
    assert caught.value.field == field


def test_a_kind_is_found_by_every_name_that_people_use() -> None:
    for word in ("bgppeer", "bgpPeers", "BGPPEER"):
        assert kind_called(word) is KINDS["BGPPeer"]
    assert kind_called("bgpconfig") is KINDS["BGPConfiguration"]
    with pytest.raises(InvalidConfig) as caught:
        kind_called("bgpper")
    assert caught.value.hint == "did you mean 'BGPPeer'?"


def test_a_configuration_of_no_host_is_refused() -> None:
    with pytest.raises(InvalidConfig, match=r"metadata\.name"):
        bgp.parse_configuration(_resource("BGPConfiguration", {}, "all"))


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({"maxRestartTime": "2h"}, "spec.maxRestartTime"),
        ({"keepaliveTime": 30000}, "spec.keepaliveTime"),
        ({"reachableBy": "fd26::1"}, "spec.reachableBy"),
        ({"peerIP": "[fe80::1%eth0]:179"}, "spec.peerIP"),
        ({"asNumber": 1 << 32}, "spec.asNumber"),
        ({"asNumber": 0}, "spec.asNumber"),
        ({"nodeSelector": "rack =="}, "spec.nodeSelector"),
    ],
)
def test_what_bird_or_bgp_could_not_say_is_refused_at_once(
    spec: dict[str, Any], field: str
) -> None:
    with pytest.raises(InvalidConfig) as caught:
        bgp.parse_peer(_resource("BGPPeer", {"peerIP": "192.0.2.1", "asNumber": 65000, **spec}))
    assert caught.value.field == field
    assert caught.value.hint


@pytest.mark.parametrize("name", ['x";', "a b", "x\n", "much-too-long-for-a-name"])
def test_an_interface_of_a_rule_is_a_name_and_nothing_else(name: str) -> None:
    rule = {"action": "Accept", "interface": name}
    with pytest.raises(InvalidConfig, match="not the name of an interface"):
        bgp_filter.parse_filter(_resource("BGPFilter", {"importV4": [rule]}))
