"""A veth pair with its interior: whole or not at all; its check finds each kind of damage."""

from __future__ import annotations

import ipaddress
import socket
from dataclasses import replace

import pytest

from netloom.kernel import interior, namespaces
from netloom.model.errors import Conflict, InvalidConfig, KernelRejected
from netloom.model.gso import Gso
from netloom.model.kernel import Address, Link, Peer, Route
from netloom.reconcile.contracts import Verb


def links_of(netns):
    return {link["ifname"]: link for link in netns.json("ip", "-d", "-j", "link")}


def addresses_of(netns, ifname):
    (link,) = netns.json("ip", "-j", "address", "show", ifname)
    return {f"{a['local']}/{a['prefixlen']}": a for a in link["addr_info"]}


@pytest.fixture
def pod(make_netns):
    return make_netns("pod")


def test_both_ends_stand_when_the_add_is_done(host, pod, add, cni0, pod_link):
    link = pod_link(pod)
    add(cni0, link)
    outside, inside = links_of(host)[link.name], links_of(pod)["eth0"]
    assert outside["ifalias"] == "netloom:blue"
    assert outside["master"] == "cni0"
    assert inside["address"] == link.peer.mac
    assert inside["mtu"] == link.peer.mtu_bytes
    assert "UP" in inside["flags"]
    assert "UP" in links_of(pod)["lo"]["flags"]
    assert "LOWER_UP" in inside["flags"]


def test_the_container_sends_in_pieces_as_large_as_it_was_told(host, pod, add, cni0, pod_link):
    link = pod_link(pod)
    add(cni0, replace(link, peer=replace(link.peer, gso=Gso(32000, 24))))
    inside, outside = links_of(pod)["eth0"], links_of(host)[link.name]
    assert (inside["gso_max_size"], inside["gso_max_segs"]) == (32000, 24)
    assert (outside["gso_max_size"], outside["gso_max_segs"]) == (65536, 65535)


