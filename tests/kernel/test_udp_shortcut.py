"""What the kernel carries by itself between two UDP proxies, what it leaves to them, and its end.

That a proxy had no part in it is shown by stopping it (SIGSTOP) while packets arrive.
"""

from __future__ import annotations

import os
import signal
import socket
import struct
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from tests.kernel.echoes import Echoes
from tests.kernel.test_udp_proxy import (
    PATIENCE_S,
    PORT,
    End,
    _sum,
    arrives,
    await_,
    ends,
    halt,
    ping,
    programs,
)
from tests.unit.views import ip

from netloom.reconcile.contracts import Verb

__all__ = ["ends", "programs"]
pytestmark = pytest.mark.parametrize("ends", ["shortcut-shortcut"], indirect=True)


@contextmanager
def stopped(*which: End) -> Iterator[None]:
    """Let the proxies of ``which`` stand still."""
    with ExitStack() as stack:
        for end in which:
            pid = end.pid()
            stack.callback(os.kill, pid, signal.SIGCONT)
            halt(pid)
        yield


def alone(one: End, two: End) -> str:
    """Ping while no proxy runs."""
    with stopped(one, two):
        return ping(one, two.address, "-W", "1")


def attached(end: End) -> bool:
    control = end.control()
    try:
        return control.status().unpacks
    finally:
        control.close()


def lost(said: str) -> bool:
    return "100% packet loss" in said


