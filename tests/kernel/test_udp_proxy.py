"""The UDP proxy between two hosts, compiled and in Python: packets, errors, faults, take-over.

With "shortcut" two compiled ones let the kernel carry what it can: nothing else may differ.
"""

from __future__ import annotations

import hashlib
import os
import random
import select
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from tests.conftest import Netns
from tests.unit.views import ip, net

from netloom.kernel.compose import HostKernel
from netloom.kernel.udp import build, process
from netloom.kernel.udp.control import MAGIC, Control
from netloom.kernel.udp.proxies import UDP_KINDS, UdpProxies
from netloom.model.errors import Conflict, Unavailable
from netloom.model.kernel import Address, KernelObject, Link, Route, UdpPeer, UdpProxy
from netloom.reconcile.contracts import Change, Verb

POOL = net("172.20.0.0/16")
PORT = 8285
PATIENCE_S = 60.0  # no test waits this long unless it fails


@dataclass
class End:
    """A host with one container: what the agent would have made there."""

    host: Netns
    pod: Netns
    underlay: str
    number: int
    proxies: UdpProxies
    kernel: HostKernel
    directory: Path
    unpacks: bool = False

    @property
    def block(self) -> str:
        return f"172.20.{self.number}.0/24"

    @property
    def address(self) -> str:
        return f"172.20.{self.number}.5"

    @property
    def proxy(self) -> UdpProxy:
        return UdpProxy("flannel0", ip(self.underlay), PORT)

    def try_(self, verb: Verb, *objects: KernelObject):
        changes = [Change(verb, obj) for obj in objects]
        udp = objects[0].kind_name in UDP_KINDS
        part = self.proxies if udp else self.kernel
        return [outcome.error for outcome in self.host.call(lambda: part.apply(changes))]

    def add(self, *objects: KernelObject) -> None:
        assert [e for e in self.try_(Verb.ADD, *objects) if e] == []

    def read(self) -> list[KernelObject]:
        return self.host.call(lambda: self.proxies.read(UDP_KINDS))

    def reopen(self, patience_s: float = PATIENCE_S) -> None:
        """Look at the proxies as another agent would."""
        self.proxies.close()
        self.proxies = UdpProxies(self.directory, self.proxies.command, patience_s)

    def control(self) -> Control:
        return Control(self.directory, "flannel0", PATIENCE_S)

    def pid(self) -> int:
        control = self.control()
        try:
            return control.status().pid
        finally:
            control.close()

    def counters(self) -> dict[str, int]:
        control = self.control()
        try:
            return control.status().counters
        finally:
            control.close()

    def build_up(self) -> None:
        self.add(
            Link("flannel0", "tun", alias="netloom:blue", mtu_bytes=1472),
            Address("flannel0", _interface(self.number), prefix_route=False),
            Route(POOL, "flannel0"),
        )
        self.host.sh("sysctl -qw net.ipv4.ip_forward=1")
        self.host.sh(f"ip link add vpod type veth peer name eth0 netns {self.pod.path}")
        self.host.sh(f"ip addr add 172.20.{self.number}.1/24 dev vpod")
        self.host.sh("ip link set vpod up")
        self.pod.sh(f"ip addr add {self.address}/24 dev eth0")
        self.pod.sh("ip link set eth0 up")
        gateway = f"172.20.{self.number}.1"
        self.pod.sh(f"ip route add default via {gateway}")
        await_(lambda: arrives(ping(self, gateway, "-W", "1")))  # the kernel switches it on later

    def peer_of(self, other: End) -> UdpPeer:
        return UdpPeer("flannel0", net(other.block), ip(other.underlay), PORT, other.unpacks)


def _interface(number: int):
    import ipaddress

    return ipaddress.ip_interface(f"172.20.{number}.0/16")


