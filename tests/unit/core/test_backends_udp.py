"""Backend udp: one device, one route for the pool, and the peers in the proxy's table."""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType

import pytest
from tests.unit.views import block, facts, host, iface, ip, net, network

from netloom.core.backends.contract import Side
from netloom.core.backends.udp import PreparedUdp, UdpBackend
from netloom.model.errors import InvalidConfig
from netloom.model.host import UNPACKS, Host
from netloom.model.kernel import Address, Link, UdpPeer, UdpProxy
from netloom.model.view import HostFacts
from netloom.model.wording import describe

V4 = facts("192.168.17.10/24")
POOL = "172.20.0.0/16"


def prepare(
    own: HostFacts = V4,
    *,
    pools: tuple[str, ...] = (POOL,),
    blocks: tuple[str, ...] = ("172.20.77.0/24",),
    mtu: int = 0,
    **options: object,
) -> PreparedUdp:
    wanted = network("blue", *pools, backend={"type": "udp", **options}, mtu=mtu)
    held = tuple(block(cidr, "h1") for cidr in blocks)
    return UdpBackend().prepare(Side(wanted, host("h1"), own, held))


def test_the_device_has_the_blocks_first_address_with_the_pools_prefix_as_flannels_has():
    prepared = prepare()
    assert [describe(obj) for obj in prepared.objects.values()] == [
        "link flannel0 type tun mtu 1472 up",
        "udp-proxy dev flannel0 local 192.168.17.10:8285",
        "address 172.20.77.0/16 dev flannel0",
        "route 172.20.0.0/16 dev flannel0",
    ]
    assert prepared.mtu_bytes == 1472
    assert prepared.problems == ()


def test_the_device_is_marked_as_ours_and_the_kernel_makes_no_route_of_its_own():
    objects = prepare().objects
    link, address = objects["link flannel0"], objects["address 172.20.77.0/16 dev flannel0"]
    assert isinstance(link, Link)
    assert link.alias == "netloom:blue"
    assert isinstance(address, Address)
    assert not address.prefix_route


def test_a_peer_is_an_entry_of_the_proxys_table():
    found = prepare().reach(host("h2", "192.168.17.20"), block("172.20.78.0/24", "h2"))
    assert list(found.objects.values()) == [
        UdpPeer("flannel0", net("172.20.78.0/24"), ip("192.168.17.20"), 8285)
    ]
    assert found.path == "udp flannel0 to 192.168.17.20:8285"


def test_port_and_device_can_be_chosen_in_flannels_spelling_too():
    prepared = prepare(Port=9000, device="tun9")
    found = prepared.reach(host("h2", "192.168.17.20"), block("172.20.78.0/24", "h2"))
    assert found.path == "udp tun9 to 192.168.17.20:9000"
    assert "link tun9" in prepared.objects


def able(host_id: str, *underlay: str) -> Host:
    """Return a host whose kernel unpacks what comes by UDP."""
    return replace(host(host_id, *underlay), serves=MappingProxyType({"blue": ("udp", UNPACKS)}))


def in_kernel(own: HostFacts, one: Host, other: Host, **options: object) -> bool:
    """Tell whether ``one`` lets its kernel send to ``other``; the word for people must agree."""
    wanted = network("blue", POOL, backend={"type": "udp", **options})
    prepared = UdpBackend().prepare(Side(wanted, one, own, (block("172.20.77.0/24", "h1"),)))
    found = prepared.reach(other, block("172.20.78.0/24", "h2"))
    (entry,) = found.objects.values()
    assert isinstance(entry, UdpPeer)
    assert entry.unpacks == found.path.endswith(", in the kernel")
    return entry.unpacks


def test_the_kernel_carries_between_two_that_both_can():
    near = "192.168.17.20"
    assert in_kernel(V4, able("h1"), able("h2", near))
    assert not in_kernel(V4, able("h1"), host("h2", near))  # it may be flannel's
    assert not in_kernel(V4, host("h1"), able("h2", near))
    assert not in_kernel(V4, able("h1"), able("h2", near), accelerate=False)


