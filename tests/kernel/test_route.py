"""Routes of the main table, of both families; what another put there is never overwritten."""

from __future__ import annotations

import ipaddress
from dataclasses import replace

import pytest

from netloom.kernel import namespaces
from netloom.kernel.rtnetlink import RtKernel
from netloom.kernel.wire import RTPROT_KERNEL
from netloom.model.errors import Conflict, KernelRejected
from netloom.model.kernel import IPV6_METRIC, Route
from netloom.reconcile.contracts import Verb


def route(cidr, **fields):
    destination = ipaddress.ip_network(cidr)
    if "gateway" in fields:
        fields["gateway"] = ipaddress.ip_address(fields["gateway"])
    if destination.version == 6:
        fields.setdefault("metric", IPV6_METRIC)
    return Route(destination, **fields)


ROUTES = {
    "by a gateway": route("10.244.2.0/24", link="ens33", gateway="192.168.31.63"),
    "by a gateway, IPv6": route("fd00:2::/64", link="ens33", gateway="fd31::63"),
    "on-link gateway": route("10.244.2.0/24", link="ens33", gateway="10.244.2.0", onlink=True),
    "on-link gateway, IPv6": route("fd00:2::/64", link="ens33", gateway="fd00:2::", onlink=True),
    "scope link": route("10.244.1.5/32", link="ens33"),
    "scope link, IPv6": route("fd00:1::5/128", link="ens33"),
    "blackhole": route("10.244.1.0/24", type="blackhole"),
    "blackhole, IPv6": route("fd00:1::/64", type="blackhole"),
    "metric and MTU": route(
        "10.244.2.0/24", link="ens33", gateway="192.168.31.63", metric=50, mtu_bytes=1400
    ),
    "metric and MTU, IPv6": route(
        "fd00:2::/64", link="ens33", gateway="fd31::63", metric=50, mtu_bytes=1400
    ),
    "default": route("0.0.0.0/0", link="ens33", gateway="192.168.31.63"),
    "default, IPv6": route("::/0", link="ens33", gateway="fd31::63"),
}
EACH = pytest.mark.parametrize("wanted", ROUTES.values(), ids=ROUTES.keys())


def shown(host, wanted):
    family = f"-{wanted.destination.version}"
    return host.json("ip", family, "-j", "-d", "route", "show", "proto", "78")


@EACH
def test_a_route_reads_back_as_it_was_wanted(host, add, standing, wanted):
    add(wanted)
    (line,) = shown(host, wanted)
    assert line["type"] == wanted.type
    assert line.get("gateway") == (str(wanted.gateway) if wanted.gateway else None)
    assert ("onlink" in line["flags"]) is wanted.onlink
    assert standing("route")[wanted.key] == wanted


@EACH
def test_deleting_a_route_is_safe_to_repeat(host, add, attempt, wanted):
    add(wanted)
    assert attempt(Verb.DELETE, wanted) == [None]
    assert shown(host, wanted) == []
    assert attempt(Verb.DELETE, wanted) == [None]


def test_a_delete_leaves_a_route_of_one_protocol_on_another_link(host, attempt):
    """Routes into a tunnel are in BIRD's name; BIRD's own route to the block is another."""
    host.sh("ip link add tun9 up type bridge")
    host.sh("ip route add 10.244.2.0/24 via 192.168.31.63 dev ens33 proto bird")
    ours = route("10.244.2.0/24", link="tun9", gateway="192.168.31.63", onlink=True, protocol=12)
    assert attempt(Verb.DELETE, ours) == [None]
    assert "10.244.2.0/24" in host.sh("ip route")


@EACH
def test_a_route_of_another_is_a_conflict_and_stays(host, attempt, wanted):
    """The error names the route that stands there and whose it is."""
    family = f"-{wanted.destination.version}"
    place = [str(wanted.destination), "metric", str(wanted.metric), "proto", "99"]
    host.run("ip", family, "route", "add", "unreachable", *place)
    before = host.run("ip", family, "route")
    (error,) = attempt(Verb.ADD, wanted)
    assert isinstance(error, Conflict)
    assert str(wanted.destination) in str(error)
    assert "unreachable" in str(error)
    assert "proto 99" in str(error)
    assert "ip route delete" in error.hint
    assert attempt(Verb.DELETE, wanted) == [None]
    assert host.run("ip", family, "route") == before


