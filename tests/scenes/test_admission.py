"""The usual trap: iptables' FORWARD is set to drop (Docker does) while containers talk.

Rules of ours inside of it let the pools through, stay true whoever touches them, and go with their
reason; what blocks elsewhere is named with its remedy.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from netloom.kernel import namespaces, nft
from netloom.lab.documents import default_document
from netloom.lab.lab import Lab, LabHost
from netloom.lab.processes import myself
from netloom.lab.traffic import Pings
from netloom.lab.waiting import wait_until

LabUp = Callable[..., Lab]
ACCEPTS = [
    "-A NETLOOM-FORWARD -s 10.244.0.0/16 -j ACCEPT",
    "-A NETLOOM-FORWARD -d 10.244.0.0/16 -j ACCEPT",
]
GREEN = ["--backend", "host-gw", "--attach", "routed"]
ADMITTED = ["-A FORWARD -j NETLOOM-FORWARD", *ACCEPTS]


@pytest.fixture(scope="module")
def lab_module(lab_names: Iterator[str]) -> Iterator[Lab]:
    with Lab.up(default_document(hosts=2), name=next(lab_names), owner=myself()) as up:
        up.host("h1").run("a")
        up.host("h2").run("b")
        yield up


@pytest.fixture
def lab(lab_module: Lab) -> Iterator[Lab]:
    yield lab_module
    for host in hosts(lab_module):
        for table in ("ip filter", "inet site"):
            host.exec(["nft", f"add table {table}; delete table {table}"])
        if host.agent is None:
            host.start_agent()


def hosts(lab: Lab) -> list[LabHost]:
    return [lab.host("h1"), lab.host("h2")]


def pings(lab: Lab) -> Pings:
    a, b = lab.host("h1").container("a"), lab.host("h2").container("b")
    return Pings(a, b.address, 0.01)


def admitted(host: LabHost) -> list[str]:
    """Return what iptables shows of ours, in its own words."""
    listed = host.exec(["iptables", "-S"]).splitlines()
    return [line for line in listed if "NETLOOM" in line and line.startswith("-A")]


def becomes(host: LabHost, wanted: list[str], what: str) -> None:
    wait_until(lambda: admitted(host) == wanted, deadline_s=120, what=what)


def generation(host: LabHost) -> int | None:
    return namespaces.in_namespace(str(namespaces.path(host.namespace)), nft.generation)


def drop(host: LabHost) -> None:
    host.exec(["iptables", "-P", "FORWARD", "DROP"])


def goes_on(running: Pings) -> None:
    seen = running.received
    wait_until(lambda: running.received > seen + 5, deadline_s=120, what="pings to go on")


def problems(host: LabHost) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = host.status()["problems"]
    return [one for one in found if one["subject"].startswith("firewall")]


def test_a_forward_chain_set_to_drop_while_containers_talk_is_passed_at_once(lab: Lab) -> None:
    with pings(lab) as running:
        for host in hosts(lab):
            drop(host)
        for host in hosts(lab):
            becomes(host, ADMITTED, "our rules in iptables")
        goes_on(running)
    for host in hosts(lab):
        wait_until(lambda host=host: not problems(host), deadline_s=120, what="a clean status")


def test_rules_that_another_hand_takes_away_come_back_while_containers_talk(lab: Lab) -> None:
    host = lab.host("h1")
    drop(host)
    becomes(host, ADMITTED, "our rules in iptables")
    with pings(lab) as running:
        for damage in ("-F", "-F NETLOOM-FORWARD", "-D FORWARD -j NETLOOM-FORWARD"):
            host.exec(["iptables", *damage.split()])
            becomes(host, ADMITTED, f"repair of {damage}")
        goes_on(running)
    wait_until(
        lambda: host.status()["kernel"]["repaired"].get("admission", 0) >= 3,
        deadline_s=120,
        what="the repairs to be counted",
    )


@pytest.mark.parametrize("how", ["kill-agent", "stop-agent"])
def test_a_new_agent_finds_them_right_and_writes_none_twice(lab: Lab, how: str) -> None:
    host = lab.host("h1")
    drop(host)
    becomes(host, ADMITTED, "our rules in iptables")
    before = generation(host)
    end(lab, host, how)
    host.start_agent()
    lab.settle()
    assert admitted(host) == ADMITTED
    assert generation(host) == before


def test_what_happened_while_no_agent_ran_is_made_good_at_its_start(lab: Lab) -> None:
    """Docker came, and half of what we had written went."""
    host = lab.host("h1")
    drop(host)
    becomes(host, ADMITTED, "our rules in iptables")
    end(lab, host, "kill-agent")
    host.exec(["iptables", "-N", "DOCKER-USER"])
    host.exec(["iptables", "-I", "FORWARD", "-j", "DOCKER-USER"])
    host.exec(["iptables", "-D", "NETLOOM-FORWARD", "1"])
    host.start_agent()
    becomes(host, ["-A DOCKER-USER -j NETLOOM-FORWARD", *ACCEPTS], "rules in Docker's chain")


def test_they_go_when_the_chain_drops_no_more(lab: Lab) -> None:
    host = lab.host("h1")
    drop(host)
    becomes(host, ADMITTED, "our rules in iptables")
    host.exec(["iptables", "-P", "FORWARD", "ACCEPT"])
    becomes(host, [], "the rules to go")
    wait_until(
        lambda: "NETLOOM" not in host.exec(["iptables", "-S"]),
        deadline_s=120,
        what="the chain's end",
    )


def test_a_network_that_comes_is_let_through_too_and_one_that_goes_is_not(lab: Lab) -> None:
    host = lab.host("h1")
    drop(host)
    becomes(host, ADMITTED, "our rules in iptables")
    host.exec(["netloom", "network", "create", "green", "--pool", "10.9.0.0/16", *GREEN])
    green = [line.replace("10.244", "10.9") for line in ACCEPTS]
    becomes(host, [ADMITTED[0], *green, *ACCEPTS], "the new network's rules")
    host.exec(["netloom", "network", "delete", "green"])
    becomes(host, ADMITTED, "the old network's rules alone")


def test_an_agent_killed_while_it_writes_leaves_nothing_that_the_next_one_doubles(
    lab: Lab,
) -> None:
    """It dies at some point between what another hand did and our answer."""
    host = lab.host("h1")
    for _ in range(3):
        drop(host)
        becomes(host, ADMITTED, "our rules in iptables")
        host.exec(["iptables", "-F"])
        end(lab, host, "kill-agent")
        host.start_agent()
        becomes(host, ADMITTED, "our rules, each once")
        assert host.exec(["iptables", "-S"]).count("NETLOOM-FORWARD") == len(ADMITTED) + 1


def test_what_blocks_elsewhere_is_in_the_status_with_what_helps(lab: Lab) -> None:
    """A table of nftables is its owner's: we write nothing there."""
    host = lab.host("h1")
    base = "{ type filter hook forward priority 10; policy drop; }"
    host.exec(["nft", f"add table inet site; add chain inet site forward {base}"])
    (problem,) = wait_until(lambda: problems(host), deadline_s=120, what="the problem")
    assert problem["subject"] == "firewall inet site forward"
    for command in problem["remedy"].split("; "):
        host.exec(command.split())
    wait_until(lambda: not problems(host), deadline_s=120, what="the remedy to help")


