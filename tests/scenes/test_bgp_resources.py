"""Sessions as resources ask for them, on hosts that run: reflectors, passwords, changes."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from netloom.lab.lab import Lab, LabHost
from netloom.lab.traffic import Pings
from netloom.lab.waiting import wait_until
from netloom.model.addr import parse_address
from netloom.model.datastore import Put, Transaction
from netloom.model.host import Host
from netloom.model.keys import host_key, resource_key

from .bgp_lab import NUMBERS, another_bird, bird, bird_pid, document, sessions, ttl_of, wait_mesh

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


def write(host: LabHost, one: dict[str, Any]) -> str:
    """Return what the verb says of a resource, and its exit code."""
    return host.exec(
        ["sh", "-c", f"netloom apply -f - 2>&1 <<'END'\n{json.dumps(one)}\nEND\necho code $?"]
    )


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
                deadline_s=120,
                what="the reflector's session",
            )
        wait_mesh(lab)
        apply(first, resource("BGPConfiguration", "default", nodeToNodeMeshEnabled=False))
        for client in (first, second):
            wait_until(
                lambda: peers_of(client) == {reflector.underlay: "node specific"},  # noqa: B023
                deadline_s=120,
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
    wait_until(lambda: peers_of(first) == {second.underlay: MESH}, deadline_s=120, what="a session")
    place = tmp_path / third.name / "bgp" / "mesh"
    trouble = f"BGPConfiguration(default): spec.nodeMeshPassword: the file {place} is not there"
    wait_until(lambda: trouble in problems(third), deadline_s=120, what="what is missing")
    for host in lab.hosts:
        nobody_tells(host, text)
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
        deadline_s=120,
        what="a word about the file's rights",
    )
    wait_until(lambda: len(peers_of(third)) == 2, deadline_s=120, what="the last good one in use")


def nobody_tells(host: LabHost, text: str) -> None:
    """Look for a password in all that a host says of itself."""
    assert text not in json.dumps(host.status(), ensure_ascii=False)
    assert text not in host.exec(["netloom", "plan", "-o", "json"])
    assert text not in (host.home.directory / "agent.log").read_text("utf-8")


def test_a_password_in_any_letters_is_one_in_any_locale(
    lab_up: LabUp, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """BIRD's configuration could not be written in ASCII, and status told it all."""
    for name, value in {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}.items():
        monkeypatch.setenv(name, value)
    wanted = document(NUMBERS[:2])
    for host in wanted["hosts"]:
        host["agent"] = {"secretsDir": str(tmp_path / host["name"])}
        secret(tmp_path / host["name"] / "bgp" / "mesh", "gehe\u00efm \u4e2d\u6587")
    lab = lab_up(wanted)
    reference = {"secretKeyRef": {"name": "bgp", "key": "mesh"}}
    apply(lab.hosts[0], resource("BGPConfiguration", "default", nodeMeshPassword=reference))
    for host, name in zip(lab.hosts, "ab", strict=True):
        host.run(name)
    wait_mesh(lab)
    for host in lab.hosts:
        assert "\u4e2d" in (host.home.directory / "run/bird/bird.conf").read_text("utf-8")
        nobody_tells(host, "\u4e2d\u6587")
        nobody_tells(host, r"\u4e2d\u6587")
        wait_until(lambda: not problems(host), deadline_s=120, what="no problem")  # noqa: B023


def secret(place: Path, text: str) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(text + "\n", "utf-8")
    place.chmod(0o600)


def test_a_changed_peer_leaves_all_other_sessions_as_they_are(lab: Lab) -> None:
    """A router is named, changed, and taken away: what is up stays up since the same time."""
    first = lab.hosts[0]
    wait_until(lambda: len(peers_of(first)) == 2, deadline_s=120, what="both sessions")
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
            deadline_s=120,
            what="the change",
        )
        now = {s["peer"]: s["since"] for s in sessions(first) if s["peer"] in before}
        assert now == before