def test_the_same_route_twice_is_no_conflict(add, attempt):
    """Two reads apart, another run of ours put it there: it is what we want."""
    wanted = ROUTES["by a gateway"]
    add(wanted)
    assert attempt(Verb.ADD, wanted) == [None]
    (error,) = attempt(Verb.ADD, replace(wanted, mtu_bytes=1300))
    assert isinstance(error, Conflict)


@pytest.mark.parametrize("family", ["by a gateway", "by a gateway, IPv6"])
def test_a_route_is_replaced_in_one_step(host, add, attempt, standing, family):
    first = ROUTES[family]
    second = replace(first, type="blackhole", link="", gateway=None)
    add(first)
    for wanted in (second, first):
        assert attempt(Verb.REPLACE, wanted) == [None]
        assert len(shown(host, wanted)) == 1
        assert standing("route")[wanted.key] == wanted


def test_routes_of_others_are_read_with_their_protocol(host, standing):
    host.sh("ip route add 10.9.0.0/16 via 192.168.31.63 proto bird")
    host.sh("ip route add prohibit 10.10.0.0/16")
    host.sh("ip route add 10.11.0.0/16 nexthop via 192.168.31.63 nexthop via 192.168.31.64")
    routes = standing("route")
    assert routes["route 10.9.0.0/16"].protocol == 12
    assert routes["route 10.10.0.0/16"].type == "prohibit"
    several = routes["route 10.11.0.0/16"]
    assert (several.type, several.link) == ("multipath", "ens33")
    assert several.gateway == ipaddress.ip_address("192.168.31.63")
    assert routes["route 192.168.31.0/24"].protocol == RTPROT_KERNEL


def test_other_tables_and_the_kernels_own_are_not_read(host, standing):
    host.sh("ip route add 10.9.0.0/16 via 192.168.31.63 table 100")
    host.sh("ip route add 10.9.0.0/16 via 192.168.31.63 table 1000")
    host.sh("ping -c1 -W30 192.168.31.63")
    destinations = {str(r.destination) for r in standing("route").values()}
    assert destinations == {"192.168.31.0/24", "fd31::/64"}


def test_a_gateway_out_of_reach_is_explained(attempt):
    (error,) = attempt(Verb.ADD, route("10.244.2.0/24", link="ens33", gateway="172.16.0.1"))
    assert isinstance(error, KernelRejected)
    assert "invalid gateway" in str(error)
    assert "172.16.0.1 is not directly reachable over ens33" in error.hint


def test_a_route_over_a_link_that_is_down_is_explained(host, attempt, add, cni0):
    add(cni0)
    host.sh("ip link set cni0 down")
    (error,) = attempt(Verb.ADD, route("10.244.2.0/24", link="cni0"))
    assert isinstance(error, KernelRejected)
    assert "link cni0 is down" in error.hint


def test_a_namespace_without_any_route_reads_as_empty(run_id):
    """Not even lo is up: the kernel has no routing table there at all."""
    name = f"nl-t{run_id}-bare"
    namespaces.create(name)
    kernel = RtKernel(namespaces.path(name))
    try:
        assert kernel.read(["address", "neighbour", "fdb", "route"]) == []
    finally:
        kernel.close()
        namespaces.delete(name)


def test_a_host_with_one_family_turned_off_reads_the_other(host, kernel):
    host.sh("sysctl -qw net.ipv6.conf.all.disable_ipv6=1")
    assert [str(route.destination) for route in kernel.read(["route"])] == ["192.168.31.0/24"]


def test_the_route_that_packets_take_is_the_one_that_is_read(host, add, standing):
    """Another's route behind ours in the same place does no harm; before ours it does."""
    wanted = ROUTES["by a gateway"]
    add(wanted)
    host.sh("ip route append 10.244.2.0/24 via 192.168.31.99 proto 99")
    host.sh("ip route add 10.244.2.0/24 via 192.168.31.98 tos 0x10 proto 99")
    assert standing("route")[wanted.key] == wanted
    host.sh("ip route prepend 10.244.2.0/24 via 192.168.31.97 proto 99")
    assert standing("route")[wanted.key].gateway == ipaddress.ip_address("192.168.31.97")