def test_who_is_not_on_the_cards_own_segment_is_reached_by_the_proxy():
    """Routes, path MTUs and tunnels of others are asked when the proxy sends, and only then."""
    far = replace(V4, routes=((net("192.168.17.16/28"), "wg0"),))
    along = replace(V4, routes=((net("192.168.17.0/24"), "ens33"), (net("10.0.0.0/8"), "wg0")))
    assert not in_kernel(V4, able("h1"), able("h2", "192.168.18.20"))
    assert not in_kernel(far, able("h1"), able("h2", "192.168.17.20"))
    assert in_kernel(along, able("h1"), able("h2", "192.168.17.20"))


def test_who_does_not_want_it_has_a_proxy_without():
    for options, wanted in (({}, True), ({"accelerate": "false"}, False)):
        (proxy,) = [o for o in prepare(**options).objects.values() if isinstance(o, UdpProxy)]
        assert proxy.shortcut == wanted


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"port": 0}, "backend.port"),
        ({"port": 65536}, "backend.port"),
        ({"device": "a/b"}, "backend.device"),
        ({"vni": 1}, "backend.vni"),
        ({"accelerate": "perhaps"}, "backend.accelerate"),
    ],
)
def test_bad_options_are_refused_by_name(options: dict[str, object], field: str):
    with pytest.raises(InvalidConfig) as error:
        UdpBackend().parse(options, "backend")
    assert error.value.field == field


def test_an_ipv6_pool_is_refused_with_its_name_and_a_remedy():
    with pytest.raises(InvalidConfig) as error:
        network("blue", POOL, "fd00:20::/48", backend="udp")
    assert error.value.field == "pools[1].cidr"
    assert "backend udp carries IPv4 only" in str(error.value)
    assert "vxlan" in error.value.hint


def test_a_host_without_an_ipv4_underlay_says_so_once():
    prepared = prepare(facts("2001:db8::10/64"))
    assert prepared.objects == {}
    (problem,) = prepared.problems
    assert "no IPv4 underlay address" in problem.text
    found = prepared.reach(host("h2", "192.168.17.20"), block("172.20.78.0/24", "h2"))
    assert found.objects == {}
    assert found.problem is None


def test_a_peer_without_an_ipv4_address_is_refused_by_name():
    found = prepare().reach(host("h2", "2001:db8::20"), block("172.20.78.0/24", "h2"))
    assert found.problem is not None
    assert found.problem.subject == "peer h2"


def test_a_lower_mtu_of_the_network_counts_and_so_does_the_underlays():
    assert prepare(mtu=1300).mtu_bytes == 1300
    assert prepare(facts("192.168.17.10/24", mtu=9000)).mtu_bytes == 8972


def test_a_host_without_a_block_sends_but_has_no_address():
    assert [describe(obj) for obj in prepare(blocks=()).objects.values()][2:] == [
        "route 172.20.0.0/16 dev flannel0"
    ]


def test_a_pool_that_is_one_block_needs_no_route_to_others():
    """The bridge's own route leads to the same range; the two would exclude each other."""
    prepared = prepare(pools=("172.20.77.0/24",))
    assert "route 172.20.77.0/24" not in prepared.objects


def test_each_pool_has_its_own_address_and_route():
    prepared = prepare(
        pools=(POOL, "172.30.0.0/16"), blocks=("172.20.77.0/24", "172.20.90.0/24", "172.30.5.0/24")
    )
    addresses = [o.interface for o in prepared.objects.values() if isinstance(o, Address)]
    assert addresses == [iface("172.20.77.0/16"), iface("172.30.5.0/16")]
    assert {"route 172.20.0.0/16", "route 172.30.0.0/16"} <= set(prepared.objects)


def test_no_container_gets_the_tunnels_address_or_the_pools_broadcast_address():
    prepared = prepare()
    assert prepared.excluded(block("172.20.77.0/24", "h1")) == {ip("172.20.77.0")}
    last = block("172.20.255.0/24", "h1")
    assert prepared.excluded(last) == {ip("172.20.255.0"), ip("172.20.255.255")}


def test_two_networks_cannot_share_port_or_device():
    assert UdpBackend().claims({}) == (
        ("port", "UDP port 8285"),
        ("device", "device flannel0"),
    )