@pytest.fixture(scope="session")
def programs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[str, ...]]:
    """Return how to start each proxy; the compiled one is made from the source as it is now."""
    target = tmp_path_factory.mktemp("udp") / "netloom-udp"
    found = {"python": (sys.executable, "-IS", str(build.FALLBACK))}
    if not build.compile_proxy(target):
        found["c"] = found["shortcut"] = (str(target),)
    return found


@pytest.fixture(params=["c-c", "python-python", "c-python", "shortcut-shortcut"])
def ends(
    request, programs, two_hosts, make_netns, tmp_path, monkeypatch
) -> Iterator[tuple[End, End]]:
    """Return two hosts whose containers reach each other through their proxies."""
    monkeypatch.setattr(process, "START_PATIENCE_S", PATIENCE_S)
    made = []
    kinds = request.param.split("-")
    if not programs.keys() >= set(kinds):
        pytest.skip("needs a C compiler (cc)")
    for number, (host, kind) in enumerate(zip(two_hosts, kinds, strict=True)):
        directory = tmp_path / f"h{number}"
        proxies = UdpProxies(directory, programs[kind], patience_s=PATIENCE_S)
        underlay = ("192.168.31.62", "192.168.31.63")[number]
        pod = make_netns(f"p{number}")
        kernel = host.call(HostKernel)
        unpacks = kind == "shortcut"
        made.append(End(host, pod, underlay, 77 + number, proxies, kernel, directory, unpacks))
    one, two = made
    for end, other in ((one, two), (two, one)):
        end.build_up()
        end.add(end.proxy, end.peer_of(other))
        if end.unpacks and "flannel0" not in end.proxies.unpacking:
            pytest.skip("needs tcx (Linux 6.6) and the right to load BPF programs")
    yield one, two
    for end in made:
        end.proxies.close()
        end.kernel.close()


