"""Scene 1 without Docker: hosts whose BIRD tells blocks to the others; killed and restarted."""

from __future__ import annotations

import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from netloom.lab.lab import Lab, LabHost
from netloom.lab.traffic import Pings
from netloom.lab.waiting import wait_until

from .bgp_lab import (
    NETWORK,
    another_bird,
    bird,
    bird_pid,
    bird_routes,
    document,
    expected,
    routes,
    sessions,
    settled,
    ttl_of,
    wait_mesh,
)

LabUp = Callable[..., Lab]
POOL = NETWORK["pools"][0]


@pytest.fixture
def lab(lab_up: LabUp) -> Lab:
    lab = lab_up(document())
    for number, host in zip("abc", lab.hosts, strict=True):
        host.run(number)
    wait_mesh(lab)
    return lab


def test_scene_1_tables_are_those_that_users_know(lab_up: LabUp) -> None:
    """Steps 5 to 8: interfaces, routes in the container and on the host, ttl 62, no NAT."""
    lab = lab_up(document())
    assert not any("cali" in host.exec(["ip", "-br", "link"]) for host in lab.hosts)
    a, b, _ = (host.run(name) for name, host in zip("abc", lab.hosts, strict=True))
    wait_mesh(lab)
    here, there = lab.hosts[0], lab.hosts[1]
    inside = [line.rstrip() for line in a.exec(["ip", "route"]).splitlines()]
    assert inside == ["default via 169.254.1.1 dev eth0", "169.254.1.1 dev eth0 scope link"]
    ours = [
        line for line in routes(here) if "proto bird" not in line and "proto kernel" not in line
    ]
    assert len(ours) == 1
    assert ours[0].startswith(f"{a.address} dev cali")
    assert ours[0].endswith("scope link")
    with there.popen(
        ["tcpdump", "-nlc2", "-i", "ens32", "ip and not tcp"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as wire:
        assert wire.stderr is not None
        while "listening" not in wire.stderr.readline():
            pass
        answer = a.exec(["ping", "-c1", b.address])
        seen, _ = wire.communicate(timeout=60)
    assert ttl_of(answer) == 62
    assert f"IP {a.address} > {b.address}: ICMP echo request" in seen
    assert f"IP {b.address} > {a.address}: ICMP echo reply" in seen
    wait_until(lambda: settled(lab), deadline_s=120, what="empty plans")


def kill_agent(lab: Lab, host: LabHost) -> None:
    lab.fault(host.name, "kill-agent")
    host.start_agent()


def restart_agent(lab: Lab, host: LabHost) -> None:
    lab.fault(host.name, "restart-agent")


def kill_bird(lab: Lab, host: LabHost) -> None:
    pid = bird_pid(host)
    bird(host).signal(signal.SIGKILL)
    wait_until(lambda: another_bird(host, pid), deadline_s=120, what="another BIRD")


def kill_both(lab: Lab, host: LabHost) -> None:
    lab.fault(host.name, "kill-agent")
    bird(host).signal(signal.SIGKILL)
    host.start_agent()


def restart_by_hand(lab: Lab, host: LabHost) -> None:
    pid = bird_pid(host)
    host.exec(["birdc", "-s", str(directory(host) / "bird.ctl"), "graceful", "restart"])
    wait_until(lambda: another_bird(host, pid), deadline_s=120, what="another BIRD")


def lose_its_files(lab: Lab, host: LabHost) -> None:
    """The run directory is cleaned, BIRD's socket with it."""
    pid = bird_pid(host)
    shutil.rmtree(directory(host))
    wait_until(lambda: another_bird(host, pid), deadline_s=120, what="another BIRD")


@pytest.mark.parametrize(
    "what", [kill_agent, restart_agent, kill_bird, kill_both, restart_by_hand, lose_its_files]
)
def test_agent_and_daemon_end_and_come_again_without_losing_a_packet(
    lab: Lab, what: Callable[[Lab, LabHost], None]
) -> None:
    """On one host, then on the other, under pings at 5 ms in both directions."""
    first, second, _ = lab.hosts
    a, b = first.container("a"), second.container("b")
    with Pings(a, b.address, 0.005) as there, Pings(b, a.address, 0.005) as back:
        for host in (first, second):
            what(lab, host)
            wait_until(lambda: established(host), deadline_s=120, what="sessions")  # noqa: B023
            wait_mesh(lab)
    assert (there.lost, back.lost) == (0, 0)
    wait_until(lambda: settled(lab), deadline_s=120, what="empty plans")


def directory(host: LabHost) -> Path:
    return host.home.directory / "run" / "bird"


def test_a_session_that_another_hand_disabled_is_up_again_and_counted(lab: Lab) -> None:
    first, second, _ = lab.hosts
    control = str(directory(first) / "bird.ctl")
    name = "Mesh_" + second.underlay.replace(".", "_")
    for each in (name, "kernel4"):
        before = first.status()["kernel"]["repaired"].get("bird", 0)
        first.exec(["birdc", "-s", control, "disable", each])
        wait_until(
            lambda: first.status()["kernel"]["repaired"].get("bird", 0) > before,  # noqa: B023
            deadline_s=120,
            what="a repair",
        )
        wait_until(lambda: established(first), deadline_s=120, what="its session")
        wait_mesh(lab)
        wait_until(
            lambda: "down" not in first.exec(["birdc", "-s", control, "show", "protocols"]),
            deadline_s=120,
            what="nothing that rests",
        )


def established(host: LabHost) -> bool:
    control = str(directory(host) / "bird.ctl")
    shown = host.exec(["birdc", "-s", control, "show", "protocols"], check=False)
    rows = [line for line in shown.splitlines() if " BGP " in line]
    status = host.exec(["birdc", "-s", control, "show", "status"], check=False)
    return all("Established" in row for row in rows) and "up and running" in status


def test_a_dead_peer_is_named_and_delays_no_route_of_the_living(lab: Lab) -> None:
    """Its cable is pulled; then BIRD is killed elsewhere, and new blocks are still learned."""
    first, second, dead = lab.hosts
    a, b = first.container("a"), second.container("b")
    lab.fault(f"{dead.name}:ens32", "cut")
    with Pings(a, b.address, 0.005) as running:
        kill_bird(lab, first)
        wait_until(lambda: _alive(first, second), deadline_s=120, what="the living one's session")
        wait_until(
            lambda: (
                f"{second.blocks()[0]} via {second.underlay} dev ens32 proto bird" in routes(first)
            ),
            deadline_s=120,
            what="the living one's route",
        )
        wait_until(
            lambda: any(p["subject"] == f"bgp {dead.underlay}" for p in first.status()["problems"]),
            deadline_s=120,
            what="the dead one's name in the status",
        )
    assert running.lost == 0
    lab.fault(f"{dead.name}:ens32", "heal")
    wait_mesh(lab, deadline_s=120)


def _alive(host: LabHost, peer: LabHost) -> bool:
    return any(s["peer"] == peer.underlay and s["state"] == "up" for s in sessions(host))


def test_sessions_are_told_with_type_state_and_since(lab: Lab) -> None:
    """What `node status` shows: PEER ADDRESS, PEER TYPE, STATE, SINCE, INFO."""
    here = lab.hosts[1]
    shown = wait_until(
        lambda: [s for s in sessions(here) if s["state"] == "up"][1:] and sessions(here),
        deadline_s=120,
        what="both sessions",
    )
    assert [s["peer"] for s in shown] == [lab.hosts[0].underlay, lab.hosts[2].underlay]
    for session in shown:
        assert (session["type"], session["state"], session["info"], session["family"]) == (
            "node-to-node mesh",
            "up",
            "Established",
            4,
        )
        assert session["since"].startswith("20")


@pytest.mark.parametrize("other", ["host-gw", "vxlan"])
def test_a_network_moves_to_bgp_and_back_without_losing_a_packet(lab_up: LabUp, other: str) -> None:
    """There, back, and there again, under pings at 5 ms in both directions; nothing stays."""
    lab = lab_up(document(backend=other))
    first = lab.hosts[0]
    a, b, _ = (host.run(name) for name, host in zip("abc", lab.hosts, strict=True))
    with Pings(a, b.address, 0.005) as there, Pings(b, a.address, 0.005) as back:
        for backend in ("bgp", other, "bgp", other):
            first.exec(["netloom", "network", "set", "calnet1", f"backend={backend}"])
            wait_until(lambda: settled(lab), deadline_s=120, what=f"the move to {backend}")
            wanted = expected(lab, first) if backend == "bgp" else []
            wait_until(
                lambda: bird_routes(first) == wanted,  # noqa: B023
                deadline_s=120,
                what=f"the tables of {backend}",
            )
            wait_until(
                lambda: not any("metric" in line for line in routes(first)),
                deadline_s=120,
                what="none that gives way",
            )
    assert (there.lost, back.lost) == (0, 0)
    conf = first.home.directory / "run" / "bird" / "bird.conf"
    wait_until(lambda: not conf.exists(), deadline_s=120, what="the end of BIRD's configuration")


def test_both_families_are_routed_by_one_daemon(lab_up: LabUp) -> None:
    """Dual stack over IPv4 and IPv6 sessions: both pings arrive after two hops, unchanged."""
    wanted = document(pools=[POOL, {"cidr": "fd00:10:233::/112", "blockSize": 122}])
    wanted["segments"][0] = {"name": "lan", "subnets": ["192.168.26.0/24", "fd26::/64"]}
    for number, host in enumerate(wanted["hosts"]):
        card = host["interfaces"][0]
        card["addresses"] = [card.pop("address"), f"fd26::{number + 1}"]
    lab = lab_up(wanted)
    first, second, _ = lab.hosts
    a, b, _ = (host.run(name) for name, host in zip("abc", lab.hosts, strict=True))
    for host in lab.hosts:
        wait_until(
            lambda: len(bird_routes(host)) == len(bird_routes(host, "-6")) == 3,  # noqa: B023
            deadline_s=120,
            what="the routes of both families",
        )
    assert sum(" via fd26::" in line for line in bird_routes(first, "-6")) == 2
    for address in b.addresses:
        assert ttl_of(a.exec(["ping", "-c1", address])) == 62
    assert [s["family"] for s in sessions(second)] == [4, 4, 6, 6]
    with Pings(a, b.addresses[1], 0.005) as there, Pings(b, a.addresses[1], 0.005) as back:
        kill_bird(lab, first)
        wait_until(lambda: established(first), deadline_s=120, what="sessions")
        for backend in ("host-gw", "bgp"):
            first.exec(["netloom", "network", "set", "calnet1", f"backend={backend}"])
            wait_until(lambda: settled(lab), deadline_s=120, what=f"the move to {backend}")
    assert (there.lost, back.lost) == (0, 0)
    wait_until(lambda: len(bird_routes(first, "-6")) == 3, deadline_s=120, what="BIRD's routes")


def test_a_deleted_network_leaves_neither_daemon_nor_route(lab: Lab) -> None:
    host = lab.hosts[0]
    for each, name in zip(lab.hosts, "abc", strict=True):
        each.remove(name)
    host.exec(["netloom", "network", "delete", "calnet1"])
    wait_until(
        lambda: not any(bird_routes(each) for each in lab.hosts), deadline_s=120, what="no routes"
    )
    for each in lab.hosts:
        wait_until(lambda: not another_bird(each, 0), deadline_s=120, what="no BIRD")  # noqa: B023
