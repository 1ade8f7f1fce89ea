"""Rate limits on a veth: read back as asked for, gone with their link, and really limiting."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from netloom.core.limits import qdiscs
from netloom.kernel.tc import Qdiscs
from netloom.model.endpoint import Bandwidth
from netloom.model.errors import KernelRejected
from netloom.model.kernel import Qdisc
from netloom.reconcile.contracts import Change, Verb

if TYPE_CHECKING:
    from tests.conftest import Netns

LIMITS = qdiscs("veth1", Bandwidth(10_000_000, 0, 20_000_000, 0))


@pytest.fixture
def host(netns: Netns) -> Netns:
    netns.run("ip", "link", "add", "veth1", "type", "veth", "peer", "name", "veth2")
    return netns


def put(limits: Qdiscs, *wanted: Qdisc, verb: Verb = Verb.ADD) -> None:
    outcomes = limits.apply([Change(verb, qdisc) for qdisc in wanted])
    assert [outcome.error for outcome in outcomes] == [None] * len(wanted)


@pytest.mark.parametrize(
    "bandwidth",
    [
        Bandwidth(8_000, 0, 8_000, 0),
        Bandwidth(1_234_567, 0, 1_234_567, 0),
        Bandwidth(10_000_000, 4_000, 10_000_000, 4_000),
        Bandwidth(1_000_000_000, 2_147_483_647, 1_000_000_000, 2_147_483_647),
        Bandwidth(56_000, 2_147_483_647, 56_000, 2_147_483_647),
        Bandwidth(40_000_000_000, 99_999_999, 40_000_000_000, 99_999_999),
        Bandwidth(400_000_000_000, 1 << 40, 400_000_000_000, 1 << 40),
    ],
    ids=lambda b: f"{b.ingress_rate_bps}-{b.ingress_burst_bits}",
)
def test_every_limit_reads_back_as_it_was_asked_for(host: Netns, bandwidth: Bandwidth) -> None:
    wanted = qdiscs("veth1", bandwidth)

    def go() -> None:
        limits = Qdiscs()
        put(limits, *wanted)
        assert limits.read({"veth1"}) == wanted
        assert Qdiscs().read({"veth1"}) == wanted, "another process finds the same"

    host.call(go)


def test_a_limit_is_replaced_and_deleted_and_deleting_the_absent_is_well(host: Netns) -> None:
    def go() -> None:
        limits = Qdiscs()
        put(limits, *LIMITS)
        slower = qdiscs("veth1", Bandwidth(1_000_000, 0, 2_000_000, 0))
        put(limits, *slower, verb=Verb.REPLACE)
        assert limits.read({"veth1"}) == slower
        put(limits, *slower, verb=Verb.DELETE)
        assert Qdiscs().read({"veth1"}) == []
        put(limits, *slower, *qdiscs("nosuch", Bandwidth(8_000, 0, 8_000, 0)), verb=Verb.DELETE)

    host.call(go)


def test_damage_to_a_limit_is_seen(host: Netns) -> None:
    def go() -> None:
        limits = Qdiscs()
        put(limits, *LIMITS)
        host.run("tc", "qdisc", "delete", "dev", "veth1", "root")
        assert limits.read({"veth1"}) == LIMITS[1:]
        host.run("nft", "flush", "chain", "netdev", "netloom", "police-veth1")
        assert limits.read({"veth1"}) == []
        put(limits, *LIMITS)
        assert limits.read({"veth1"}) == LIMITS

    host.call(go)


def test_what_polices_a_link_that_is_gone_is_still_found_and_removed(host: Netns) -> None:
    """Kernels from 6.16 on keep a device's nft chain for the next device of that name."""

    def go() -> None:
        limits = Qdiscs()
        put(limits, *LIMITS)
        host.run("ip", "link", "delete", "veth1")
        left = limits.read(set())
        assert set(left) <= {LIMITS[1]}
        put(limits, *left, verb=Verb.DELETE)
        assert Qdiscs().read(set()) == []
        assert "veth1" not in host.run("nft", "list", "ruleset")

    host.call(go)