def ping(end: End, target: str, *options: str) -> str:
    done = subprocess.run(
        ["nsenter", f"--net={end.pod.path}", "ping", "-c", "1", "-W", "30", *options, target],
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout


def await_(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        select.select([], [], [], 0.01)


def halt(pid: int) -> None:
    """Let a process stand still: each thread of it does when it is its turn, on a busy machine."""
    os.kill(pid, signal.SIGSTOP)
    tasks = Path(f"/proc/{pid}/task")
    await_(lambda: all(_state(each) == "T" for each in tasks.glob("*/stat")))


def _state(stat: Path) -> str:
    return stat.read_text().rpartition(")")[2].split()[0]


def came_in(end: End) -> int:
    """Return how many packets have come from the container to its host."""
    (link,) = end.host.json("ip", "-j", "-s", "link", "show", "vpod")
    return int(link["stats64"]["rx"]["packets"])


def arrives(text: str) -> bool:
    return " 0% packet loss" in text


def send_from(end: End, port: int, *datagrams: bytes, to: str) -> None:
    """Send UDP datagrams to a proxy from the other host, from any port."""

    def send() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.bind((end.underlay, port))
            for datagram in datagrams:
                sender.sendto(datagram, (to, PORT))

    end.host.call(send)


def test_containers_reach_each_other_and_what_was_asked_for_reads_back(ends):
    one, two = ends
    assert arrives(ping(one, two.address))
    assert arrives(ping(two, one.address))
    assert one.read() == [one.proxy, one.peer_of(two)]


@pytest.mark.parametrize("most", [65536, 1500])
def test_a_bulk_of_tcp_arrives_as_it_was_sent(ends, most):
    """Big packets are cut and put together again; or there are none to begin with."""
    one, two = ends
    for end in ends:
        end.pod.sh(f"ip link set eth0 gso_max_size {most}")
    data = random.Random(1).randbytes(20 << 20)
    listener = two.pod.call(lambda: socket.create_server((two.address, 5000)))
    sender = one.pod.call(lambda: socket.create_connection((two.address, 5000), PATIENCE_S))
    got, _ = listener.accept()
    digest, left = hashlib.sha256(), memoryview(data)
    sender.setblocking(False)
    got.settimeout(PATIENCE_S)
    received = 0
    while received < len(data):
        if left and select.select([], [sender], [], 0)[1]:
            left = left[sender.send(left[: 1 << 20]) :]
        elif select.select([got], [], [], PATIENCE_S)[0]:
            piece = got.recv(1 << 20)
            digest.update(piece)
            received += len(piece)
    for sock in (sender, got, listener):
        sock.close()
    assert digest.digest() == hashlib.sha256(data).digest()
    assert two.counters()["malformed"] == two.counters()["write_failed"] == 0


def test_a_packet_larger_than_the_device_is_cut_into_fragments(ends):
    one, two = ends
    assert arrives(ping(one, two.address, "-s", "8000"))


def test_who_may_not_be_cut_is_told_the_mtu(ends):
    one, two = ends
    assert "mtu = 1472" in ping(one, two.address, "-M", "do", "-s", "1472")
    assert arrives(ping(one, two.address, "-M", "do", "-s", str(1472 - 28)))


def test_the_tunnel_is_a_hop_that_traceroute_shows(ends):
    one, two = ends
    said = ping(one, two.address, "-t", "2")
    assert f"From 172.20.{one.number}.0" in said
    assert "Time to live exceeded" in said
    assert one.counters()["expired"] == 1


def test_nobody_has_the_block_means_net_unreachable(ends):
    one, _ = ends
    said = ping(one, "172.20.99.9")
    assert f"From 172.20.{one.number}.0" in said
    assert "Net Unreachable" in said
    assert one.counters()["no_peer"] == 1


def test_a_peer_joins_and_leaves_while_packets_flow(ends):
    one, two = ends
    assert one.try_(Verb.DELETE, one.peer_of(two)) == [None]
    assert "Net Unreachable" in ping(one, two.address)
    assert one.read() == [one.proxy]
    pid = one.pid()
    one.add(one.peer_of(two))
    assert arrives(ping(one, two.address))
    assert one.pid() == pid


def test_the_narrowest_block_counts(ends):
    one, two = ends
    elsewhere = UdpPeer("flannel0", POOL, ip("192.168.31.99"), PORT)
    inside = UdpPeer("flannel0", net("172.20.78.128/25"), ip("192.168.31.98"), PORT)
    one.add(elsewhere, inside)
    assert arrives(ping(one, two.address))


def test_each_datagram_is_one_plain_packet_on_the_wire(ends):
    """Another program in the peer's place gets packets with their checksums in place."""
    one, two = ends
    two.try_(Verb.DELETE, two.proxy)
    one.add(replace(one.peer_of(two), unpacks=False))

    def listen() -> socket.socket:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind((two.underlay, PORT))
        sock.settimeout(PATIENCE_S)
        return sock

    with two.host.call(listen) as wire:
        sender = one.pod.call(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        sender.sendto(b"hello", (two.address, 7000))
        packet, source = wire.recvfrom(65536)
        sender.close()
        assert source == (one.underlay, PORT)
        assert packet[0] == 0x45
        assert int.from_bytes(packet[2:4], "big") == len(packet) == 20 + 8 + 5
        assert packet[8] == 64 - 2  # the host's hop and the tunnel's
        assert _sum(packet[:20]) == 0xFFFF
        pseudo = packet[12:20] + struct.pack("!BBH", 0, 17, 13)
        assert _sum(pseudo + packet[20:]) == 0xFFFF
        assert packet[28:] == b"hello"


def test_a_packet_from_any_port_is_delivered(ends):
    one, two = ends
    sock = two.pod.call(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    sock.bind((two.address, 7001))
    sock.settimeout(PATIENCE_S)
    inner = struct.pack("!HHHH", 9, 7001, 8 + 2, 0) + b"ok"
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(inner), 0, 0, 9, 17, 0)
    head += ip(one.address).packed + ip(two.address).packed
    head = head[:10] + (~_sum(head) & 0xFFFF).to_bytes(2, "big") + head[12:]
    send_from(one, 40000, head + inner + b"trailing bytes", to=two.underlay)
    assert sock.recv(100) == b"ok"
    sock.close()


def test_datagrams_that_are_no_packets_are_counted_and_do_no_harm(ends):
    one, two = ends
    random_ = random.Random(2)
    whole = struct.pack("!BBHHHBBH", 0x45, 0, 1400, 0, 0, 9, 6, 0) + bytes(1380)
    junk = [b"", b"E", whole[:19], whole[:100], b"\x60" + bytes(100), b"\x41" + whole[1:]]
    junk += [b"\x4f" + whole[1:30], struct.pack("!BBH", 0x45, 0, 10) + bytes(40)]
    junk += [random_.randbytes(random_.randrange(1500)) for _ in range(300)]
    junk += [b"\x45" + random_.randbytes(random_.randrange(1400)) for _ in range(300)]
    before = two.counters()["malformed"]
    send_from(one, 40001, *junk, to=two.underlay)
    await_(lambda: two.counters()["malformed"] > before + 6)
    assert arrives(ping(one, two.address))


@pytest.mark.parametrize(
    ("request_", "number"),
    [
        (b"x", 71),
        (b"\0" * 8, 71),
        (struct.pack("!II", MAGIC, 99), 38),
        (struct.pack("!II", MAGIC, 3), 22),
        (struct.pack("!IIQ", MAGIC, 3, 1) + b"x", 22),
        (struct.pack("!IIQIIHBx", MAGIC, 3, 1, 0xAC140000, 1, 1, 33), 22),
        (struct.pack("!IIQIIHBx", MAGIC, 3, 1, 0xAC140001, 1, 1, 16), 22),
        (struct.pack("!IIQIIHBx", MAGIC, 3, 1, 0xAC140000, 0, 1, 16), 22),
        (struct.pack("!IIQIIHBx", MAGIC, 3, 1, 0xAC140000, 1, 0, 16), 22),
    ],
)
def test_a_wrong_request_is_refused_and_changes_nothing(ends, request_, number):
    one, two = ends
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as client:
        client.connect(str(one.directory / "flannel0.sock"))
        client.settimeout(PATIENCE_S)
        client.send(request_)
        assert struct.unpack("!II", client.recv(100)) == (MAGIC, number)
    assert arrives(ping(one, two.address))


def test_nobody_else_can_reach_the_control_socket(ends):
    one, _ = ends
    assert (one.directory / "flannel0.sock").stat().st_mode & 0o777 == 0o600


def test_four_thousand_peers_fit_into_the_table(ends):
    one, two = ends
    many = [
        UdpPeer("flannel0", net(f"10.{a}.{b}.0/24"), ip("192.168.31.99"), PORT)
        for a in range(16)
        for b in range(250)
    ]
    one.add(*many)
    assert len(one.read()) == 2 + 4000
    assert arrives(ping(one, two.address))


def test_a_killed_proxy_is_news_and_comes_back_with_its_peers(ends):
    one, two = ends
    one.read()
    os.kill(one.pid(), signal.SIGKILL)
    assert select.select([one.proxies], [], [], PATIENCE_S)[0]
    assert one.proxies.drain() == UDP_KINDS
    assert one.proxies.drain() == frozenset()
    assert one.read() == []
    one.add(one.proxy, one.peer_of(two))
    assert arrives(ping(one, two.address))


def test_a_proxy_without_peers_says_that_there_is_no_way(ends):
    one, two = ends
    one.try_(Verb.DELETE, one.proxy)
    one.add(one.proxy)
    assert "Net Unreachable" in ping(one, two.address)


def test_a_proxy_whose_device_is_deleted_ends(ends):
    one, _ = ends
    one.host.sh("ip link delete flannel0")
    assert select.select([one.proxies], [], [], PATIENCE_S)[0]
    await_(lambda: one.read() == [])


def test_a_stuck_proxy_is_ended_and_another_takes_its_place(ends):
    one, two = ends
    stuck = one.pid()
    halt(stuck)
    one.reopen(patience_s=0.5)
    assert one.read() == []
    one.proxies._patience_s = PATIENCE_S  # the next one may take its time to begin
    one.add(one.proxy, one.peer_of(two))
    assert one.pid() != stuck
    assert arrives(ping(one, two.address))


def test_a_proxy_whose_socket_was_lost_is_found_and_another_takes_its_place(ends):
    """The run directory is on a tmpfs, and somebody emptied it."""
    one, two = ends
    lost = one.pid()
    (one.directory / "flannel0.sock").unlink()
    one.reopen()
    assert one.read() == []
    one.add(one.proxy, one.peer_of(two))
    assert one.pid() != lost
    assert arrives(ping(one, two.address))


@pytest.mark.parametrize("place", ["the socket", "the device"])
def test_a_proxy_that_is_ended_first_carries_what_has_reached_it(ends, place):
    """Under load a packet may wait in it when the backend is switched: it is not lost."""
    one, two = ends
    listener = two.pod.call(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    with listener:
        listener.bind((two.address, 5000))
        listener.settimeout(PATIENCE_S)
        slow, sent = (two if place == "the socket" else one), one.counters()["sent"]
        pid = slow.pid()
        halt(pid)
        sender = one.pod.call(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        with sender:
            sender.sendto(b"late", (two.address, 5000))
        if slow is two:
            await_(lambda: one.counters()["sent"] > sent)
        os.kill(pid, signal.SIGTERM)
        os.kill(pid, signal.SIGCONT)
        assert listener.recv(100) == b"late"
        await_(lambda: slow.read() == [])


def test_another_agent_finds_the_proxy_and_its_peers(ends):
    one, two = ends
    pid = one.pid()
    one.reopen()
    assert one.read() == [one.proxy, one.peer_of(two)]
    assert one.pid() == pid


def test_another_port_is_taken_over_too(ends):
    one, two = ends
    one.read()
    assert one.try_(Verb.REPLACE, replace(one.proxy, port=9000)) == [None]
    two.add(replace(two.peer_of(one), port=9000))
    assert arrives(ping(two, one.address))


def test_a_port_that_another_has_is_a_conflict_that_says_how_to_find_him(ends):
    one, _ = ends
    one.try_(Verb.DELETE, one.proxy)

    def take() -> socket.socket:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind((one.underlay, PORT))
        return sock

    with one.host.call(take):
        (error,) = one.try_(Verb.ADD, one.proxy)
    assert isinstance(error, Conflict)
    assert f"UDP port {PORT}" in str(error)
    assert "ss -lunp" in error.hint


def test_an_address_that_the_host_does_not_have_is_refused_by_the_kernel(ends):
    one, _ = ends
    one.try_(Verb.DELETE, one.proxy)
    (error,) = one.try_(Verb.ADD, replace(one.proxy, local=ip("192.0.2.1")))
    assert "EADDRNOTAVAIL" in str(error)


def test_peers_of_a_proxy_that_is_gone_wait_and_those_that_go_are_gone(ends):
    one, two = ends
    one.try_(Verb.DELETE, one.proxy)
    (error,) = one.try_(Verb.ADD, one.peer_of(two))
    assert isinstance(error, Unavailable)
    assert one.try_(Verb.DELETE, one.peer_of(two)) == [None]


def test_an_unmarked_device_of_the_name_is_left_alone(host):
    host.sh("ip tuntap add flannel0 mode tun")
    kernel = host.call(HostKernel)
    change = Change(Verb.ADD, Link("flannel0", "tun", alias="netloom:blue"))
    (outcome,) = host.call(lambda: kernel.apply([change]))
    kernel.close()
    assert isinstance(outcome.error, Conflict)
    assert "netloom" not in host.sh("ip link show flannel0")


def _sum(data: bytes) -> int:
    padded = data + bytes(len(data) % 2)
    total = sum(struct.unpack(f"!{len(padded) // 2}H", padded))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total
