"""Kernel events: what another hand does is heard, what we did ourselves is not.

That something is *not* heard is shown by a change that comes after it and is: events keep their
order, so when the later one is there the earlier one will not come any more.
"""

from __future__ import annotations

import ipaddress
import socket
import threading
import time

import pytest

from netloom.kernel.events import NetlinkEvents
from netloom.model.kernel import KINDS, Address, Fdb, Neighbour, Route
from netloom.reconcile.contracts import Change, Verb

EVERYTHING = frozenset(KINDS)
PEER = ipaddress.ip_network("10.244.2.0/24")
PEER6 = ipaddress.ip_network("fd00:2::/64")
MAC = "02:aa:00:00:00:63"
OBJECTS = (
    Address("flannel.1", ipaddress.ip_interface("10.244.1.0/32")),
    Address("cni0", ipaddress.ip_interface("10.244.1.1/24")),
    Neighbour("flannel.1", PEER.network_address, MAC),
    Neighbour("flannel.1", PEER6.network_address, MAC),
    Fdb("flannel.1", MAC, ipaddress.ip_address("192.168.31.63")),
    Route(PEER, "flannel.1", PEER.network_address, onlink=True),
    Route(PEER6, "flannel.1", PEER6.network_address, onlink=True, metric=1024),
)
MARK = "ip route add 198.51.100.0/24 via 192.168.31.63"
PATIENCE_S = 60.0  # no test waits this long unless it fails


@pytest.fixture
def events(host, kernel):
    events = host.call(lambda: NetlinkEvents(kernel.known, [kernel.port]))
    kernel.read(KINDS)  # what was there before is no news: the loop reads first, too
    yield events
    events.close()


@pytest.fixture
def heard(host, events):
    """Return a function that runs command lines and returns what was heard of them."""

    def heard(*lines):
        for line in lines:
            host.sh(line)
        return until_mark()

    def until_mark():
        host.sh(MARK)
        kinds = frozenset()
        while "route" not in kinds:
            fresh = events.wait(PATIENCE_S)
            assert fresh, "the mark was not heard"
            kinds |= fresh
        host.sh(MARK.replace("add", "delete"))
        assert "route" in events.wait(PATIENCE_S)
        return kinds

    return heard


@pytest.fixture
def pod(make_netns):
    """The container of ``furnished``."""
    return make_netns("pod")


@pytest.fixture
def furnished(host, pod, kernel, add, cni0, flannel1, pod_link):
    """A host with all that we write on it, read once as the loop does."""
    add(cni0, flannel1, pod_link(pod), *OBJECTS)
    kernel.read(KINDS)
    return host


@pytest.mark.parametrize(
    "damage",
    ["ip link delete flannel.1", "ip link set flannel.1 down", "ip link set flannel.1 mtu 1300"],
)
def test_a_link_changed_just_before_other_kinds_were_read_is_still_news(
    furnished, events, kernel, damage
):
    """The read looks up links for their names, but whoever asked was not shown any."""
    furnished.sh(damage)
    kernel.read(["route", "fdb"])
    found = frozenset()
    while "link" not in found:
        fresh = events.wait(PATIENCE_S)
        assert fresh, f"only {set(found)} was heard"
        found |= fresh


