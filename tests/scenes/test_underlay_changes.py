"""The underlay of a host goes, comes and changes: the status says it, peers follow, blocks stay."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable

import pytest

from netloom.lab.documents import default_document
from netloom.lab.lab import Lab, LabHost
from netloom.lab.traffic import Pings
from netloom.lab.waiting import wait_until
from netloom.model.errors import Unavailable

from . import bgp_lab

LabUp = Callable[..., Lab]
METHOD = "netloom/ip-autodetection-method"


def says(host: LabHost, *words: str) -> bool:
    """Tell whether one problem in the host's status has all these words, and a remedy."""
    return any(
        all(word in problem["text"] for word in words) and problem["remedy"]
        for problem in host.status()["problems"]
    )


def ip(host: LabHost, words: str) -> str:
    return host.exec(["ip", *words.split()])


def peer_address(host: LabHost, name: str) -> list[str]:
    (peer,) = (peer for peer in host.status()["peers"] if peer["name"] == name)
    return list(peer["addresses"])


def test_an_address_that_goes_is_said_and_one_that_comes_is_followed(lab_up: LabUp) -> None:
    lab = lab_up(default_document(hosts=2))
    h1, h2 = lab.hosts
    a, b = h1.run("a"), h2.run("b")
    blocks, before = h2.blocks(), ip(h2, "route show proto 78")
    ip(h2, "addr del 192.168.31.63/24 dev ens33")
    wait_until(
        lambda: says(h2, "192.168.31.63", "is gone"), deadline_s=120, what="the loss in the status"
    )
    assert not h2.status()["well"]
    assert ip(h2, "route show proto 78") == before, "what stands must not be torn down"
    ip(h2, "addr add 192.168.31.99/24 dev ens33")
    ip(h2, "route add default via 192.168.31.1")
    wait_until(
        lambda: "192.168.31.99" in peer_address(h1, "h2"), deadline_s=120, what="h1 to hear of it"
    )
    wait_until(lambda: a.pings(b.address), deadline_s=120, what="traffic to the new address")
    assert h2.blocks() == blocks
    wait_until(lambda: bool(h2.status()["well"]), deadline_s=120, what="all well again")
    wait_until(
        lambda: "192.168.31.63" not in h1.exec(["bridge", "fdb", "show"]),
        deadline_s=120,
        what="the old address to go",
    )


def test_a_card_that_is_down_is_said_and_once_it_is_up_all_is_well(lab_up: LabUp) -> None:
    lab = lab_up(default_document(hosts=2))
    h1, h2 = lab.hosts
    a, b = h1.run("a"), h2.run("b")
    ip(h2, "link set ens33 down")
    wait_until(lambda: says(h2, "ens33 is down"), deadline_s=120, what="it in the status")
    assert h1.status()["well"], "only the host itself knows"
    ip(h2, "link set ens33 up")
    ip(h2, "route add default via 192.168.31.1")
    wait_until(lambda: bool(h2.status()["well"]), deadline_s=120, what="all well again")
    wait_until(lambda: a.pings(b.address), deadline_s=120, what="traffic")


def test_a_pulled_cable_is_said_and_touches_nothing_in_the_kernel(lab_up: LabUp) -> None:
    lab = lab_up(default_document(hosts=2))
    h2 = lab.host("h2")
    looks = (["ip", "route", "show", "proto", "78"], ["bridge", "fdb", "show", "dev", "flannel.1"])
    before = [h2.exec(look) for look in looks]
    lab.fault("h2", "cut")
    wait_until(lambda: says(h2, "ens33 has no carrier"), deadline_s=120, what="it in the status")
    assert [h2.exec(look) for look in looks] == before
    lab.fault("h2", "heal")
    wait_until(lambda: bool(h2.status()["well"]), deadline_s=120, what="all well again")


def test_an_agent_that_is_started_before_its_host_has_an_address_waits_for_one(
    lab_up: LabUp,
) -> None:
    """It keeps what stands, attaches containers, and tells the peers once it is there."""
    lab = lab_up(default_document(hosts=2))
    h1, h2 = lab.hosts
    a, b = h1.run("a"), h2.run("b")
    blocks = h2.blocks()
    lab.fault("h2", "kill-agent")
    ip(h2, "addr flush dev ens33")
    h2.start_agent()
    assert says(h2, "no underlay address")
    late = h2.run("late")
    assert late.pings(b.address)
    ip(h2, "addr add 192.168.31.77/24 dev ens33")
    ip(h2, "route add default via 192.168.31.1")
    wait_until(lambda: bool(h2.status()["well"]), deadline_s=120, what="all well")
    wait_until(lambda: a.pings(b.address) and a.pings(late.address), deadline_s=120, what="traffic")
    assert h2.blocks() == blocks


