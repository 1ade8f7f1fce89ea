"""What is ours and what is not: one rule per kind."""

from __future__ import annotations

import pytest
from tests.unit.views import iface, ip, net

from netloom.core.ownership import our_links, outlives_link, owns
from netloom.model.kernel import (
    KINDS,
    Address,
    Admission,
    Bird,
    Fdb,
    ForwardDrop,
    KernelObject,
    Link,
    Neighbour,
    NftTable,
    Qdisc,
    Route,
    Sysctl,
    UdpPeer,
    UdpProxy,
)

#: They are found in our own run directory, so there are no others.
ALWAYS_OURS: list[KernelObject] = [
    UdpProxy("flannel0", ip("192.168.17.10"), 8285),
    UdpPeer("flannel0", net("10.0.1.0/24"), ip("192.168.17.20"), 8285),
    Bird("router id 192.168.26.100;"),
]
OURS = frozenset({"cni0"})
MAC = "02:00:00:00:00:01"

RULES: list[tuple[KernelObject, KernelObject | None]] = [
    (Link("cni0", "bridge", alias="netloom:blue"), Link("docker0", "bridge")),
    (Route(net("10.0.0.0/24"), "ens33"), Route(net("10.0.0.0/24"), "cni0", protocol=3)),
    (Address("cni0", iface("10.0.0.1/24")), Address("ens33", iface("10.0.0.1/24"))),
    (Neighbour("cni0", ip("10.0.0.2"), MAC), Neighbour("ens33", ip("10.0.0.2"), MAC)),
    (Fdb("cni0", MAC, ip("10.0.0.2")), Fdb("vxlan9", MAC, ip("10.0.0.2"))),
    (Qdisc("cni0", "egress", 8, 1), Qdisc("ens33", "egress", 8, 1)),
    (NftTable("x"), NftTable("x", name="docker")),
    (Admission(4, "FORWARD", (net("10.0.0.0/16"),)), ForwardDrop(4, "FORWARD")),
]


@pytest.mark.parametrize(("mine", "theirs"), RULES, ids=lambda obj: obj.kind_name if obj else "")
def test_each_kind_is_told_apart(mine, theirs):
    assert owns(mine, OURS)
    assert not owns(theirs, OURS)


def test_every_kind_has_a_rule():
    told = {mine.kind_name for mine, _ in RULES} | {obj.kind_name for obj in ALWAYS_OURS}
    assert told | {"sysctl"} == set(KINDS)


@pytest.mark.parametrize("obj", ALWAYS_OURS, ids=lambda obj: obj.kind_name)
def test_what_only_we_have_is_ours_even_when_its_link_is_gone(obj):
    assert owns(obj, frozenset())


def test_of_what_is_on_a_link_only_what_polices_may_outlive_it():
    police = Qdisc("veth1", "ingress", 8, 1)
    assert outlives_link(police)
    assert owns(police, OURS)
    assert not any(outlives_link(mine) for mine, _ in RULES)


def test_a_setting_is_never_ours_to_take_back():
    assert not owns(Sysctl("ipv4/ip_forward", "1"), OURS)


def test_the_link_local_address_that_the_kernel_made_is_the_kernels():
    assert not owns(Address("cni0", iface("fe80::1/64"), kernel_made=True), OURS)
    assert owns(Address("cni0", iface("fe80::1/64")), OURS)


def test_a_link_is_ours_by_its_alias_and_not_by_its_name():
    links = [
        Link("cni0", "bridge"),
        Link("flannel.1", "vxlan", alias="netloom:blue"),
        Link("x", "veth", alias="not netloom:blue"),
    ]
    assert our_links(links) == {"flannel.1"}
