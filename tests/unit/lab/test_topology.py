"""Topology files: what they mean, and what is said of those that mean nothing."""

from __future__ import annotations

import copy
from ipaddress import ip_address, ip_interface, ip_network
from typing import Any

import pytest

from netloom.lab.documents import default_document, load_document, parse_yaml, shipped
from netloom.lab.topology import Topology
from netloom.model.errors import InvalidConfig


def document() -> dict[str, Any]:
    return copy.deepcopy(default_document(hosts=2))


def refused(data: object) -> InvalidConfig:
    with pytest.raises(InvalidConfig) as caught:
        Topology.parse(data)
    return caught.value


def test_the_default_lab_is_that_of_the_tutorials() -> None:
    topology = Topology.parse(default_document())
    assert [host.name for host in topology.hosts] == ["h1", "h2", "h3"]
    cards = [host.interfaces[0] for host in topology.hosts]
    assert {card.name for card in cards} == {"ens33"}
    assert [str(card.addresses[0]) for card in cards] == [
        "192.168.31.62/24",
        "192.168.31.63/24",
        "192.168.31.64/24",
    ]
    assert all(host.gateways == (ip_address("192.168.31.1"),) for host in topology.hosts)
    assert topology.networks[0].pools[0].cidr == ip_network("10.244.0.0/16")


@pytest.mark.parametrize(
    "network",
    [{"preset": "calico"}, {"pools": ["192.168.0.0/16"]}, {"pools": [{"cidr": "192.168.31.0/24"}]}],
)
def test_the_default_labs_hosts_are_where_no_pool_is(network: dict[str, Any]) -> None:
    """The preset calico is of use in the lab as it is."""
    topology = Topology.parse(default_document(network={"name": "default", **network}))
    (pool,) = topology.networks[0].pools
    assert all(host.interfaces[0].addresses[0].ip not in pool.cidr for host in topology.hosts)


@pytest.mark.parametrize("name", shipped())
def test_every_shipped_topology_parses_and_has_a_title(name: str) -> None:
    assert Topology.parse(load_document(name)).title


def test_a_bare_address_takes_the_length_of_its_subnet() -> None:
    scene4 = Topology.parse(load_document("scene4"))
    assert scene4.hosts[0].interfaces[0].addresses == (ip_interface("10.0.12.11/22"),)


def test_a_host_uses_its_first_cards_gateway_unless_it_says_otherwise() -> None:
    data = document()
    data["hosts"][0]["gateways"] = []
    one, two = Topology.parse(data).hosts
    assert one.gateways == ()
    assert two.gateways == (ip_address("192.168.31.1"),)


def test_a_network_may_begin_with_a_preset() -> None:
    data = document()
    data["networks"] = [{"name": "blue", "preset": "calico"}]
    assert Topology.parse(data).networks[0].attachment.type == "routed"


def test_what_is_parsed_twice_is_the_same() -> None:
    data = document()
    assert Topology.parse(data) == Topology.parse(copy.deepcopy(data))


def test_an_address_outside_the_segment_is_refused_with_its_subnets() -> None:
    data = document()
    data["hosts"][0]["interfaces"][0]["address"] = "192.168.32.62"
    error = refused(data)
    assert error.field == "hosts[0].interfaces[0].address"
    assert "192.168.31.0/24" in error.hint


@pytest.mark.parametrize("edge", ["192.168.31.0", "192.168.31.255"])
def test_the_first_and_last_address_of_a_subnet_are_refused(edge: str) -> None:
    data = document()
    data["hosts"][0]["interfaces"][0]["address"] = edge
    assert edge in str(refused(data))


def test_an_address_given_twice_names_who_has_it() -> None:
    data = document()
    data["hosts"][1]["interfaces"][0]["address"] = "192.168.31.62"
    assert "h1" in str(refused(data))


def test_an_unknown_segment_is_answered_with_the_nearest() -> None:
    data = document()
    data["hosts"][0]["interfaces"][0]["segment"] = "lam"
    assert refused(data).hint == "did you mean 'lan'?"


def test_an_unknown_field_is_answered_with_the_nearest() -> None:
    data = document()
    data["hosts"][0]["interfaces"][0]["adress"] = "192.168.31.9"
    error = refused(data)
    assert error.field == "hosts[0].interfaces[0].adress"
    assert error.hint == "did you mean 'address'?"


def test_one_and_several_at_once_are_refused() -> None:
    data = document()
    data["hosts"][0]["interfaces"][0]["addresses"] = ["192.168.31.9"]
    assert "together with addresses" in str(refused(data))


def test_a_name_used_twice_is_refused() -> None:
    data = document()
    data["hosts"][1]["name"] = "h1"
    assert "'h1'" in str(refused(data))
    data["hosts"][1]["name"] = "lan"
    assert "'lan'" in str(refused(data))


def test_a_gateway_that_no_router_has_is_refused() -> None:
    data = document()
    data["routers"] = []
    assert "no router has the address 192.168.31.1" in str(refused(data))


def test_a_container_on_an_unknown_host_or_network_is_refused() -> None:
    data = document()
    data["containers"] = [{"host": "h9", "name": "web"}]
    assert refused(data).field == "containers[0].host"
    data["containers"] = [{"host": "h1", "name": "web", "network": "defualt"}]
    assert refused(data).hint == "did you mean 'default'?"


def test_a_length_other_than_the_subnets_is_refused() -> None:
    data = document()
    data["hosts"][0]["interfaces"][0]["address"] = "192.168.31.62/16"
    assert "192.168.31.62/24" in refused(data).hint


def test_an_mtu_below_what_ipv6_needs_is_refused() -> None:
    data = load_document("dualstack")
    data["segments"][0]["mtu"] = 1279
    assert refused(data).field == "segments[0].mtu"


def test_a_lab_without_hosts_is_refused() -> None:
    assert refused({"segments": []}).field == "hosts"


def test_a_bad_network_names_its_place_in_the_file() -> None:
    data = document()
    data["networks"][0]["backend"] = "vxlna"
    error = refused(data)
    assert error.field == "networks[0].backend.type"
    assert error.hint == "did you mean 'vxlan'?"


@pytest.mark.parametrize("hosts", [0, -1, 1000])
def test_a_count_of_hosts_that_does_not_fit_is_refused(hosts: int) -> None:
    with pytest.raises(InvalidConfig, match="out of range"):
        default_document(hosts=hosts)


def test_a_file_that_is_not_there_is_answered_with_the_nearest_shipped_one() -> None:
    with pytest.raises(InvalidConfig) as caught:
        load_document("scen2.yaml")
    assert "scene2" in caught.value.hint


@pytest.mark.parametrize("text", ["a: [", "- 1", "just text", ""])
def test_a_file_that_is_no_topology_is_refused(text: str) -> None:
    with pytest.raises(InvalidConfig, match="file\\.yaml"):
        parse_yaml(text, "file.yaml")