def test_limits_on_links_that_are_not_ours_are_not_read(host: Netns) -> None:
    host.run("tc", "qdisc", "add", "dev", "veth2", "root", "tbf", "rate", "1mbit", "burst", "9k",
             "latency", "9ms")  # fmt: skip
    assert host.call(lambda: Qdiscs().read({"veth1"})) == []


def test_without_a_limit_nothing_is_asked_after_the_first_look(
    host: Netns, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def go() -> None:
        limits = Qdiscs()
        assert limits.read({"veth1"}) == []
        monkeypatch.setenv("PATH", str(tmp_path))  # tc is still found where the system has it
        spy = tmp_path / "tc"
        spy.write_text(f'#!/bin/sh\ntouch {tmp_path}/asked\nexec /sbin/tc "$@"\n')
        spy.chmod(0o755)
        assert limits.read({"veth1"}) == []
        assert not (tmp_path / "asked").exists()
        put(limits, *LIMITS)
        assert limits.read({"veth1"}) == LIMITS
        assert (tmp_path / "asked").exists()

    host.call(go)


def test_a_limit_on_a_device_that_is_not_there_is_refused_by_name(host: Netns) -> None:
    def go() -> None:
        (outcome,) = Qdiscs().apply([Change(Verb.ADD, Qdisc("nosuch", "egress", 8_000, 1600))])
        assert isinstance(outcome.error, KernelRejected)
        assert "qdisc nosuch egress" in str(outcome.error)
        assert "ENODEV" in str(outcome.error)

    host.call(go)


@pytest.fixture
def container(host: Netns, make_netns: Callable[[str], Netns]) -> Netns:
    """Put veth2 into a namespace of its own, addressed on both sides."""
    inside = make_netns("c")
    host.run("ip", "link", "set", "veth2", "netns", inside.path)
    for place, link, address in (
        (host, "veth1", "10.244.1.1/24"),
        (inside, "veth2", "10.244.1.2/24"),
    ):
        place.run("ip", "address", "add", address, "dev", link)
        place.run("ip", "link", "set", link, "up")
    return inside


def throughput(sender: Netns, receiver: Netns, address: str) -> float:
    """Return the bits per second that arrive of one stream, once it is under way."""
    listener = receiver.call(lambda: socket.create_server((address, 0)))
    out = sender.call(lambda: socket.create_connection(listener.getsockname(), timeout=60))
    into, _ = listener.accept()
    into.settimeout(60)
    with listener, out, into:
        pump = threading.Thread(target=_pump, args=(out,))
        pump.start()
        _count(into, 0.5)
        arrived, took_s = _count(into, 1.0)
        out.shutdown(socket.SHUT_RDWR)
        pump.join()
    return arrived * 8 / took_s


def _pump(out: socket.socket) -> None:
    with suppress(OSError):  # it is shut down when enough has arrived
        while True:
            out.sendall(bytes(1 << 16))


def _count(into: socket.socket, at_least_s: float) -> tuple[int, float]:
    """Return how many bytes arrive in how many seconds."""
    arrived, begun = 0, time.monotonic()
    while (took_s := time.monotonic() - begun) < at_least_s:
        arrived += len(into.recv(1 << 20))
    return arrived, took_s


@pytest.mark.parametrize("direction", ["egress", "ingress"])
def test_a_limit_really_limits_its_own_direction_and_not_the_other(
    host: Netns, container: Netns, direction: str
) -> None:
    """At least five times slower than without; the other direction twice as fast and more."""
    ways = [(host, container, "10.244.1.2"), (container, host, "10.244.1.1")]
    own, other = ways if direction == "egress" else reversed(ways)
    free = throughput(*own)
    rate = int(free / 20)
    bandwidth = Bandwidth(rate, 0, 0, 0) if direction == "egress" else Bandwidth(0, 0, rate, 0)
    host.call(lambda: put(Qdiscs(), *qdiscs("veth1", bandwidth)))
    limited = throughput(*own)
    assert limited * 5 < free
    # A machine that is busy otherwise takes from any of them, for a while.
    assert any(throughput(*own) > rate / 10 for _ in range(5)), "limited, not cut off"
    assert any(throughput(*other) > limited * 2 for _ in range(5))