@pytest.mark.parametrize(
    ("damage", "kinds"),
    [
        ("ip link set flannel.1 mtu 1300", {"link"}),
        ("ip link set flannel.1 alias other", {"link"}),
        ("ip link set flannel.1 type vxlan learning", {"link"}),
        ("ip link set flannel.1 down", EVERYTHING),
        ("ip link set flannel.1 address 02:00:00:00:00:99", EVERYTHING),
        ("ip link delete flannel.1", EVERYTHING),
        ("ip link set veth12345678 nomaster", {"link"}),
        ("bridge link set dev veth12345678 hairpin off", {"link"}),
        ("ip address delete 10.244.1.1/24 dev cni0", {"address"}),
        ("ip address add fd00::99/64 dev cni0", {"address"}),
        ("ip neigh delete 10.244.2.0 dev flannel.1", {"neighbour"}),
        ("ip neigh delete fd00:2:: dev flannel.1", {"neighbour"}),
        ("ip neigh replace 10.244.2.0 lladdr 02:00:00:00:00:99 dev flannel.1", {"neighbour"}),
        ("ip neigh change 10.244.2.0 dev flannel.1 nud stale", {"neighbour"}),
        (f"bridge fdb delete {MAC} dev flannel.1", {"fdb"}),
        (f"bridge fdb replace {MAC} dev flannel.1 dst 192.168.31.64 self", {"fdb"}),
        (f"bridge fdb replace {MAC} dev flannel.1 dst 192.168.31.63 self dynamic", {"fdb"}),
        ("bridge fdb add 02:00:00:00:00:77 dev flannel.1 dst 192.168.31.64 self", {"fdb"}),
        ("ip route delete 10.244.2.0/24", {"route"}),
        ("ip -6 route delete fd00:2::/64", {"route"}),
        ("ip route add blackhole 10.9.0.0/16", {"route"}),
        ("ip link add br9 type bridge", {"link"}),
        ("nft add table inet netloom", {"nft"}),
        ("tc qdisc add dev veth12345678 root tbf rate 1mbit burst 5k latency 25ms", {"qdisc"}),
        ("sysctl -qw net.ipv4.ip_forward=1", {"sysctl"}),
        ("sysctl -qw net.ipv6.conf.all.forwarding=1", {"sysctl"}),
    ],
)
def test_another_hand_is_heard(furnished, events, damage, kinds):
    """Each kind of object that we own wakes the reader that has to look at it."""
    furnished.sh(damage)
    found = frozenset()
    while not found >= kinds:
        fresh = events.wait(PATIENCE_S)
        assert fresh, f"heard only {sorted(found)}"
        found |= fresh


@pytest.mark.parametrize(
    "batch",
    [
        "link set flannel.1 down\nlink set flannel.1 up\n",
        "link delete flannel.1\nlink add flannel.1 type vxlan id 1 dev ens33 dstport 8472\n",
        "link set flannel.1 address 02:00:00:00:00:99\n"
        "link set flannel.1 address 02:aa:00:00:00:62\n",
    ],
    ids=["down and up", "made anew", "MAC there and back"],
)
def test_what_looks_as_before_may_have_lost_what_leaned_on_it(furnished, events, batch):
    """IPv4 routes and permanent neighbours vanish without notifications of their own."""
    furnished.run("ip", "-batch", "-", input=batch)
    found = frozenset()
    while found != EVERYTHING:
        fresh = events.wait(PATIENCE_S)
        assert fresh, f"heard only {sorted(found)}"
        found |= fresh


def test_our_own_writes_are_not_heard(make_netns, kernel, add, heard, cni0, flannel1, pod_link):
    """Also where the kernel does not say who wrote: link settings, forwarding entries."""
    add(flannel1, cni0, pod_link(make_netns("pod")), *OBJECTS[2:])
    assert heard() == {"route"}


def test_our_own_bulk_writes_and_removals_are_not_heard(kernel, add, attempt, heard, flannel1):
    add(flannel1)
    peers = []
    for number in range(1000):
        mac = f"02:00:00:01:{number >> 8:02x}:{number & 255:02x}"
        peers.append(Fdb("flannel.1", mac, ipaddress.ip_address("192.168.40.1") + number))
        peers.append(Neighbour("flannel.1", PEER.network_address + number, mac))
    add(*peers)
    assert heard() == {"route"}
    assert set(attempt(Verb.DELETE, *peers)) == {None}
    assert heard() == {"route"}


def test_our_own_repairs_of_a_link_are_not_heard(furnished, attempt, standing, heard, flannel1):
    heard("ip link set flannel.1 mtu 1300", "ip link set flannel.1 alias other")
    damaged = standing("link")["link flannel.1"]
    assert attempt(Verb.REPLACE, (flannel1, damaged)) == [None]
    assert heard() == {"route"}


def test_our_own_removal_of_a_link_is_not_heard(furnished, attempt, standing, heard):
    veth = standing("link")["link veth12345678"]
    assert attempt(Verb.DELETE, veth) == [None]
    assert heard() == {"route"}


def test_a_container_that_flaps_its_interface_is_no_news(furnished, pod, heard):
    for state in ("down", "up") * 5:
        pod.run("ip", "link", "set", "eth0", state)
    assert heard() == {"route"}


def test_neighbours_that_the_kernel_learns_are_no_news(furnished, heard, two_hosts):
    assert heard("ping -c2 -i0.01 192.168.31.63", "ip neigh show") == {"route"}


def test_learned_forwarding_entries_of_a_bridge_are_no_news(furnished, pod, heard):
    pod.run("ping", "-c1", "-W30", "10.244.1.1")
    assert heard() == {"route"}


