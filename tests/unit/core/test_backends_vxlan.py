"""Backend vxlan: the tables that tutorials show, and what the kernel gets to see of options."""

from __future__ import annotations

from typing import Any

import pytest
from tests.unit.views import block, facts, host, ip, network, table

from netloom.core.backends.contract import Side
from netloom.core.backends.vxlan import PreparedVxlan, VxlanBackend, link_local, tunnel_mac
from netloom.model.errors import InvalidConfig
from netloom.model.host import Block
from netloom.model.kernel import Link
from netloom.model.view import HostFacts
from netloom.model.wording import describe

H1, H2 = tunnel_mac("blue", "h1"), tunnel_mac("blue", "h2")
V4 = facts("192.168.31.62/24")
V6 = facts("2001:db8::62/64")
BOTH = facts("192.168.31.62/24", "2001:db8::62/64")


def prepare(
    own: HostFacts = V4, *blocks: Block, pools: tuple[str, ...] = ("10.244.0.0/16",), **more: Any
) -> PreparedVxlan:
    held = blocks or (block("10.244.0.0/24", "h1"),)
    return VxlanBackend().prepare(Side(network("blue", *pools, **more), host("h1"), own, held))


def reach(prepared: PreparedVxlan, cidr: str, *underlay: str) -> list[str]:
    found = prepared.reach(host("h2", *underlay), block(cidr, "h2"))
    assert found.problem is None
    return [describe(obj) for obj in found.objects.values()]


def test_the_device_is_flannels_with_the_first_address_of_the_block():
    assert [describe(obj) for obj in prepare().objects.values()] == [
        f"link flannel.1 type vxlan id 1 local 192.168.31.62 dev ens33 dstport 8472 nolearning "
        f"address {H1} mtu 1450 up",
        "address 10.244.0.0/32 dev flannel.1",
    ]


def test_the_device_is_marked_as_ours():
    assert prepare().objects["link flannel.1"].alias == "netloom:blue"


def test_a_peer_takes_neighbour_forwarding_entry_and_last_the_route():
    assert reach(prepare(), "10.244.1.0/24", "192.168.31.63") == [
        f"neighbour 10.244.1.0 lladdr {H2} dev flannel.1 PERMANENT",
        f"fdb {H2} dst 192.168.31.63 dev flannel.1 self permanent",
        "route 10.244.1.0/24 via 10.244.1.0 dev flannel.1 onlink",
    ]


def test_an_ipv6_block_over_ipv6_has_a_device_of_its_own():
    prepared = prepare(V6, block("fd00:10::/64", "h1"), pools=("fd00:10::/48",))
    assert [describe(obj) for obj in prepared.objects.values()] == [
        f"link flannel-v6.1 type vxlan id 1 local 2001:db8::62 dev ens33 dstport 8472 nolearning "
        f"address {H1} mtu 1430 up",
        "sysctl net.ipv6.conf.flannel-v6.1.accept_ra = 0",
        "address fd00:10::/128 dev flannel-v6.1",
    ]
    assert reach(prepared, "fd00:10:0:1::/64", "2001:db8::63") == [
        f"neighbour {link_local(H2)} lladdr {H2} dev flannel-v6.1 PERMANENT",
        f"fdb {H2} dst 2001:db8::63 dev flannel-v6.1 self permanent",
        f"route fd00:10:0:1::/64 via {link_local(H2)} dev flannel-v6.1 metric 1024",
    ]


def test_dual_stack_uses_each_family_for_its_own():
    pools = ("10.244.0.0/16", "fd00:10::/48")
    prepared = prepare(BOTH, block("10.244.0.0/24", "h1"), block("fd00:10::/64", "h1"), pools=pools)
    assert table(prepared.objects, "address") == [
        "address 10.244.0.0/32 dev flannel.1",
        "address fd00:10::/128 dev flannel-v6.1",
    ]
    underlay = ("192.168.31.63", "2001:db8::63")
    assert reach(prepared, "10.244.1.0/24", *underlay)[1].endswith("dev flannel.1 self permanent")
    assert reach(prepared, "fd00:10:0:1::/64", *underlay)[2].startswith(
        f"route fd00:10:0:1::/64 via {link_local(H2)} dev flannel-v6.1"
    )