def test_a_host_that_is_renamed_keeps_its_block_and_shows_its_new_name(lab_up: LabUp) -> None:
    lab = lab_up(default_document(hosts=2))
    h1, h2 = lab.hosts
    a, b = h1.run("a"), h2.run("b")
    blocks = h2.blocks()
    lab.fault("h2", "stop-agent")
    agent = h2.popen(["netloom", "agent", "--host-name", "renamed"])
    try:
        wait_until(
            lambda: "renamed" in [peer["name"] for peer in h1.status()["peers"]],
            deadline_s=120,
            what="the new name",
        )
        assert [peer["id"] for peer in h1.status()["peers"]] == ["h2"]
        wait_until(lambda: holds(h2, blocks), deadline_s=120, what="the block held before")
        assert a.pings(b.address)
    finally:
        agent.terminate()
        agent.wait(60)


def holds(host: LabHost, blocks: list[str]) -> bool:
    """Tell whether the agent says that it has these blocks; it may not listen yet."""
    try:
        return host.blocks() == blocks
    except Unavailable:
        return False


@pytest.mark.skipif(not shutil.which("bird"), reason="bird is not installed")
def test_under_bgp_a_new_address_is_followed_by_sessions_and_routes_at_once(
    lab_up: LabUp,
) -> None:
    """Nobody polls: the kernel's event moves the host's own sessions, the store's its peers'."""
    lab = lab_up(bgp_lab.document())
    hosts = h1, h2, h3 = lab.hosts
    a, b, c = (host.run(name) for host, name in zip(hosts, "abc", strict=True))
    bgp_lab.wait_mesh(lab)
    blocks, kept = h2.blocks(), bgp_lab.bird_pid(h1)
    steady = since(h1, h3.underlay)
    with Pings(a, c.address, 0.02) as bystanders:
        ip(h2, f"addr del {h2.underlay}/24 dev ens32")
        ip(h2, "addr add 192.168.26.199/24 dev ens32")
        for host in (h1, h3):
            wait_until(
                lambda host=host: any(  # type: ignore[misc]
                    line == f"{blocks[0]} via 192.168.26.199 dev ens32 proto bird"
                    for line in bgp_lab.bird_routes(host)
                ),
                deadline_s=15,
                what=f"the route of {host.name} by the new address",
            )
        wait_until(lambda: a.pings(b.address), deadline_s=120, what="traffic to the new address")
        wait_until(lambda: b.pings(c.address), deadline_s=120, what="traffic from there")
    assert bystanders.lost == 0
    assert h2.blocks() == blocks
    for host in (h1, h3):
        peers = {each["peer"]: each["state"] for each in bgp_lab.sessions(host)}
        assert peers["192.168.26.199"] == "up"
        assert h2.underlay not in peers, "the old address is asked no more"
    assert (bgp_lab.bird_pid(h1), since(h1, h3.underlay)) == (kept, steady)
    for host in hosts:
        wait_until(lambda host=host: bool(host.status()["well"]), deadline_s=120, what="all well")  # type: ignore[misc]


@pytest.mark.skipif(not shutil.which("bird"), reason="bird is not installed")
def test_under_bgp_a_card_that_was_named_and_is_called_otherwise_now_is_followed(
    lab_up: LabUp,
) -> None:
    """The address is on the host still: what leads over the former name leads to the router."""
    lab = lab_up(bgp_lab.document())
    h1, h2, _ = lab.hosts
    a, b = h1.run("a"), h2.run("b")
    bgp_lab.wait_mesh(lab)
    (far,) = h2.blocks()
    node = json.dumps({
        "kind": "Node", "apiVersion": "projectcalico.org/v3",
        "metadata": {"name": h1.name, "annotations": {METHOD: "interface=ens32"}},
    })  # fmt: skip
    h1.exec(["sh", "-c", f"echo '{node}' | netloom apply -f -"])
    wait_until(lambda: says_why(h1, "by setting"), deadline_s=30, what="the choice by name")
    for words in ("link set ens32 down", "link set ens32 name lan0", "link set lan0 up"):
        ip(h1, words)
    wait_until(
        lambda: bgp_lab.routes(h1, "-4").count(f"{far} via {h2.underlay} dev lan0 proto bird"),
        deadline_s=60,
        what="the route over the card as it is called now",
    )
    wait_until(lambda: a.pings(b.address), deadline_s=60, what="traffic over it")
    assert says(h1, "ens32", "stays")


def says_why(host: LabHost, words: str) -> bool:
    """Tell whether the card was taken for a reason that has these words."""
    return words in host.exec(["netloom", "host", "show", host.name])


def since(host: LabHost, peer: str) -> str:
    """Return since when the session with ``peer`` has been as it is."""
    (found,) = (each for each in bgp_lab.sessions(host) if each["peer"] == peer)
    assert found["state"] == "up"
    return str(found["since"])
