"""Forty hosts that route by BGP and begin at once: as one mesh, and behind two reflectors."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from netloom.lab import agents
from netloom.lab.host import LabHost
from netloom.lab.lab import Lab
from netloom.lab.waiting import wait_until

from .bgp_lab import bird, bird_routes, document, sessions, ttl_of

HOSTS = 40
PATIENCE_S = 120.0
REFLECTORS = 2
LabUp = Callable[..., Lab]
pytestmark = pytest.mark.slow


def crowd() -> dict[str, Any]:
    """Return hosts that have a block each from the start."""
    wanted = document(range(100, 100 + HOSTS))
    for at, host in enumerate(wanted["hosts"]):
        host["block"] = f"10.233.{at}.0/26"
    return wanted


def start_all(lab: Lab) -> None:
    begun = [agents.start(host.home) for host in lab.hosts]
    for host in lab.hosts:
        # By the number of lines first, which costs little: forty hosts have 1,600 routes.
        wait_until(
            lambda: len(bird_routes(host)) == HOSTS,  # noqa: B023 - called before the next host
            deadline_s=PATIENCE_S,
            what=f"{host.name} to have every route",
            pause_s=0.1,
        )
    for host, process in zip(lab.hosts, begun, strict=True):
        assert host.agent == process, f"{host.name}: its agent ended and began anew"


def all_is_well(lab: Lab) -> None:
    """Every route leads to its host, nobody complains, and two far ends reach each other."""
    wanted = {f"10.233.{at}.0/26": host for at, host in enumerate(lab.hosts)}
    for host in lab.hosts:
        assert set(bird_routes(host)) == {
            f"blackhole {cidr} proto bird"
            if holder.name == host.name
            else f"{cidr} via {holder.underlay} dev ens32 proto bird"
            for cidr, holder in wanted.items()
        }
        assert bird(host).alive
        assert "ERROR" not in host.home.log.read_text()
        wait_until(
            lambda: not host.status()["problems"],  # noqa: B023 - called before the next host
            deadline_s=120,
            what=f"{host.name} to have nothing to complain of",
        )
    a, b = lab.hosts[0].run("a"), lab.hosts[-1].run("b")
    assert ttl_of(a.exec(["ping", "-c1", b.address])) == 62


def peers_up(host: LabHost) -> set[str]:
    return {session["peer"] for session in sessions(host) if session["state"] == "up"}


def wait_peers(host: LabHost, peers: set[str]) -> None:
    wait_until(
        lambda: peers_up(host) == peers,
        deadline_s=PATIENCE_S,
        what=f"the sessions of {host.name}",
        pause_s=0.1,
    )


@pytest.mark.timeout(600)
def test_forty_hosts_of_a_mesh_have_every_route_and_all_sessions(lab_up: LabUp) -> None:
    """Slow: forty agents and forty daemons begin on one machine, with 780 sessions."""
    lab = lab_up(crowd(), run_agents=False)
    start_all(lab)
    addresses = {host.underlay for host in lab.hosts}
    for host in lab.hosts:
        wait_peers(host, addresses - {host.underlay})
    all_is_well(lab)


def resource(kind: str, name: str, labels: dict[str, str], **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "projectcalico.org/v3",
        "kind": kind,
        "metadata": {"name": name, "labels": labels},
        "spec": spec,
    }


@pytest.mark.timeout(600)
def test_forty_hosts_behind_two_reflectors_have_every_route(lab_up: LabUp) -> None:
    """Slow: forty agents begin on one machine. Clients have two sessions, and no mesh is left."""
    lab = lab_up(crowd(), run_agents=False)
    reflectors, clients = lab.hosts[:REFLECTORS], lab.hosts[REFLECTORS:]
    role = {"route-reflector": "true"}
    resources = [
        resource("BGPConfiguration", "default", {}, nodeToNodeMeshEnabled=False),
        resource("BGPPeer", "rr", {}, nodeSelector="all()", peerSelector="has(route-reflector)"),
        *(
            resource("Node", host.name, role, bgp={"routeReflectorClusterID": "244.0.0.1"})
            for host in reflectors
        ),
    ]
    text = "---\n".join(json.dumps(each) + "\n" for each in resources)
    lab.hosts[0].exec(["sh", "-c", f"netloom apply -f - <<'END'\n{text}END"])
    start_all(lab)
    tops = {host.underlay for host in reflectors}
    for host in clients:
        wait_peers(host, tops)
    everybody = {host.underlay for host in lab.hosts}
    for host in reflectors:
        wait_peers(host, everybody - {host.underlay})
    all_is_well(lab)
