"""Sessions as resources ask for them, on hosts that run: reflectors, passwords, changes."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from netloom.lab.lab import Lab, LabHost
from netloom.lab.traffic import Pings
from netloom.lab.waiting import wait_until

from .bgp_lab import document, sessions, ttl_of, wait_mesh

LabUp = Callable[..., Lab]


def resource(kind: str, name: str, **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "projectcalico.org/v3",
        "kind": kind,
        "metadata": {"name": name},
        "spec": spec,
    }


def apply(host: LabHost, *resources: dict[str, Any]) -> None:
    """Write resources with the verb that users have."""
    text = "---\n".join(json.dumps(each) + "\n" for each in resources)
    host.exec(["sh", "-c", f"netloom apply -f - <<'END'\n{text}END"])


def problems(host: LabHost) -> list[str]:
    return [f"{each['subject']}: {each['text']}" for each in host.status()["problems"]]


def peers_of(host: LabHost) -> dict[str, str]:
    """Return the peers of sessions that are up, with their types."""
    return {s["peer"]: s["type"] for s in sessions(host) if s["info"] == "Established"}


@pytest.fixture
def lab(lab_up: LabUp) -> Lab:
    lab = lab_up(document())
    for number, host in zip("abc", lab.hosts, strict=True):
        host.run(number)
    wait_mesh(lab)
    return lab


def test_hosts_behind_a_reflector_need_no_mesh(lab: Lab) -> None:
    """One host is made a reflector, the mesh goes; no packet between the others is lost."""
    first, second, reflector = lab.hosts
    a, b = first.container("a"), second.container("b")
    node = resource("Node", reflector.name, bgp={"routeReflectorClusterID": "244.0.0.1"})
    node["metadata"]["labels"] = {"route-reflector": "true"}
    peer = resource("BGPPeer", "rr", nodeSelector="all()", peerSelector="route-reflector == 'true'")
    with Pings(a, b.address, 0.005) as there, Pings(b, a.address, 0.005) as back:
        apply(first, node, peer)
        for client in (first, second):
            wait_until(
                lambda: peers_of(client).get(reflector.underlay) == "node specific",  # noqa: B023
                deadline_s=20,
                what="the reflector's session",
            )
        wait_mesh(lab)
        apply(first, resource("BGPConfiguration", "default", nodeToNodeMeshEnabled=False))
        for client in (first, second):
            wait_until(
                lambda: peers_of(client) == {reflector.underlay: "node specific"},  # noqa: B023
                deadline_s=20,
                what="the end of the mesh",
            )
        wait_mesh(lab)
    assert (there.lost, back.lost) == (0, 0)
    assert ttl_of(a.exec(["ping", "-c1", b.address])) == 62
    fourth = lab.hosts[0].run("d")  # a new one is heard of by way of the reflector as well
    assert ttl_of(b.exec(["ping", "-c1", fourth.address])) == 62