def test_entries_on_links_of_others_are_no_news(furnished, heard, kernel):
    furnished.sh("ip link add other type vxlan id 9 dev ens33 dstport 4789")
    kernel.read(KINDS)
    heard()
    lines = (
        "bridge fdb add 02:00:00:00:00:77 dev other dst 192.168.31.64 self",
        "bridge fdb delete 02:00:00:00:00:77 dev other dst 192.168.31.64 self",
        "ip neigh add 192.168.31.99 lladdr 02:00:00:00:00:77 dev ens33 nud permanent",
        "ip neigh delete 192.168.31.99 dev ens33",
    )
    assert heard(*lines) == {"route"}


def test_nftables_of_others_are_no_news(furnished, heard):
    assert heard("nft add table inet other", "nft delete table inet other") == {"route"}


def test_routes_of_other_tables_are_no_news(furnished, heard):
    lines = [f"ip route {verb} 10.9.0.0/16 via 192.168.31.63 table 100" for verb in ("add", "del")]
    assert heard(*lines) == {"route"}


def test_a_half_made_link_is_waited_for(furnished, kernel, events, add, cni0, pod_link):
    """While a link of ours is being made, its messages are judged when it is whole."""
    with kernel.known.changing_link:
        furnished.sh("ip link set veth12345678 mtu 1300")
        result = []
        thread = threading.Thread(target=lambda: result.append(events.wait(PATIENCE_S)))
        thread.start()
        furnished.sh("ip link set veth12345678 mtu 1450")
    furnished.sh("nft add table inet netloom")
    thread.join(PATIENCE_S)
    assert "link" not in result[0]


def test_an_overrun_means_that_everything_has_to_be_looked_at(furnished, events):
    """With a tiny buffer the kernel drops notifications; it says so once."""
    events._rt.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
    lines = "".join(f"route add blackhole 10.9.{n}.0/24\n" for n in range(200))
    furnished.run("ip", "-batch", "-", input=lines)
    found = frozenset()
    while found != EVERYTHING:
        fresh = events.wait(PATIENCE_S)
        assert fresh
        found |= fresh


def test_waiting_ends_after_its_time_and_costs_none(events):
    """The processor time of a wait is a small part of it: nothing spins."""

    def share():
        began, worked = time.monotonic(), time.thread_time()
        assert events.wait(0.3) == frozenset()
        waited, worked = time.monotonic() - began, time.thread_time() - worked
        assert waited >= 0.3
        return worked / waited

    # A machine that is taken away from under a thread may count that as the thread's work.
    assert any(share() < 1 / 4 for _ in range(5))


def test_closing_wakes_a_waiter_and_may_be_repeated(events):
    results = []
    waiting = threading.Event()

    def wait():
        waiting.set()
        results.append(events.wait(None))

    thread = threading.Thread(target=wait)
    thread.start()
    waiting.wait(PATIENCE_S)
    events.close()
    thread.join(PATIENCE_S)
    assert results == [frozenset()]
    events.close()
    assert events.wait(None) == frozenset()


def test_what_happens_before_the_wait_is_not_missed(furnished, events):
    furnished.sh("ip route delete 10.244.2.0/24")
    assert "route" in events.wait(PATIENCE_S)


def test_another_writer_with_our_code_is_another_hand(furnished, events, kernel):
    """Echoes are told by socket, not by what is written: two agents do hear each other."""
    from netloom.kernel.rtnetlink import RtKernel

    other = RtKernel(furnished.path)
    try:
        other.apply([Change(Verb.DELETE, OBJECTS[5])])
    finally:
        other.close()
    assert "route" in events.wait(PATIENCE_S)


def test_a_cable_that_is_pulled_and_plugged_in_is_news_each_time(host, events, kernel):
    """The carrier follows in the kernel's own time, so the news itself is what is waited for."""
    host.sh("ip link add card0 type veth peer name far0")
    host.sh("ip link set card0 up")
    host.sh("ip link set far0 up")
    for state in ("down", "up"):
        await_carrier(kernel, "card0", state == "down")
        host.sh(f"ip link set far0 {state}")
        wanted = state == "up"
        deadline = time.monotonic() + PATIENCE_S
        while kernel.known.links["card0"].carrier != wanted:
            assert time.monotonic() < deadline, f"far0 {state} was not heard"
            if "link" in events.wait(PATIENCE_S):
                kernel.read(["link"])


def await_carrier(kernel, name, carrier):
    deadline = time.monotonic() + PATIENCE_S
    while not any(link.name == name and link.carrier == carrier for link in kernel.read(["link"])):
        assert time.monotonic() < deadline
