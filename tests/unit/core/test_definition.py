"""A network's definition: presets, every choice checked, and networks beside each other."""

from __future__ import annotations

from typing import Any

import pytest
from tests.unit.views import network

from netloom.core import definition
from netloom.model.errors import InvalidConfig
from netloom.model.network import Network


def refusal(**fields: Any) -> InvalidConfig:
    with pytest.raises(InvalidConfig) as caught:
        definition.parse({"name": "blue", "pools": ["10.244.0.0/16"], **fields})
    return caught.value


def test_the_flannel_preset_is_what_flannels_users_have():
    parsed = definition.parse({"name": "blue", "preset": "flannel"})
    (pool,) = parsed.pools
    assert (str(pool.cidr), pool.block_size) == ("10.244.0.0/16", 24)
    assert (parsed.backend.type, parsed.attachment.type) == ("vxlan", "bridge")
    assert parsed.addressing.mode == "host-block"


def test_the_calico_preset_is_what_calicos_users_have():
    parsed = definition.parse({"name": "red", "preset": "calico"})
    (pool,) = parsed.pools
    assert (str(pool.cidr), pool.block_size) == ("192.168.0.0/16", 26)
    assert (parsed.addressing.mode, parsed.attachment.type) == ("on-demand", "routed")
    assert (parsed.backend.type, dict(parsed.backend.options)) == ("bgp", {})


def test_both_presets_can_stand_on_one_host():
    flannel = definition.parse({"name": "blue", "preset": "flannel"})
    calico = definition.parse({"name": "red", "preset": "calico"})
    definition.check_against(flannel, [calico])
    definition.check_against(calico, [flannel])


def test_own_fields_win_over_the_presets_and_null_does_not():
    parsed = definition.parse(
        {"name": "blue", "preset": "flannel", "backend": "host-gw", "pools": None}
    )
    assert (parsed.backend.type, str(parsed.pools[0].cidr)) == ("host-gw", "10.244.0.0/16")


def test_a_preset_belongs_to_the_caller():
    definition.preset("flannel")["pools"].append("10.0.0.0/8")
    assert len(definition.preset("flannel")["pools"]) == 1


@pytest.mark.parametrize(
    ("fields", "field", "value", "hint"),
    [
        ({"preset": "flanel"}, "preset", "flanel", "did you mean 'flannel'?"),
        ({"backend": "vxlam"}, "backend.type", "vxlam", "did you mean 'vxlan'?"),
        ({"backend": "hostgw"}, "backend.type", "hostgw", "did you mean 'host-gw'?"),
        ({"backend": "qqq"}, "backend.type", "qqq", "vxlan"),
        ({"attachment": "brigde"}, "attachment.type", "brigde", "did you mean 'bridge'?"),
        ({"policy": "deny"}, "policy.type", "deny", "none"),
        ({"backned": "vxlan"}, "backned", "vxlan", "did you mean 'backend'?"),
        ({"backend": {"type": "vxlan", "vmi": 3}}, "backend.vmi", 3, "did you mean 'vni'?"),
        ({"backend": {"type": "host-gw", "vni": 3}}, "backend.vni", 3, ""),
        ({"backend": {"vni": 16777216}}, "backend.vni", 16777216, "from 1 to 16777215"),
        ({"mtu": 500}, "mtu", 500, "at least 576"),
        ({"mtu": 1279, "pools": ["fd00::/48"]}, "mtu", 1279, "at least 1280"),
        ({"pools": ["10.0.0.0/16", "10.0.9.0/24"]}, "pools[1].cidr", "10.0.9.0/24", "disjoint"),
        ({"pools": ["10.0.0.1/16"]}, "pools[0].cidr", "10.0.0.1/16", "10.0.0.0/16"),
        ({"pools": []}, "pools", None, "cidr"),
        ({"pools": [{"cidr": "10.0.0.0/16", "blockSize": 8}]}, "pools[0].blockSize", 8, "from 16"),
        ({"pools": [{"cidr": "10.0.0.0/16", "blockSize": 33}]}, "pools[0].blockSize", 33, "32"),
        ({"pools": [{"cidr": "10.0.0.0/16", "blockSize": "big"}]}, "pools[0].blockSize", "big", ""),
        ({"pools": [{"cidr": "10.0.0.0/16", "blockSize": 31}]}, "pools[0].blockSize", 31, "30"),
        ({"pools": [{"cidr": "fd00::/48", "blockSize": 127}]}, "pools[0].blockSize", 127, "126"),
        ({"addressing": {"borrowing": True}}, "addressing.borrowing", True, "on-demand"),
        (
            {"addressing": {"mode": "on-demand", "borrowing": True}},
            "addressing.borrowing",
            True,
            "attachment: routed",
        ),
    ],
)
def test_bad_input_is_refused_with_field_value_and_remedy(fields, field, value, hint):
    error = refusal(**fields)
    assert (error.field, error.value) == (field, value)
    assert field in str(error)
    assert hint in error.hint


