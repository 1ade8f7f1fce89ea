"""What flannel's daemon leaves in the kernel is recognised; what anyone else has there is not."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from ipaddress import IPv4Address, ip_network

import pytest

from netloom.model.host import Block, Host
from netloom.model.kernel import KernelObject, Link, Route, Vxlan
from netloom.model.network import Network
from netloom.model.pool import Pool
from netloom.model.view import Cluster
from netloom.store.flannel.leavings import leavings

UNNAMED, STATIC = 3, 4
BLOCK = ip_network("10.5.1.0/24")
PEER = IPv4Address("192.168.31.62")
TUNNEL = Vxlan(1, 8472, "ens33", IPv4Address("192.168.31.63"))
DEVICE = Link("flannel.1", "vxlan", vxlan=TUNNEL)
OVER = Route(BLOCK, "flannel.1", BLOCK.network_address, onlink=True, protocol=UNNAMED)
DIRECT = Route(BLOCK, "ens33", PEER, protocol=UNNAMED)


@pytest.fixture
def network() -> Network:
    return Network("default", (Pool(ip_network("10.5.0.0/16"), 24),))


@pytest.fixture
def cluster(network: Network) -> Cluster:
    return Cluster(
        networks={"default": network},
        hosts={"h1": Host("h1", "h1", PEER)},
        blocks={("default", BLOCK): Block("default", BLOCK, "h1", confirmed=True)},
    )


def marked(
    network: Network, cluster: Cluster, objects: Iterable[KernelObject]
) -> list[KernelObject]:
    return [now for _, now in leavings(objects, network, cluster)]


def test_its_device_and_the_routes_on_it_get_our_mark(network: Network, cluster: Cluster) -> None:
    assert marked(network, cluster, [OVER, DEVICE]) == [
        replace(DEVICE, alias="netloom:default"),
        replace(OVER, protocol=78),
    ]


def test_a_host_that_went_back_to_flannel_and_comes_again_keeps_its_device(
    network: Network, cluster: Cluster
) -> None:
    """Their daemon goes on with our device, mark and all, and sets its own routes on it."""
    device = replace(DEVICE, alias="netloom:default")
    assert marked(network, cluster, [device, OVER]) == [replace(OVER, protocol=78)]


def test_its_direct_routes_get_our_mark(network: Network, cluster: Cluster) -> None:
    assert marked(network, cluster, [DIRECT]) == [replace(DIRECT, protocol=78)]


@pytest.mark.parametrize(
    "other",
    [
        replace(DEVICE, alias="somebody's"),
        replace(DEVICE, alias="netloom:default"),
        replace(DEVICE, name="vxlan1"),
        replace(DEVICE, name="flannel.2"),
        replace(DEVICE, kind="bridge", vxlan=None),
        replace(DIRECT, protocol=STATIC),
        replace(DIRECT, gateway=IPv4Address("192.168.31.1")),
        replace(DIRECT, destination=ip_network("10.5.0.0/16")),
        replace(DIRECT, destination=ip_network("10.5.2.0/24")),
        OVER,  # its device is not there
    ],
    ids=str,
)
def test_what_it_would_not_have_made_is_left_alone(
    network: Network, cluster: Cluster, other: KernelObject
) -> None:
    assert marked(network, cluster, [other]) == []
