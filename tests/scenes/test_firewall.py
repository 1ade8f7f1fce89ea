"""The firewall of a host with a real agent: ports of attached containers, damage, other firewalls.

The containers come through the CNI executable, as a runtime brings them.
"""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from netloom.drivers.cni import codes
from netloom.drivers.cni.runtime import PluginFailed
from netloom.kernel import namespaces, nft
from netloom.lab import agents
from netloom.lab.lab import Lab
from netloom.lab.processes import myself
from netloom.lab.waiting import wait_until

from . import telling
from .cni_world import DEBIAN, OURS, Box, World, chain, document

HOST4, HOST6 = "192.168.31.62", "fd31::62"
MakeBox = Callable[[], Box]
DEFAULT = chain(version="1.1.0")
BLUE = chain({**OURS, "network": "blue"}, version="1.1.0")

pytestmark = pytest.mark.skipif(
    not (DEBIAN / "bridge").exists(), reason="needs Debian's containernetworking-plugins"
)


@pytest.fixture(scope="module")
def lab(lab_names: Iterator[str]) -> Iterator[Lab]:
    with Lab.up(document(), name=next(lab_names), owner=myself()) as up:
        yield up


@pytest.fixture
def world(lab: Lab, tmp_path: Path) -> Iterator[World]:
    found = World(lab, lab.host("h1"), tmp_path / "cache")
    if found.host.agent is None:
        found.host.start_agent()
    yield found
    found.clear()


@pytest.fixture
def make_box(world: World, run_id: str) -> Iterator[MakeBox]:
    made: list[Box] = []

    def make() -> Box:
        made.append(world.box(run_id))
        return made[-1]

    yield make
    world.clear()
    for box in made:
        namespaces.delete(Path(box.netns).name)


def published(*mappings: tuple[int, int]) -> dict[str, Any]:
    return {
        "portMappings": [
            {"hostPort": host, "containerPort": container, "protocol": "tcp"}
            for host, container in mappings
        ]
    }


def host_netns(world: World) -> str:
    return str(namespaces.path(world.host.namespace))


def rules(world: World) -> str:
    return world.host.exec(["nft", "list", "ruleset"])


def generation(world: World) -> int | None:
    return namespaces.in_namespace(host_netns(world), nft.generation)


def test_ports_of_bridged_and_routed_containers_lead_in_from_every_side(
    world: World, make_box: MakeBox
) -> None:
    bridged, routed = make_box(), make_box()
    world.add(DEFAULT, bridged, capability_args=published((8080, 80)))
    world.add(BLUE, routed, capability_args=published((8081, 80)))
    outside = str(namespaces.path(world.lab.node("gw").namespace))
    with telling.server(bridged.netns, 80), telling.server(routed.netns, 80):
        for port in (8080, 8081):
            assert telling.ask(outside, HOST4, port)
            for place in ("127.0.0.1", HOST4):
                assert telling.ask(host_netns(world), place, port)
            for asker in (bridged, routed):
                assert telling.ask(asker.netns, HOST4, port)
        assert telling.ask(host_netns(world), HOST6, 8081)
        assert telling.ask(routed.netns, HOST6, 8081)


def test_a_port_goes_with_its_container_and_nothing_of_it_stays(
    world: World, make_box: MakeBox
) -> None:
    box = make_box()
    limits = {"bandwidth": {"egressRate": 10_000_000, "ingressRate": 10_000_000}}
    world.add(DEFAULT, box, capability_args={**published((8080, 80)), **limits})
    assert "8080" in rules(world)
    assert "police-" in rules(world)
    world.clear()
    assert "8080" not in rules(world)
    assert "dnat" not in rules(world)
    assert "police-" not in rules(world)


def test_a_taken_port_is_refused_naming_the_container_that_has_it(
    world: World, make_box: MakeBox
) -> None:
    holder, asker = make_box(), make_box()
    world.add(DEFAULT, holder, capability_args=published((8080, 80)))
    with pytest.raises(PluginFailed) as failure:
        world.add(BLUE, asker, capability_args=published((8080, 81)))
    assert failure.value.code == codes.CONFLICT
    assert "0.0.0.0:8080/tcp" in failure.value.message
    assert holder.id in failure.value.message
    assert asker.addresses() == []
    with telling.server(holder.netns, 80):
        assert telling.ask(host_netns(world), HOST4, 8080), "the first one's port still leads in"


@pytest.mark.parametrize(
    "damage",
    [
        ["nft", "flush", "ruleset"],
        ["nft", "delete", "table", "inet", "netloom"],
        ["nft", "flush", "chain", "inet", "netloom", "publish"],
    ],
    ids=" ".join,
)
def test_damage_to_the_firewall_is_repaired_and_counted(
    world: World, make_box: MakeBox, damage: list[str]
) -> None:
    box = make_box()
    world.add(DEFAULT, box, capability_args=published((8080, 80)))
    whole = world.host.exec(["nft", "list", "table", "inet", "netloom"])
    before = world.host.status()["kernel"]["repaired"].get("nft", 0)
    world.host.exec(damage)

    def repaired() -> bool:
        listed = namespaces.in_namespace(
            host_netns(world),
            lambda: (
                subprocess.run(
                    ["nft", "list", "table", "inet", "netloom"],
                    capture_output=True,
                    text=True,
                    check=False,
                ).stdout
            ),
        )
        return listed == whole

    wait_until(repaired, deadline_s=120, what="the firewall's repair")
    with telling.server(box.netns, 80):
        assert telling.ask(host_netns(world), HOST4, 8080)
    wait_until(
        lambda: world.host.status()["kernel"]["repaired"].get("nft", 0) > before,
        deadline_s=120,
        what="the repair to be counted",
    )


def test_a_restarted_agent_finds_the_firewall_right_and_writes_nothing(
    world: World, make_box: MakeBox
) -> None:
    """Ports and limits in both directions: each reads back as the new agent wants it."""
    limits = {"bandwidth": {"egressRate": 12_345_678, "ingressRate": 87_654_321}}
    for number in range(3):
        wishes = {**published((8080 + number, 80)), **limits}
        world.add((DEFAULT, BLUE)[number % 2], make_box(), capability_args=wishes)
    port = next(
        link for link in sorted(world.host_links()) if link.startswith("veth") and link != "veth"
    )
    shaped = world.host.exec(["tc", "qdisc", "show", "dev", port])
    before = generation(world)
    agents.stop(world.host.home, signal.SIGKILL)
    world.host.start_agent()
    world.lab.settle()
    assert generation(world) == before
    assert world.host.exec(["tc", "qdisc", "show", "dev", port]) == shaped


def test_another_firewall_that_drops_our_traffic_is_shown_with_the_remedy(world: World) -> None:
    """One that is not iptables': we write nothing into it (scene 5 step 4)."""
    world.host.exec(
        [
            "nft",
            "add table inet site; add chain inet site forward "
            "{ type filter hook forward priority 0; policy drop; }",
        ]
    )

    def shown() -> list[dict[str, Any]]:
        problems = world.host.status()["problems"]
        return [one for one in problems if one["subject"] == "firewall inet site forward"]

    try:
        (problem,) = wait_until(shown, deadline_s=120, what="the problem in status")
        remedy = "nft insert rule inet site forward ip saddr 10.244.0.0/16 accept"
        assert remedy in problem["remedy"]
    finally:
        world.host.exec(["nft", "delete", "table", "inet", "site"])
    wait_until(lambda: not shown(), deadline_s=120, what="the problem to be gone from status")