def test_an_ipv6_pool_works_between_hosts_that_have_ipv4_alone():
    prepared = prepare(V4, block("fd00:10::/64", "h1"), pools=("fd00:10::/48",))
    assert table(prepared.objects, "address") == ["address fd00:10::/128 dev flannel.1"]
    assert reach(prepared, "fd00:10:0:1::/64", "192.168.31.63") == [
        f"neighbour {link_local(H2)} lladdr {H2} dev flannel.1 PERMANENT",
        f"fdb {H2} dst 192.168.31.63 dev flannel.1 self permanent",
        f"route fd00:10:0:1::/64 via {link_local(H2)} dev flannel.1 metric 1024",
    ]


def test_a_host_with_both_families_reaches_one_without_ipv6_by_ipv4():
    """The other host has the IPv4 device alone: without it here, neither could reach the other."""
    prepared = prepare(BOTH, block("fd00:10::/64", "h1"), pools=("fd00:10::/48",))
    assert reach(prepared, "fd00:10:0:1::/64", "192.168.31.63")[1] == (
        f"fdb {H2} dst 192.168.31.63 dev flannel.1 self permanent"
    )


def test_an_ipv4_pool_works_between_hosts_that_have_ipv6_alone():
    prepared = prepare(V6)
    assert reach(prepared, "10.244.1.0/24", "2001:db8::63")[2] == (
        "route 10.244.1.0/24 via 10.244.1.0 dev flannel-v6.1 onlink"
    )


def test_a_peer_without_a_common_family_is_a_problem_that_names_it():
    found = prepare(V4).reach(host("h2", "2001:db8::63"), block("10.244.1.0/24", "h2"))
    assert found.objects == {}
    assert found.problem is not None
    assert found.problem.subject == "peer h2"
    assert found.problem.remedy


@pytest.mark.parametrize(
    ("own", "pool", "mtu", "least"),
    [
        (V4, "10.244.0.0/16", 0, 1450),
        (V6, "10.244.0.0/16", 0, 1430),
        (V6, "fd00:10::/48", 0, 1430),
        (BOTH, "10.244.0.0/16", 0, 1450),
        (BOTH, "fd00:10::/48", 0, 1430),
        (V4, "10.244.0.0/16", 1300, 1300),
        (facts("192.168.31.62/24", mtu=9000), "10.244.0.0/16", 0, 8950),
        (HostFacts(), "10.244.0.0/16", 0, 1450),
    ],
)
def test_the_mtu_is_the_underlays_less_50_over_ipv4_and_70_over_ipv6(own, pool, mtu, least):
    assert prepare(own, pools=(pool,), mtu=mtu).mtu_bytes == least


def test_the_gateway_of_ipv6_is_the_peers_tunnel_end():
    assert str(link_local("c6:d2:32:6f:8f:44")) == "fe80::c4d2:32ff:fe6f:8f44"


def test_a_tunnels_mac_depends_on_network_and_host_and_nothing_else():
    assert tunnel_mac("blue", "h1") == H1 != tunnel_mac("red", "h1") != H2
    assert VxlanBackend().publish(network(), "h1") == H1
    moved = prepare(facts("192.168.31.99/24", link="eth7"))
    assert moved.objects["link flannel.1"].mac == H1
    assert int(H1[:2], 16) & 3 == 2, "locally administered, unicast"


def test_what_a_peer_published_wins_over_what_we_would_derive():
    peer = host("h2", "192.168.31.63", macs={"blue": "c6:d2:32:6f:8f:44"})
    objects = prepare().reach(peer, block("10.244.1.0/24", "h2")).objects
    assert "fdb c6:d2:32:6f:8f:44 dev flannel.1" in objects


def test_several_blocks_of_a_host_share_one_forwarding_entry():
    prepared, peer = prepare(), host("h2", "192.168.31.63")
    first, second = (
        prepared.reach(peer, block(c, "h2")).objects for c in ("10.244.1.0/26", "10.244.1.64/26")
    )
    assert [key for key in first if key in second] == [f"fdb {H2} dev flannel.1"]


