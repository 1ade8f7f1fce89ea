"""Sessions as resources ask for them, on hosts that run: reflectors, passwords, changes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from netloom.lab.lab import Lab, LabHost
from netloom.lab.traffic import Pings
from netloom.lab.waiting import wait_until

from .bgp_lab import document, sessions, ttl_of, wait_mesh

LabUp = Callable[..., Lab]
MESH = "node-to-node mesh"


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


def test_a_password_is_read_on_each_host_and_nobody_else_has_it(
    lab_up: LabUp, tmp_path: Path
) -> None:
    """One host has none: its sessions wait and it is told why; the others go on with theirs."""
    wanted = document()
    for host in wanted["hosts"]:
        host["agent"] = {"secretsDir": str(tmp_path / host["name"])}
    lab = lab_up(wanted)
    first, second, third = lab.hosts
    text = r"it's \a ; secret#{1}"
    for host in lab.hosts[:2]:
        secret(tmp_path / host.name / "bgp" / "mesh", text)
    reference = {"secretKeyRef": {"name": "bgp", "key": "mesh"}}
    apply(first, resource("BGPConfiguration", "default", nodeMeshPassword=reference))
    for host, name in zip(lab.hosts, "abc", strict=True):
        host.run(name)
    wait_until(lambda: peers_of(first) == {second.underlay: MESH}, deadline_s=20, what="a session")
    place = tmp_path / third.name / "bgp" / "mesh"
    trouble = f"BGPConfiguration(default): spec.nodeMeshPassword: the file {place} is not there"
    assert trouble in problems(third)
    for host in lab.hosts:
        assert text not in json.dumps(host.status())
        assert text not in host.exec(["netloom", "plan", "-o", "json"])
        assert text not in (host.home.directory / "agent.log").read_text()
    assert text not in first.exec(["netloom", "get", "bgpconfig", "-o", "yaml"])
    store = first.home.directory.parents[1] / "store"
    assert not any(text.encode() in file.read_bytes() for file in store.iterdir())
    secret(place, text)
    apply(first, resource("GlobalNetworkSet", "one"))  # a reason to look again
    wait_mesh(lab)
    place.chmod(0o644)
    apply(first, resource("GlobalNetworkSet", "two"))
    wait_until(
        lambda: any("can be read or written by others" in each for each in problems(third)),
        deadline_s=20,
        what="a word about the file's rights",
    )
    assert len(peers_of(third)) == 2  # the last good one stays in use


def secret(place: Path, text: str) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(text + "\n")
    place.chmod(0o600)
