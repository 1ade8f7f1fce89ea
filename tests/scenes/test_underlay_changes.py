"""The underlay of a host goes, comes and changes: the status says it, peers follow, blocks stay."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from netloom.lab.documents import default_document
from netloom.lab.lab import Lab, LabHost
from netloom.lab.waiting import wait_until

LabUp = Callable[..., Lab]


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
        lambda: says(h2, "192.168.31.63", "is gone"), deadline_s=10, what="the loss in the status"
    )
    assert not h2.status()["well"]
    assert ip(h2, "route show proto 78") == before, "what stands must not be torn down"
    ip(h2, "addr add 192.168.31.99/24 dev ens33")
    ip(h2, "route add default via 192.168.31.1")
    wait_until(
        lambda: "192.168.31.99" in peer_address(h1, "h2"), deadline_s=10, what="h1 to hear of it"
    )
    wait_until(lambda: a.pings(b.address), deadline_s=10, what="traffic to the new address")
    assert h2.blocks() == blocks
    wait_until(lambda: bool(h2.status()["well"]), deadline_s=10, what="all well again")
    assert "192.168.31.63" not in h1.exec(["bridge", "fdb", "show"])


def test_a_card_that_is_down_is_said_and_once_it_is_up_all_is_well(lab_up: LabUp) -> None:
    lab = lab_up(default_document(hosts=2))
    h1, h2 = lab.hosts
    a, b = h1.run("a"), h2.run("b")
    ip(h2, "link set ens33 down")
    wait_until(lambda: says(h2, "ens33 is down"), deadline_s=10, what="it in the status")
    assert h1.status()["well"], "only the host itself knows"
    ip(h2, "link set ens33 up")
    ip(h2, "route add default via 192.168.31.1")
    wait_until(lambda: bool(h2.status()["well"]), deadline_s=10, what="all well again")
    wait_until(lambda: a.pings(b.address), deadline_s=10, what="traffic")


def test_a_pulled_cable_is_said_and_touches_nothing_in_the_kernel(lab_up: LabUp) -> None:
    lab = lab_up(default_document(hosts=2))
    h2 = lab.host("h2")
    looks = (["ip", "route", "show", "proto", "78"], ["bridge", "fdb", "show", "dev", "flannel.1"])
    before = [h2.exec(look) for look in looks]
    lab.fault("h2", "cut")
    wait_until(lambda: says(h2, "ens33 has no carrier"), deadline_s=10, what="it in the status")
    assert [h2.exec(look) for look in looks] == before
    lab.fault("h2", "heal")
    wait_until(lambda: bool(h2.status()["well"]), deadline_s=10, what="all well again")


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
    wait_until(lambda: bool(h2.status()["well"]), deadline_s=10, what="all well")
    wait_until(lambda: a.pings(b.address) and a.pings(late.address), deadline_s=10, what="traffic")
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
            deadline_s=10,
            what="the new name",
        )
        assert [peer["id"] for peer in h1.status()["peers"]] == ["h2"]
        socket = Path(h2.environment["NETLOOM_SOCKET"])
        wait_until(socket.exists, deadline_s=10, what="the agent's socket")
        wait_until(lambda: h2.blocks() == blocks, deadline_s=10, what="the block held before")
        assert a.pings(b.address)
    finally:
        agent.terminate()
        agent.wait(10)