def test_fields_are_named_from_where_the_definition_stands():
    with pytest.raises(InvalidConfig) as caught:
        definition.parse({"name": "blue", "preset": "flanel"}, "networks[2]")
    assert caught.value.field == "networks[2].preset"
    with pytest.raises(InvalidConfig) as caught:
        definition.parse({"name": "b", "pools": ["10.0.0.0/8"], "backend": "x"}, "networks[2]")
    assert caught.value.field == "networks[2].backend.type"


def test_a_block_of_one_address_is_no_use_where_the_tunnel_takes_it():
    routed = {"attachment": "routed", "pools": [{"cidr": "10.9.0.0/24", "blockSize": 32}]}
    error = refusal(**routed, backend="vxlan")
    assert error.field == "pools[0].blockSize"
    assert "backend vxlan" in str(error)
    definition.parse({"name": "blue", **routed, "backend": "host-gw"})


def test_one_device_cannot_be_bridge_and_tunnel_at_once():
    error = refusal(attachment={"type": "bridge", "bridge": "flannel.1"}, backend="vxlan")
    assert error.field == "attachment.bridge"
    assert "device flannel.1" in str(error)


@pytest.mark.parametrize(
    ("mine", "theirs", "field"),
    [
        ({}, {}, "backend.vni"),
        ({"backend": {"port": 4789}}, {}, "backend.device"),
        ({"backend": {"vni": 2}}, {}, "attachment.bridge"),
        ({"backend": {"vni": 2, "device": "cni0"}, "attachment": "routed"}, {}, "backend.device"),
        (
            {"backend": "host-gw", "attachment": {"type": "bridge", "bridge": "tun-v6"}},
            {"backend": {"vni": 2, "device": "tun"}, "attachment": "routed"},
            "attachment.bridge",
        ),
    ],
)
def test_two_networks_cannot_have_one_vni_or_device(mine, theirs, field):
    red, blue = network("red", "10.9.0.0/16", **mine), network("blue", **theirs)
    with pytest.raises(InvalidConfig) as caught:
        definition.check_against(red, [blue])
    assert caught.value.field == field
    assert "network blue" in str(caught.value)
    assert caught.value.value
    assert field in caught.value.hint


def test_networks_with_choices_of_their_own_stand_side_by_side():
    red = network(
        "red", "10.9.0.0/16", backend={"vni": 2}, attachment={"type": "bridge", "bridge": "red0"}
    )
    definition.check_against(red, [network("blue"), network("green", "10.8.0.0/16")])


@pytest.mark.parametrize("pool", ["10.244.0.0/16", "10.244.7.0/24", "10.0.0.0/8"])
def test_two_networks_cannot_have_one_range(pool):
    with pytest.raises(InvalidConfig) as caught:
        definition.check_against(network("red", pool, backend="host-gw"), [network("blue")])
    assert caught.value.field == "pools[0].cidr"
    assert caught.value.value == pool
    assert "10.244.0.0/16 of network blue" in str(caught.value)


def test_a_network_is_not_checked_against_its_former_self():
    definition.check_against(network("blue"), [network("blue")])


def test_of_a_network_that_a_newer_version_wrote_only_the_pools_count():
    newer = Network.parse({"name": "new", "pools": ["10.7.0.0/16"], "backend": "wireguard"})
    definition.check_against(network("blue"), [newer])
    with pytest.raises(InvalidConfig, match="network new"):
        definition.check_against(network("blue", "10.7.0.0/24"), [newer])
