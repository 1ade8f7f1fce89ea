"""A backend that some host's kernel cannot make is refused at once, with the nearest that works."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest
from tests.unit.views import block, host, iface, network

from netloom.core import amending
from netloom.core.devices import needed, refuse_lacking
from netloom.model.errors import InvalidConfig
from netloom.model.host import Host
from netloom.model.network import Network
from netloom.model.view import Cluster

ALL = dict.fromkeys(("bridge", "ipip", "tun", "veth", "vxlan"), True)
NO_IPIP = {**ALL, "ipip": False}
PLAIN = {**NO_IPIP, "vxlan": False}


def able(name: str, devices: Mapping[str, bool], address: str = "") -> Host:
    address = address or f"192.168.31.6{name[1:]}"
    segment = iface(f"{address}/24").network
    return replace(host(name, address), devices=devices, segments=(segment,))


def cluster(*hosts: Host, networks: tuple[Network, ...] = ()) -> Cluster:
    blocks = [block(f"10.244.{number}.0/24", each.id) for number, each in enumerate(hosts)]
    return Cluster(
        networks={each.name: each for each in networks},
        hosts={each.id: each for each in hosts},
        blocks={(each.network, each.cidr): each for each in blocks},
    )


@pytest.mark.parametrize(
    ("backend", "kinds"),
    [
        ("vxlan", {"vxlan"}),
        ("ipip", {"ipip"}),
        ("udp", {"tun"}),
        ("host-gw", set()),
        ("bgp", set()),
        (
            {
                "type": "per-pool",
                "default": {"type": "ipip"},
                "pools": {"10.245.0.0/16": {"type": "vxlan"}},
            },
            {"ipip", "vxlan"},
        ),
    ],
)
def test_what_a_backend_needs_is_what_it_makes(backend: object, kinds: set[str]) -> None:
    assert needed(network("blue", "10.244.0.0/16", "10.245.0.0/16", backend=backend)) == kinds


def test_a_host_without_the_device_is_named_with_option_module_and_what_works_instead() -> None:
    wanted = network("blue", backend={"type": "ipip", "mode": "CrossSubnet"})
    with pytest.raises(InvalidConfig) as refused:
        refuse_lacking(cluster(able("h1", ALL), able("h2", NO_IPIP)), wanted)
    error = refused.value
    assert error.field == "backend"
    assert str(error) == (
        "backend: it needs links of type ipip, which the kernel cannot make on h2"
    )
    for words in (
        "modprobe ipip",
        "CONFIG_NET_IPIP",
        "backend vxlan (in an IPPool ipipMode: Never, vxlanMode: CrossSubnet)",
        "netloom host forget h2",
    ):
        assert words in error.hint


def test_hosts_that_do_not_say_what_they_can_are_believed() -> None:
    refuse_lacking(cluster(able("h1", {}), able("h2", {"vxlan": False})), network(backend="ipip"))


@pytest.mark.parametrize(
    ("hosts", "pools", "instead"),
    [
        ([able("h1", PLAIN), able("h2", PLAIN)], [], "backend host-gw"),
        ([able("h1", PLAIN), able("h2", PLAIN, "10.9.0.2")], [], "backend udp"),
        (
            [able("h1", {**PLAIN, "tun": False}), able("h2", PLAIN, "10.9.0.2")],
            [],
            "backend bgp (in an IPPool ipipMode: Never, vxlanMode: Never)",
        ),
    ],
)
def test_the_nearest_backend_is_one_that_every_host_can_do_and_that_reaches_all(
    hosts: list[Host], pools: list[str], instead: str
) -> None:
    with pytest.raises(InvalidConfig) as refused:
        refuse_lacking(cluster(*hosts), network("blue", *pools, backend="ipip"))
    assert f"; the nearest that every host can do is {instead}" in refused.value.hint


def test_a_network_on_such_a_backend_may_still_be_changed_and_leave_it() -> None:
    """It came there by another way: what is wrong with it is told by the status, not here."""
    before = network("blue", backend="ipip")
    picture = cluster(able("h1", NO_IPIP), able("h2", NO_IPIP), networks=(before,))
    amending.changed(picture, (), replace(before, mtu_bytes=1400))
    amending.changed(picture, (), replace(before, backend=network(backend="vxlan").backend))
    crossing = network(backend={"type": "ipip", "mode": "CrossSubnet"}).backend
    amending.changed(picture, (), replace(before, backend=crossing))


def test_many_hosts_are_counted_and_not_all_named() -> None:
    hosts = [able(f"h{number}", NO_IPIP) for number in range(1, 9)]
    with pytest.raises(InvalidConfig, match="h1, h2, h3, h4, h5 and 3 more") as refused:
        refuse_lacking(cluster(*hosts), network(backend="ipip"))
    assert "forget" not in refused.value.hint, "with none that can, it is no question of who left"