def flow(one: End, two: End, sizes: list[int], *, checksum: bool = True) -> list[bytes]:
    """Send numbered UDP datagrams from container to container; return them as they came."""
    listener = two.pod.call(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    sender = one.pod.call(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    with listener, sender:
        listener.bind((two.address, 7000))
        listener.settimeout(PATIENCE_S)
        if not checksum:
            sender.setsockopt(socket.SOL_SOCKET, 11, 1)  # SO_NO_CHECK
        for number, size in enumerate(sizes):
            sender.sendto(struct.pack("!H", number) + bytes(size - 2), (two.address, 7000))
        return [listener.recv(2000) for _ in sizes]


def test_short_packets_need_no_proxy_and_are_counted(ends):
    one, two = ends
    before = [(end.counters()["sent"], end.counters()["received"]) for end in ends]
    with stopped(one, two):
        for _ in range(3):
            assert arrives(ping(one, two.address))
    after = [(end.counters()["sent"], end.counters()["received"]) for end in ends]
    assert after == [(sent + 3, received + 3) for sent, received in before]


def test_a_short_exchange_by_tcp_needs_no_proxy(ends):
    """Acknowledgements alone are the proxy's, and nobody waits for them."""
    one, two = ends
    listener = two.pod.call(lambda: socket.create_server((two.address, 5000)))
    with listener, stopped(one, two):
        client = one.pod.call(lambda: socket.create_connection((two.address, 5000), PATIENCE_S))
        client.sendall(b"question")
        listener.settimeout(PATIENCE_S)
        server, _ = listener.accept()
        with client, server:
            assert server.recv(100) == b"question"
            server.sendall(b"answer")
            assert client.recv(100) == b"answer"


def test_the_first_packet_waits_for_the_neighbour_and_is_not_lost(ends):
    one, two = ends
    for end in ends:
        end.host.sh("ip neigh flush all")
    with stopped(one, two):
        assert arrives(ping(one, two.address))


def test_long_packets_are_the_proxys(ends):
    """It carries many of them at once; alone it is no worse."""
    one, two = ends
    with stopped(one):
        assert lost(ping(one, two.address, "-s", "1400", "-W", "1"))
    await_(lambda: arrives(ping(one, two.address, "-s", "1400", "-W", "1")))


def test_short_packets_of_a_flow_do_not_overtake_its_long_ones(ends):
    one, two = ends
    got = flow(one, two, [1400, 100] * 40)
    numbers = [int.from_bytes(datagram[:2], "big") for datagram in got]
    late = sum(later < before for before, later in pairwise(numbers))
    assert sorted(numbers) == list(range(80))
    assert late < 10


@pytest.mark.parametrize("checksum", [True, False])
def test_udp_arrives_as_it_was_sent(ends, checksum):
    one, two = ends
    with stopped(one, two):
        got = flow(one, two, [2, 3, 100, 600], checksum=checksum)
    assert [len(datagram) for datagram in got] == [2, 3, 100, 600]
    assert two.pod.sh("nstat -asz UdpInCsumErrors").split()[-2] == "0"


def test_what_is_on_the_wire_is_a_whole_datagram_without_an_outer_checksum(ends):
    """The format is flannel's: any host could read it, but for inner checksums yet to fill in."""
    one, two = ends

    def listen() -> socket.socket:
        everything = 3  # ETH_P_ALL: is asked before the programs are
        wire = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(everything))
        wire.bind(("ens33", everything))
        wire.settimeout(PATIENCE_S)
        return wire

    with two.host.call(listen) as wire:
        assert arrives(ping(one, two.address, "-s", "100"))
        packet = next(p for p in iter(lambda: wire.recv(2000), b"") if p[9:10] == b"\x11")
    outer, udp, inner = packet[:20], packet[20:28], packet[28:]
    assert _sum(outer) == 0xFFFF
    assert outer[12:20] == ip(one.underlay).packed + ip(two.underlay).packed
    assert struct.unpack("!HHHH", udp) == (PORT, PORT, 8 + len(inner), 0)
    assert int.from_bytes(outer[2:4], "big") == len(packet) == 20 + 8 + 20 + 8 + 100
    assert _sum(inner[:20]) == 0xFFFF
    assert inner[8] == 64 - 2  # the host's hop and the tunnel's


def test_a_peer_that_cannot_unpack_gets_it_from_the_proxy(ends):
    one, two = ends
    one.add(replace(one.peer_of(two), unpacks=False))
    with stopped(one):
        assert lost(ping(one, two.address, "-W", "1"))
    assert arrives(ping(one, two.address))


def test_a_peer_that_left_is_left_at_once(ends):
    one, two = ends
    assert one.try_(Verb.DELETE, one.peer_of(two)) == [None]
    assert "Net Unreachable" in ping(one, two.address)


def test_an_unknown_hosts_datagram_is_not_unpacked_by_the_kernel(ends):
    one, two = ends
    assert two.try_(Verb.DELETE, two.peer_of(one)) == [None]
    before = two.counters()["received"]
    with stopped(two):
        ping(one, two.address, "-W", "1")
    await_(lambda: two.counters()["received"] == before + 1)  # by the proxy, when it runs again


def test_it_ends_with_the_proxy_whatever_its_end_and_comes_with_the_next(ends):
    one, two = ends
    os.kill(two.pid(), signal.SIGKILL)
    await_(lambda: two.read() == [])
    await_(lambda: lost(ping(one, two.address, "-W", "1")))  # the kernel lets go of it later
    two.add(two.proxy, two.peer_of(one))
    with stopped(one, two):
        assert arrives(ping(one, two.address))


def test_who_takes_over_goes_on_with_it_and_no_packet_is_lost(ends):
    one, two = ends
    echoes = Echoes(two.pod, one.address)
    await_(lambda: one.counters()["received"] > 20)
    one.read()
    assert one.try_(Verb.REPLACE, replace(one.proxy, version="99")) == [None]
    assert echoes.lost(PATIENCE_S) == set()
    assert attached(one)


def test_it_can_be_switched_off_and_on(ends):
    one, _ = ends
    one.read()
    plain = replace(one.proxy, shortcut=False)
    assert one.try_(Verb.REPLACE, plain) == [None]
    assert plain in one.read()
    assert "flannel0" not in one.proxies.unpacking
    assert one.try_(Verb.REPLACE, one.proxy) == [None]
    assert "flannel0" in one.proxies.unpacking


def test_filters_of_others_on_the_card_stay_as_they_are(ends):
    one, two = ends
    one.host.sh("tc qdisc add dev ens33 clsact")
    one.host.sh("tc filter add dev ens33 ingress pref 7 protocol ip u32 match u32 0 0 flowid 1:1")
    before = one.host.sh("tc filter show dev ens33 ingress")
    assert arrives(ping(one, two.address))
    one.try_(Verb.DELETE, one.proxy)
    assert one.host.sh("tc filter show dev ens33 ingress") == before != ""


def test_what_ipsec_policies_would_encrypt_never_leaves_in_the_clear_by_it(ends):
    """The kernel's way is behind where policies are asked: the proxy sends, and they are."""
    one, two = ends
    policy = f"dir out src {one.underlay}/32 dst 192.0.2.1/32"
    try:
        one.host.sh(f"ip xfrm policy add {policy}")
    except AssertionError:
        pytest.skip("needs a kernel with xfrm")
    await_(lambda: lost(alone(one, two)))  # once the proxy has heard of it
    assert arrives(ping(one, two.address))
    one.host.sh(f"ip xfrm policy delete {policy}")
    await_(lambda: arrives(alone(one, two)))


def test_a_card_that_was_made_anew_gets_it_again(ends):
    one, two = ends
    one.host.sh(f"ip link add ens34 type veth peer name ens34 netns {two.host.path}")
    for end in ends:
        end.host.sh("ip -4 address flush dev ens33")
        end.host.sh(f"ip address add {end.underlay}/24 dev ens34")
        end.host.sh("ip link set ens34 up")
    await_(lambda: arrives(alone(one, two)))


def test_without_the_right_to_load_programs_the_proxy_does_all_by_itself(ends, tmp_path: Path):
    one, two = ends
    program = tmp_path / "without-bpf"
    words = f'exec setpriv --bounding-set -sys_admin,-bpf {one.proxies.command[0]} "$@"'
    program.write_text(f"#!/bin/sh\n{words}\n")
    program.chmod(0o755)
    one.try_(Verb.DELETE, one.proxy)
    one.proxies.command = (str(program),)
    one.add(one.proxy, one.peer_of(two))
    two.add(replace(two.peer_of(one), unpacks=False))
    assert not attached(one)
    assert arrives(ping(one, two.address))
    assert arrives(ping(two, one.address))
