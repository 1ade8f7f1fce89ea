"""Hundreds of requests in one send: each answered for itself, whatever the others do."""

from __future__ import annotations

import errno
import ipaddress
import threading

import pytest

from netloom.kernel import encode, encode_link, namespaces
from netloom.kernel.netlink import Netlink
from netloom.kernel.rtnetlink import RtKernel
from netloom.model.errors import InvalidConfig, KernelRejected
from netloom.model.kernel import Address, Fdb, Neighbour, Route
from netloom.reconcile.contracts import Change, Verb

PEERS = 4000
UNDERLAY = {"route 192.168.31.0/24", "route fd31::/64 metric 256"}
FIRST_REMOTE = ipaddress.ip_address("192.168.40.1")


def peer_objects(number):
    """Return what one vxlan peer is in the kernel."""
    subnet = ipaddress.ip_network((0x0A000000 + (number + 256 << 8), 24))
    gateway = subnet.network_address
    mac = f"02:00:00:01:{number >> 8:02x}:{number & 255:02x}"
    return (
        Neighbour("flannel.1", gateway, mac),
        Fdb("flannel.1", mac, FIRST_REMOTE + number),
        Route(subnet, "flannel.1", gateway, onlink=True),
    )


def test_four_thousand_peers_are_written_read_and_removed(host, add, attempt, standing, flannel1):
    wanted = [obj for number in range(PEERS) for obj in peer_objects(number)]
    add(flannel1, *wanted)
    shown = host.json("ip", "-j", "route", "show", "proto", "78")
    assert len(shown) == PEERS
    state = standing("neighbour", "fdb", "route")
    assert all(state[obj.key] == obj for obj in wanted)
    assert set(state) == {obj.key for obj in wanted} | UNDERLAY
    assert attempt(Verb.DELETE, *reversed(wanted)) == [None] * len(wanted)
    assert set(standing("neighbour", "fdb", "route")) == UNDERLAY


def test_each_refusal_among_hundreds_is_reported_for_itself(host, add, attempt, flannel1):
    """Every seventh of a thousand routes has a gateway out of reach; the others all stand."""
    add(flannel1)
    routes = []
    for number in range(1000):
        subnet = ipaddress.ip_network((0x0A000000 + (number + 256 << 8), 24))
        bad = number % 7 == 3
        gateway = ipaddress.ip_address("172.16.0.1") if bad else subnet.network_address
        routes.append(Route(subnet, "flannel.1", gateway, onlink=not bad))
    errors = attempt(Verb.ADD, *routes)
    for route, error in zip(routes, errors, strict=True):
        if route.onlink:
            assert error is None
        else:
            assert isinstance(error, KernelRejected)
            assert str(route.destination) in str(error)
            assert error.errno == errno.ENETUNREACH
    shown = {line["dst"] for line in host.json("ip", "-j", "route", "show", "proto", "78")}
    assert shown == {str(route.destination) for route in routes if route.onlink}


def test_a_change_on_a_missing_link_does_not_hinder_its_neighbours(add, attempt, flannel1):
    add(flannel1)
    good = Neighbour("flannel.1", ipaddress.ip_address("10.244.2.0"), "02:aa:00:00:00:63")
    lost = Neighbour("flannel.9", ipaddress.ip_address("10.244.2.0"), "02:aa:00:00:00:63")
    errors = attempt(Verb.ADD, lost, good, lost)
    assert [error is None for error in errors] == [False, True, False]
    assert attempt(Verb.DELETE, lost, good, lost) == [None, None, None]


def test_kinds_may_be_mixed_in_any_order(add, attempt, standing, flannel1, cni0):
    objects = peer_objects(1)
    address = Address("cni0", ipaddress.ip_interface("10.244.1.1/24"))
    add(flannel1, *objects, cni0, address)
    state = standing("link", "address", "neighbour", "fdb", "route")
    assert all(obj.key in state for obj in (flannel1, *objects, cni0, address))


def test_an_answer_says_where_in_the_request_the_fault_is(netns):
    with Netlink.inside(netns.path) as netlink:
        good = encode_link.name_alias("lo", "x")
        bad = encode_link.name_alias("lo", "x" * 300)
        yes, no = netlink.send([good, bad])
    assert yes.errno == 0
    assert no.errno != 0
    assert no.text
    assert no.offset > 0


def test_a_socket_without_room_for_answers_says_which_are_lost(netns):
    """With a tiny receive buffer the kernel drops answers; none may pass as a yes."""
    netns.sh("ip link add br9 type bridge")
    with Netlink.inside(netns.path) as netlink:
        netlink._socket.setsockopt(1, 8, 1)  # SOL_SOCKET, SO_RCVBUF: the least there is
        index = int(netns.json("ip", "-j", "link", "show", "br9")[0]["ifindex"])
        requests = [
            encode.address(
                Verb.ADD, Address("br9", ipaddress.ip_interface(f"10.0.{n}.1/24")), index
            )
            for n in range(200)
        ]
        acks = netlink.send(requests)
        lost = [ack for ack in acks if ack.errno]
        assert lost
        assert all(ack.errno == errno.ENOBUFS and "lost" in ack.text for ack in lost)
        again = netlink.send([encode_link.name_alias("lo", "x")])
    assert [ack.errno for ack in again] == [0]


def test_a_dump_is_whole_while_another_hand_keeps_changing_things(host, add, kernel, flannel1):
    """Routes come and go all the time; the thousand that stay are in every reading."""
    add(flannel1)
    lasting = [peer_objects(number)[2] for number in range(1000)]
    add(*lasting)
    wanted = {route.key for route in lasting}
    stop = threading.Event()

    def disturb():
        other = RtKernel(host.path)
        coming = [peer_objects(number)[2] for number in range(2000, 2050)]
        while not stop.is_set():
            other.apply([Change(Verb.ADD, route) for route in coming])
            other.apply([Change(Verb.DELETE, route) for route in coming])
        other.close()

    thread = threading.Thread(target=disturb)
    thread.start()
    try:
        for _ in range(50):
            keys = [route.key for route in kernel.read(["route"])]
            assert wanted <= set(keys)
            assert len(keys) == len(set(keys))
    finally:
        stop.set()
        thread.join()


def test_a_socket_opens_only_inside_a_namespace_that_exists(netns):
    namespaces.delete(netns.name)
    with pytest.raises(InvalidConfig, match=netns.name):
        Netlink.inside(netns.path)


def test_a_device_recreated_by_another_hand_is_found_under_its_new_number(
    host, add, kernel, flannel1
):
    """Numbers are looked up in every call, never kept."""
    add(flannel1, *peer_objects(1))
    host.sh("ip link delete flannel.1")
    host.sh("ip link add spacer type bridge")
    host.sh("ip link add flannel.1 type vxlan id 1 dev ens33 dstport 8472")
    host.sh("ip link set flannel.1 up")
    outcomes = kernel.apply([Change(Verb.ADD, obj) for obj in peer_objects(1)])
    assert [outcome.error for outcome in outcomes] == [None] * 3
    assert host.json("ip", "-j", "route", "show", "proto", "78")[0]["dev"] == "flannel.1"
