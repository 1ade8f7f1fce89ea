"""Scene 5, step 1: backend udp end to end, and what becomes of traffic when a part of it dies."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator

import pytest
from tests.scenes.bgp_lab import settled
from tests.scenes.test_switching import block_of, switch

from netloom.kernel.udp.control import Control
from netloom.lab.documents import default_document
from netloom.lab.lab import Lab, LabHost
from netloom.lab.processes import Process, gone, myself
from netloom.lab.traffic import Pings
from netloom.lab.waiting import wait_until
from netloom.lab.wire import Capture

LabUp = Callable[..., Lab]
NETWORK = {
    "name": "default",
    "pools": [{"cidr": "172.20.0.0/16", "blockSize": 24}],
    "attachment": "bridge",
    "backend": "udp",
}


@pytest.fixture(scope="module")
def lab(lab_names: Iterator[str]) -> Iterator[Lab]:
    """Return two hosts, each with a container: h1/a and h2/b."""
    document = default_document(hosts=2, network=NETWORK)
    with Lab.up(document, name=next(lab_names), owner=myself()) as lab:
        lab.host("h1").run("a")
        lab.host("h2").run("b")
        yield lab


def proxy_of(host: LabHost) -> int:
    control = Control(host.home.directory / "run" / "udp", "flannel0")
    try:
        return control.pid
    finally:
        control.close()


def mended(host: LabHost) -> None:
    wait_until(
        lambda: not host.json(["netloom", "plan", "-o", "json"])["changes"],
        deadline_s=60,
        what="an empty plan",
    )


def test_the_device_is_as_flannels_users_know_it(lab: Lab):
    h1 = lab.host("h1")
    (device,) = h1.json(["ip", "-j", "-4", "addr", "show", "flannel0"])
    (address,) = device["addr_info"]
    block = block_of(h1)
    assert f"{address['local']}/{address['prefixlen']}" == block.replace("/24", "/16")
    assert device["mtu"] == 1472
    (route,) = h1.json(["ip", "-j", "route", "show", "172.20.0.0/16"])
    assert route["dev"] == "flannel0"
    (inside,) = h1.container("a").json(["ip", "-j", "link", "show", "eth0"])
    assert inside["mtu"] == 1472


def test_containers_on_two_hosts_reach_each_other_and_so_do_host_and_container(lab: Lab):
    a, b = lab.host("h1").container("a"), lab.host("h2").container("b")
    for place, target in ((a, b), (b, a), (lab.host("h1"), b)):
        place.exec(["ping", "-c", "1", "-W", "5", target.address])


def test_status_says_by_which_way(lab: Lab):
    said = lab.host("h1").exec(["netloom", "status"])
    assert f"udp flannel0 to {lab.host('h2').underlay}:8285" in said
    assert "1 udp-proxy, 1 udp-peer" in said


def carried_by_kernel(host: LabHost) -> bool:
    return ", in the kernel" in host.exec(["netloom", "status"], check=False)


def await_kernel(lab: Lab) -> None:
    """Wait until each host has told the others that its kernel unpacks, and knows it of them."""
    control = Control(lab.host("h1").home.directory / "run" / "udp", "flannel0")
    try:
        if not control.status().unpacks:
            pytest.skip("needs tcx (Linux 6.6), a C compiler and the right to load BPF programs")
    finally:
        control.close()
    for host in lab.hosts:
        wait_until(lambda h=host: carried_by_kernel(h), deadline_s=60, what="the kernel's way")


def test_the_kernel_carries_on_while_agents_and_proxies_stand_still(lab: Lab):
    a, b = lab.host("h1").container("a"), lab.host("h2").container("b")
    await_kernel(lab)
    still = [proxy_of(host) for host in lab.hosts]
    for pid in still:
        os.kill(pid, signal.SIGSTOP)
    try:
        a.exec(["ping", "-c", "3", "-i", "0.2", "-W", "5", b.address])
    finally:
        for pid in still:
            os.kill(pid, signal.SIGCONT)
    for host in lab.hosts:
        mended(host)


def test_the_kernels_way_is_switched_off_and_on_without_losing_a_packet(lab: Lab):
    h1, h2 = lab.host("h1"), lab.host("h2")
    a, b = h1.container("a"), h2.container("b")
    await_kernel(lab)
    with Pings(a, b.address, 0.005) as there, Pings(b, a.address, 0.005) as back:
        for wanted in ("false", "true"):
            switch(h1, f"backend.accelerate={wanted}", "--force")
            wait_until(lambda: settled(lab), deadline_s=60, what="the move")
            for host in (h1, h2):
                wait_until(
                    lambda h=host, w=wanted: carried_by_kernel(h) == (w == "true"),
                    deadline_s=60,
                    what=f"accelerate={wanted}",
                )
    assert (there.lost, back.lost) == (0, 0)


def test_on_the_wire_each_datagram_is_a_bare_ip_packet(lab: Lab):
    h1, h2 = lab.host("h1"), lab.host("h2")
    a, b = h1.container("a"), h2.container("b")
    with Capture(h1, "ens33", "udp port 8285") as wire:
        a.exec(["ping", "-c", "1", "-W", "5", b.address])
        request, reply = wire.until(lambda f: f[:2] if len(f) > 1 else None, "both packets")
    assert request.ports == reply.ports == (8285, 8285)
    assert (str(request.source), str(request.destination)) == (h1.underlay, h2.underlay)
    assert request.length_bytes == 14 + 20 + 8 + 84  # nothing between UDP and the packet
    assert request.inner is not None
    assert reply.inner is not None
    assert str(request.inner) == f"{a.address} → {b.address} ICMP echo request"
    assert str(reply.inner) == f"{b.address} → {a.address} ICMP echo reply"


def test_a_killed_agent_costs_no_packet_and_finds_its_proxy_again(lab: Lab):
    h1 = lab.host("h1")
    a, b = h1.container("a"), lab.host("h2").container("b")
    before = proxy_of(h1)
    with Pings(a, b.address, 0.005) as running:
        lab.fault("h1", "kill-agent")
        h1.start_agent()
        mended(h1)
    assert running.lost == 0
    assert proxy_of(h1) == before


def test_a_stopped_agent_leaves_its_proxy_running(lab: Lab):
    h1 = lab.host("h1")
    a, b = h1.container("a"), lab.host("h2").container("b")
    before = proxy_of(h1)
    lab.fault("h1", "stop-agent")
    a.exec(["ping", "-c", "1", "-W", "5", b.address])
    h1.start_agent()
    assert proxy_of(h1) == before


def test_a_killed_proxy_is_back_at_once_and_counted_as_repaired(lab: Lab):
    h1 = lab.host("h1")
    a, b = h1.container("a"), lab.host("h2").container("b")
    killed = proxy_of(h1)
    os.kill(killed, signal.SIGKILL)
    a.exec(["ping", "-i", "0.02", "-c", "1", "-w", "10", b.address])
    mended(h1)
    assert proxy_of(h1) != killed
    assert h1.status()["kernel"]["repaired"]["udp-proxy"] >= 1
    assert h1.status()["kernel"]["failing"] == []


@pytest.mark.parametrize(
    "damage",
    [
        "ip link delete flannel0",
        "ip link set flannel0 down",
        "ip addr flush dev flannel0",
        "ip route delete 172.20.0.0/16",
        "ip link set flannel0 mtu 1300",
    ],
)
def test_damage_to_the_device_is_repaired(lab: Lab, damage: str):
    h1 = lab.host("h1")
    a, b = h1.container("a"), lab.host("h2").container("b")
    h1.exec(damage.split())
    mended(h1)
    a.exec(["ping", "-i", "0.02", "-c", "1", "-w", "10", b.address])
    (device,) = h1.json(["ip", "-j", "-4", "addr", "show", "flannel0"])
    assert device["mtu"] == 1472
    assert device["addr_info"]


def test_an_ipv6_pool_is_refused_by_name(lab: Lab):
    words = ["netloom", "network", "create", "six", "--pool", "fd00:6::/48", "--backend", "udp"]
    running = lab.host("h1").popen(words, stdout=-1, stderr=-1)
    _, said = running.communicate(timeout=90)
    assert running.returncode == 3
    assert "backend udp carries IPv4 only" in said


def test_backends_are_switched_to_udp_and_from_it_without_losing_a_packet(lab_up: LabUp):
    lab = lab_up(default_document(hosts=2, network={**NETWORK, "backend": "vxlan"}))
    h1 = lab.host("h1")
    a, b = h1.run("a"), lab.host("h2").run("b")
    with Pings(a, b.address, 0.005) as there, Pings(b, a.address, 0.005) as back:
        for backend in ("udp", "host-gw", "udp", "vxlan"):
            switch(h1, f"backend={backend}")
            wait_until(lambda: settled(lab), deadline_s=60, what=f"the move to {backend}")
            assert ("flannel0" in h1.exec(["ip", "-br", "link"])) == (backend == "udp")
    assert (there.lost, back.lost) == (0, 0)


def test_with_its_network_the_proxy_goes_too(lab_up: LabUp):
    lab = lab_up(default_document(hosts=1, network=NETWORK))
    h1 = lab.host("h1")
    wait_until(lambda: h1.status()["ready"], deadline_s=60, what="h1 ready")
    proxy = Process.of(proxy_of(h1))
    assert proxy is not None
    h1.exec(["netloom", "network", "delete", "default"])
    wait_until(lambda: gone(proxy), deadline_s=60, what="the proxy's end")
    assert "flannel0" not in h1.exec(["ip", "-br", "link"])
