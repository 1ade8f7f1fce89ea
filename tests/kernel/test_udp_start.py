"""UDP proxies that start: what is sent meanwhile waits, and what is sent afterwards arrives."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Iterator
from dataclasses import replace

import pytest
from tests.kernel.echoes import Echoes
from tests.kernel.test_udp_proxy import PATIENCE_S, arrives, await_, came_in, ends, programs

from netloom.kernel.udp import process
from netloom.reconcile.contracts import Verb

__all__ = ["ends", "programs"]
#: It holds the lock that the kernel needs to switch a device on.
BUSY = "while :; do ip link add {0} up type bridge; ip link delete {0}; done"


@pytest.fixture
def busy(make_netns) -> Iterator[None]:
    """Have links come and go elsewhere on the machine."""
    place = make_netns("busy")
    hands = [place.popen("sh", "-c", BUSY.format(name)) for name in ("b1", "b2", "b3")]
    yield
    for hand in hands:
        hand.kill()
        hand.wait()


@pytest.mark.usefixtures("busy")
@pytest.mark.parametrize("ends", ["c-c", "python-python"], indirect=True)
def test_no_packet_is_lost_that_is_sent_when_the_start_is_done(ends):
    """Its device gets its carrier by the start, and is switched on by the kernel later."""
    one, two = ends
    listener = two.pod.call(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    sender = one.pod.call(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    with listener, sender:
        listener.bind((two.address, 7000))
        listener.settimeout(PATIENCE_S)
        for number in range(15):
            assert one.try_(Verb.DELETE, one.proxy) == [None]
            one.add(one.proxy, one.peer_of(two))
            sender.sendto(b"%d" % number, (two.address, 7000))
            assert listener.recv(100) == b"%d" % number


def test_packets_wait_for_the_table_of_a_new_proxy_and_hear_no_refusal(ends):
    one, two = ends
    one.try_(Verb.DELETE, one.proxy)
    child = one.host.call(lambda: process.start(one.proxy, one.directory, one.proxies.command))
    before = came_in(one)
    waiting = one.pod.popen("ping", "-c", "1", "-W", "30", two.address, stdout=subprocess.PIPE)
    await_(lambda: came_in(one) > before)
    one.read()
    one.add(one.peer_of(two))
    assert arrives(waiting.communicate()[0])
    assert one.counters()["no_peer"] == 0
    one.try_(Verb.DELETE, one.proxy)
    child.wait()


def test_a_newer_version_takes_over_and_no_packet_is_lost(ends):
    one, two = ends
    before = one.pid()
    flow = Echoes(two.pod, one.address)
    await_(lambda: one.counters()["received"] > 20)
    newer = replace(one.proxy, version="99")
    one.read()
    assert one.try_(Verb.REPLACE, newer) == [None]
    assert flow.lost(PATIENCE_S) == set()
    assert one.read() == [newer, one.peer_of(two)]
    assert one.pid() != before