def test_what_only_looks_like_a_number_stops_no_agent(lab: Lab) -> None:
    """By another hand: every agent stood still, and no container could be attached."""
    first = lab.hosts[0]
    odd = resource("BGPConfiguration", "default", listenPort="\u00b2")
    assert "code 3" in write(first, odd)
    written = [
        (resource_key("BGPConfiguration", "", "default"), odd),
        (
            resource_key("BGPPeer", "", "p"),
            resource("BGPPeer", "p", peerIP="192.0.2.1:" + "9" * 5000),
        ),
        (host_key("odd"), {"id": "odd", "serves": {"calnet1": 5}}),
    ]
    puts = [Put(key, json.dumps(value).encode()) for key, value in written]
    lab.store().commit(Transaction(puts))
    wanted = ["BGPConfiguration(default): spec.listenPort: '\u00b2' is not a whole number"]
    wanted.append(f"key {host_key('odd')}: cannot be read, its last good form stays in use: ")
    for host in lab.hosts:
        wait_until(
            lambda host=host: all(  # type: ignore[misc]
                any(each.startswith(text) for each in problems(host)) for text in wanted
            ),
            deadline_s=120,
            what="the problems",
        )
    apply(first, resource("BGPPeer", "nobody", peerSelector="role == 'nobody'"))
    for host, name in zip(lab.hosts, "def", strict=True):
        host.run(name)
        wait_until(
            lambda host=host: "BGPPeer(nobody)" in " ".join(problems(host)),  # type: ignore[misc]
            deadline_s=120,
            what="what came after",
        )
    wait_mesh(lab)


def test_what_cannot_be_done_is_in_the_status_and_all_else_goes_on(lab: Lab) -> None:
    first = lab.hosts[0]
    me = resource("BGPPeer", "me", node=first.name, peerIP=first.underlay, asNumber=64512)
    said = write(first, me)
    assert f"spec.peerIP: {first.underlay} is {first.name}'s own address" in said
    assert "code 3" in said
    key = resource_key("BGPPeer", "", "me")  # by another hand, which no verb looks at
    lab.store().commit(Transaction([Put(key, json.dumps(me).encode())]))
    apply(
        first,
        resource("BGPPeer", "nobody", peerSelector="role == 'nobody'"),
        resource("BGPPeer", "tor", peerIP="192.168.26.254", asNumber=65000, filters=["gone"]),
    )
    wanted = [
        f"BGPPeer(me): spec.peerIP: {first.underlay} is {first.name}'s own address",
        "BGPPeer(nobody): spec.peerSelector: \"role == 'nobody'\" selects no host",
        "BGPPeer(tor): spec.filters[0]: there is no BGPFilter(gone); nothing passes until it is",
    ]
    wait_until(lambda: set(wanted) <= set(problems(first)), deadline_s=120, what="the problems")
    refused = write(first, resource("BGPPeer", "big", peerIP="192.168.26.9", asNumber=1 << 32))
    assert "spec.asNumber: 4294967296 is not an AS number" in refused
    assert "code 3" in refused
    first.run("d")
    wait_mesh(lab)


def test_what_another_hand_wrote_into_the_store_stops_no_host(lab: Lab) -> None:
    """Addresses that BIRD refuses, and the record of a host at the address of another one.

    BIRD takes what is left, also when it starts anew.
    """
    first, second, _ = lab.hosts
    ghost = Host(
        "0ghost", "ghost", parse_address(second.underlay, ""), serves={"calnet1": ("bgp",)}
    )
    odd = [
        resource("BGPPeer", f"odd{at}", peerIP=address, asNumber=65000)
        for at, address in enumerate(("fe80::1", "::", "0.0.0.0"))
    ]
    assert all("code 3" in write(first, each) for each in odd)
    lab.store().commit(
        Transaction(
            [
                Put(host_key(ghost.id), json.dumps(ghost.render()).encode()),
                *(
                    Put(
                        resource_key("BGPPeer", "", each["metadata"]["name"]),
                        json.dumps(each).encode(),
                    )
                    for each in odd
                ),
            ]
        )
    )
    wanted = {"BGPPeer(odd0)", "BGPPeer(odd1)", "BGPPeer(odd2)", f"peer {second.name}"}
    for host in (first, lab.hosts[2]):
        wait_until(
            lambda: wanted <= {p["subject"] for p in host.status()["problems"]},  # noqa: B023
            deadline_s=120,
            what="the problems",
        )
    first.run("d")
    wait_mesh(lab)
    pid = bird_pid(first)
    bird(first).signal(signal.SIGKILL)
    wait_until(lambda: another_bird(first, pid), deadline_s=120, what="another BIRD")
    wait_mesh(lab)
