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


def test_a_changed_peer_leaves_all_other_sessions_as_they_are(lab: Lab) -> None:
    """A router is named, changed, and taken away: what is up stays up since the same time."""
    first = lab.hosts[0]
    before = {s["peer"]: s["since"] for s in sessions(first)}
    for spec in ({"asNumber": 65000}, {"asNumber": 65001, "keepaliveTime": "5s"}, None):
        if spec is not None:
            apply(first, resource("BGPPeer", "tor", peerIP="192.168.26.254", **spec))
        else:
            first.exec(["netloom", "delete", "bgppeer", "tor"])
        wait_until(
            lambda: (
                [s["name"] for s in sessions(first) if s["peer"] == "192.168.26.254"]
                == ([] if spec is None else ["Global_192_168_26_254"])  # noqa: B023
            ),
            deadline_s=10,
            what="the change",
        )
        now = {s["peer"]: s["since"] for s in sessions(first) if s["peer"] in before}
        assert now == before


def test_what_cannot_be_done_is_in_the_status_and_all_else_goes_on(lab: Lab) -> None:
    first = lab.hosts[0]
    apply(
        first,
        resource("BGPPeer", "me", node=first.name, peerIP=first.underlay, asNumber=64512),
        resource("BGPPeer", "nobody", peerSelector="role == 'nobody'"),
        resource("BGPPeer", "tor", peerIP="192.168.26.254", asNumber=65000, filters=["gone"]),
    )
    wanted = [
        f"BGPPeer(me): spec.peerIP: {first.underlay} is {first.name}'s own address",
        "BGPPeer(nobody): spec.peerSelector: \"role == 'nobody'\" selects no host",
        "BGPPeer(tor): spec.filters[0]: there is no BGPFilter(gone); nothing passes until it is",
    ]
    wait_until(lambda: set(wanted) <= set(problems(first)), deadline_s=10, what="the problems")
    refused = first.exec(
        [
            "sh",
            "-c",
            "echo '{}' | netloom apply -f - 2>&1; echo code $?".format(
                json.dumps(resource("BGPPeer", "big", peerIP="192.168.26.9", asNumber=1 << 32))
            ),
        ]
    )
    assert "spec.asNumber: 4294967296 is not an AS number" in refused
    assert "code 3" in refused
    first.run("d")
    wait_mesh(lab)