def broadcaster(place):
    """Return a socket in a namespace that sends and hears broadcasts: those are sent once only."""
    made = place.call(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    made.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
    made.settimeout(60)
    made.bind(("", 5000))
    return made


def test_no_packet_is_lost_that_is_sent_when_the_add_is_done(
    host, pod, add, attempt, cni0, pod_link
):
    """The kernel switches new links on in the background: an ADD that did not wait loses some."""
    link = pod_link(pod)
    add(cni0, Address("cni0", ipaddress.ip_interface("10.244.1.1/24")))
    for _ in range(30):
        with broadcaster(host) as outside, broadcaster(pod) as inside:
            add(link)
            inside.sendto(b"out", ("10.244.1.255", 5000))
            outside.sendto(b"in", ("10.244.1.255", 5000))
            for ear, sent in ((outside, b"out"), (inside, b"in")):
                while ear.recv(10) != sent:
                    pass  # it hears itself as well
        assert attempt(Verb.DELETE, link) == [None]


def test_the_interior_has_addresses_routes_and_settings(pod, add, cni0, pod_link):
    add(cni0, pod_link(pod))
    found = addresses_of(pod, "eth0")
    assert {"10.244.1.2/24", "fd00:1::2/64"} <= set(found)
    assert "tentative" not in found["fd00:1::2/64"]
    routes = {r["dst"]: r.get("gateway") for r in pod.json("ip", "-j", "route")}
    assert routes["default"] == "10.244.1.1"
    assert routes["10.244.0.0/16"] == "10.244.1.1"
    routes6 = {r["dst"]: r.get("gateway") for r in pod.json("ip", "-6", "-j", "route")}
    assert routes6["default"] == "fd00:1::1"
    assert pod.run("cat", "/proc/sys/net/ipv6/conf/eth0/accept_ra").strip() == "0"


def test_a_routed_interior_reaches_its_gateway_by_a_permanent_neighbour(host, pod, add):
    gateway = ipaddress.ip_address("169.254.1.1")
    gateway6 = ipaddress.ip_address("fe80::ecee:eeff:feee:eeee")
    peer = Peer(
        pod.path,
        "eth0",
        "02:cc:00:00:00:02",
        1450,
        (ipaddress.ip_interface("10.1.2.3/32"), ipaddress.ip_interface("fd00::3/128")),
        (
            (ipaddress.ip_network("169.254.1.1/32"), None),
            (ipaddress.ip_network("0.0.0.0/0"), gateway),
            (ipaddress.ip_network("::/0"), gateway6),
        ),
        ((gateway, "ee:ee:ee:ee:ee:ee"), (gateway6, "ee:ee:ee:ee:ee:ee")),
    )
    link = Link("cali1", "veth", "netloom:red", 1450, "ee:ee:ee:ee:ee:ee", peer=peer)
    add(link, Route(ipaddress.ip_network("10.1.2.3/32"), "cali1"))
    neighbours = {n["dst"]: n for n in pod.json("ip", "-j", "neigh")}
    assert neighbours["169.254.1.1"]["lladdr"] == "ee:ee:ee:ee:ee:ee"
    assert neighbours["169.254.1.1"]["state"] == ["PERMANENT"]
    assert neighbours["fe80::ecee:eeff:feee:eeee"]["state"] == ["PERMANENT"]
    host.run("ip", "address", "add", "10.9.9.9/32", "dev", "lo")
    assert " 0% packet loss" in host.run("ping", "-c1", "-W30", "-I", "10.9.9.9", "10.1.2.3")


@pytest.mark.parametrize(
    "broken",
    [
        {"routes": ((ipaddress.ip_network("0.0.0.0/0"), ipaddress.ip_address("172.16.0.1")),)},
        {"sysctls": (("ipv4/conf/eth0/no_such_thing", "1"),)},
        {"addresses": (ipaddress.ip_interface("224.0.0.1/24"),)},
    ],
    ids=["gateway out of reach", "no such setting", "multicast address"],
)
def test_a_refused_part_of_the_interior_leaves_nothing(
    host, pod, attempt, add, cni0, pod_link, broken
):
    add(cni0)
    link = pod_link(pod)
    (error,) = attempt(Verb.ADD, replace(link, peer=replace(link.peer, **broken)))
    assert isinstance(error, KernelRejected)
    assert link.name not in links_of(host)
    assert "eth0" not in links_of(pod)


def test_an_interface_name_taken_in_the_container_is_a_conflict(
    host, pod, attempt, add, cni0, pod_link
):
    pod.sh("ip link add eth0 type bridge")
    add(cni0)
    (error,) = attempt(Verb.ADD, pod_link(pod))
    assert isinstance(error, Conflict)
    assert "eth0" in str(error)
    assert pod.path in str(error)
    assert pod_link(pod).name not in links_of(host)
    assert links_of(pod)["eth0"]["linkinfo"]["info_kind"] == "bridge"


def test_a_namespace_that_vanished_is_named(host, pod, attempt, add, cni0, pod_link):
    add(cni0)
    link = pod_link(pod)
    namespaces.delete(pod.name)
    (error,) = attempt(Verb.ADD, link)
    assert isinstance(error, InvalidConfig)
    assert pod.path in str(error)
    assert link.name not in links_of(host)


def test_a_pair_whose_container_is_gone_deletes_as_absent(pod, add, attempt, cni0, pod_link):
    link = pod_link(pod)
    add(cni0, link)
    namespaces.delete(pod.name)
    assert attempt(Verb.DELETE, link) == [None]


def test_a_sound_interior_has_no_differences(pod, add, kernel, cni0, pod_link):
    link = pod_link(pod)
    add(cni0, link)
    assert kernel.check_peer(link.peer) == []


@pytest.mark.parametrize(
    ("damage", "word"),
    [
        ("ip link set eth0 down", "down"),
        ("ip link set eth0 mtu 1300", "1300"),
        ("ip link set eth0 address 02:00:00:00:00:99", "02:00:00:00:00:99"),
        ("ip link delete eth0", "no interface eth0"),
        ("ip address delete 10.244.1.2/24 dev eth0", "10.244.1.2/24"),
        ("ip address delete fd00:1::2/64 dev eth0", "fd00:1::2/64"),
        ("ip route delete 10.244.0.0/16", "10.244.0.0/16"),
        ("ip neigh delete 10.244.1.1 dev eth0", "10.244.1.1"),
        ("sysctl -qw net.ipv6.conf.eth0.accept_ra=1", "accept_ra"),
    ],
)
def test_the_check_finds_damage(pod, add, kernel, cni0, pod_link, damage, word):
    link = pod_link(pod)
    neighbour = (ipaddress.ip_address("10.244.1.1"), cni0.mac)
    link = replace(link, peer=replace(link.peer, neighbours=(neighbour,)))
    add(cni0, link)
    pod.sh(damage)
    found = kernel.check_peer(link.peer)
    assert any(word in sentence for sentence in found), found


def test_the_check_says_that_the_namespace_is_gone(pod, kernel, pod_link):
    link = pod_link(pod)
    namespaces.delete(pod.name)
    (sentence,) = kernel.check_peer(link.peer)
    assert pod.path in sentence


def test_the_host_itself_is_no_container(host, attempt, add, cni0, pod_link):
    """Else the container's default route would be set on the host."""
    add(cni0)
    before = host.run("ip", "route"), set(links_of(host))
    (error,) = attempt(Verb.ADD, pod_link(host))
    assert isinstance(error, InvalidConfig)
    assert "host's own" in str(error)
    assert (host.run("ip", "route"), set(links_of(host))) == before


@pytest.mark.parametrize(
    ("routes", "families"),
    [
        ([], ()),
        (["default via 192.0.2.1 dev other0"], (4,)),
        (["default via 192.0.2.1 dev other0 metric 100"], ()),
        (["default via fd31::1 dev other0"], (6,)),
        (["default via fd31::1 dev other0 metric 512"], (6,)),
        (["default via fd31::1 dev other0 metric 2048"], ()),
        (["default via 192.0.2.1 dev own0", "default via fd31::1 dev own0"], ()),
        (["default via 192.0.2.1 dev other0 table 9", "unreachable default"], ()),
        (["default via 192.0.2.1 dev other0", "default via fd31::1 dev other0"], (4, 6)),
    ],
    ids=str,
)
def test_another_interface_leads_out_where_its_default_route_goes_before_ours(
    pod, routes, families
):
    for number, name in enumerate(("own0", "other0")):
        pod.sh(f"ip link add {name} up type bridge")
        pod.sh(f"ip address add 192.0.2.{2 + number}/24 dev {name}")
        pod.sh(f"ip address add fd31::{2 + number}/64 dev {name} nodad")
    for route in routes:
        pod.sh(f"ip {'-6' if 'fd31' in route else '-4'} route add {route}")
    assert interior.ways_out(pod.path, "own0") == families