def test_who_wants_no_rules_in_iptables_gets_none_and_is_told_what_drops(lab: Lab) -> None:
    """Those that stood go, too, when the agent comes back with the setting."""
    host = lab.host("h1")
    drop(host)
    becomes(host, ADMITTED, "our rules in iptables")
    end(lab, host, "stop-agent")
    config = host.home.directory / "netloom.yaml"
    before = config.read_text()
    config.write_text('{"forwardRules": false}')
    try:
        host.start_agent()
        becomes(host, [], "the rules to go")
        (problem,) = wait_until(lambda: problems(host), deadline_s=120, what="the problem")
        assert problem["subject"] == "firewall ip filter FORWARD"
        assert "iptables -I FORWARD -s 10.244.0.0/16 -j ACCEPT" in problem["remedy"]
        end(lab, host, "stop-agent")
    finally:
        config.write_text(before)


@pytest.mark.skipif(not shutil.which("dockerd"), reason="needs Docker")
def test_a_real_docker_engine_that_drops_leaves_the_way_open_and_so_does_its_restart(
    lab_up: LabUp,
) -> None:
    """Docker sets FORWARD to drop where it is the first to turn forwarding on, as at a boot.

    At its next start it writes its own rules anew, and lets those in DOCKER-USER be.
    """
    lab = lab_up(default_document(hosts=2))
    host = lab.host("h1")
    for number, one in enumerate(hosts(lab)):
        one.run("ab"[number])
    end(lab, host, "stop-agent")
    host.exec(["sysctl", "-qw", "net.ipv4.ip_forward=0"])
    host.start_docker()
    assert "-P FORWARD DROP" in host.exec(["iptables", "-S"])
    host.start_agent()
    with_docker = ["-A DOCKER-USER -j NETLOOM-FORWARD", *ACCEPTS]
    becomes(host, with_docker, "our rules in Docker's chain")
    with pings(lab) as running:
        before = generation(host)
        host.start_docker()
        assert generation(host) != before, "Docker wrote"
        becomes(host, with_docker, "our rules in Docker's chain still")
        host.exec(["iptables", "-F", "DOCKER-USER"])
        becomes(host, with_docker, "our rules in Docker's chain again")
        goes_on(running)
    wait_until(lambda: not problems(host), deadline_s=120, what="a clean status")


def end(lab: Lab, host: LabHost, how: str) -> None:
    """End the agent, by kill -9 or in order."""
    if how == "kill-agent":
        lab.fault(host.name, "kill-agent")
        return
    agent = host.agent
    assert agent is not None
    host.exec(["kill", "-TERM", str(agent.pid)])
    wait_until(lambda: host.agent is None, deadline_s=120, what="the agent's end")