def test_of_several_own_blocks_the_first_gives_the_devices_address_and_each_keeps_its_first():
    blocks = block("10.244.0.0/26", "h1"), block("10.244.0.64/26", "h1")
    prepared = prepare(V4, *blocks)
    assert table(prepared.objects, "address") == ["address 10.244.0.0/32 dev flannel.1"]
    assert [prepared.excluded(b) for b in blocks] == [{ip("10.244.0.0")}, {ip("10.244.0.64")}]


def test_direct_routing_takes_the_plain_route_on_link_and_the_tunnel_beyond():
    prepared = prepare(backend={"type": "vxlan", "directRouting": True})
    assert reach(prepared, "10.244.1.0/24", "192.168.31.63") == [
        "route 10.244.1.0/24 via 192.168.31.63 dev ens33"
    ]
    assert reach(prepared, "10.244.1.0/24", "192.168.30.72")[2] == (
        "route 10.244.1.0/24 via 10.244.1.0 dev flannel.1 onlink"
    )


def test_direct_routing_asks_the_blocks_own_family():
    """An IPv4 neighbour is no gateway of an IPv6 block: that one goes through the tunnel."""
    prepared = prepare(
        V4,
        block("fd00:10::/64", "h1"),
        pools=("fd00:10::/48",),
        backend={"type": "vxlan", "directRouting": True},
    )
    assert len(reach(prepared, "fd00:10:0:1::/64", "192.168.31.63")) == 3


def test_flannels_spellings_are_taken():
    options = {"VNI": 4096, "Port": 4789, "DirectRouting": True}
    parsed = VxlanBackend().parse(options, "backend")
    assert (parsed.vni, parsed.port, parsed.direct_routing) == (4096, 4789, True)


def test_a_device_name_of_ones_own_gets_v6_behind_it():
    options = VxlanBackend().parse({"device": "vxlan.calico"}, "backend")
    assert [options.device_name(4), options.device_name(6)] == ["vxlan.calico", "vxlan.calico-v6"]


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"vni": 0}, "backend.vni"),
        ({"vni": 1 << 24}, "backend.vni"),
        ({"vni": "one"}, "backend.vni"),
        ({"port": 65536}, "backend.port"),
        ({"directRouting": "maybe"}, "backend.directRouting"),
        ({"device": "a/b"}, "backend.device"),
        ({"device": "vxlan.calico1"}, "backend.device"),
        ({"device": "vx%d"}, "backend.device"),
        ({"device": "all"}, "backend.device"),
        ({"vnii": 1}, "backend.vnii"),
    ],
)
def test_bad_options_are_refused_by_field_with_a_remedy(options, field):
    with pytest.raises(InvalidConfig) as caught:
        VxlanBackend().parse(options, "backend")
    assert caught.value.field == field
    assert caught.value.value == next(iter(options.values()))
    assert caught.value.hint


def test_the_last_vni_is_a_vni():
    assert VxlanBackend().parse({"vni": (1 << 24) - 1}, "backend").vni == 16777215


def test_a_vni_that_anothers_device_has_is_a_problem_that_names_both():
    taken = facts("192.168.31.62/24", vxlans=(("vxlan9", 1, 8472), ("vxlan8", 1, 4789)))
    (problem,) = prepare(taken).problems
    assert "backend.vni: 1 on port 8472" in problem.text
    assert "vxlan9" in problem.text
    assert "backend.vni" in problem.remedy


def test_without_any_underlay_address_there_is_no_device_and_a_problem():
    prepared = prepare(HostFacts())
    assert not any(isinstance(obj, Link) for obj in prepared.objects.values())
    assert [problem.text for problem in prepared.problems] == ["this host has no underlay address"]
    reach = prepared.reach(host("h2", "192.168.31.63"), block("10.244.2.0/24", "h2"))
    assert reach.problem is None, "no peer is at fault"
    assert not reach.objects


def test_a_peers_own_mac_for_ipv6_counts_where_it_has_one():
    peer = host(
        "h2", "2001:db8::63", macs={"blue": "02:00:00:00:00:04", "blue/6": "02:00:00:00:00:06"}
    )
    prepared = prepare(V6, block("fd00:10::/64", "h1"), pools=("fd00:10::/48",))
    found = prepared.reach(peer, block("fd00:10:0:1::/64", "h2"))
    assert any("02:00:00:00:00:06 dst 2001:db8::63" in describe(o) for o in found.objects.values())
