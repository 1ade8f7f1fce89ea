"""Moves that module ipip is a part of, live: each neighbour of ipip, there and back.

The firewall is refused by this kernel, which holds no move up. What needs no ipip is in
``tests/scenes``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest
from tests.scenes.bgp_lab import document
from tests.scenes.interrupted_move import interrupted

from netloom.lab.host import LabHost
from netloom.lab.lab import Lab
from netloom.lab.processes import myself
from netloom.lab.traffic import Pings
from netloom.lab.waiting import wait_until

TUNNEL = "dev tunl0 proto bird onlink"
#: What is set in turn, and what the route to the other host's block then says.
WAYS = [
    ("backend=ipip", TUNNEL),
    ("backend=vxlan", "dev flannel.1 proto 78 onlink"),
    ("backend=ipip", TUNNEL),
    ("backend=host-gw", "dev ens32 proto 78"),
    ("backend=ipip", TUNNEL),
    ("backend.mode=CrossSubnet", "dev ens32 proto 78"),
    ("backend=bgp", "dev ens32 proto bird"),
]


@pytest.fixture
def lab(lab_names: Iterator[str]) -> Iterator[Lab]:
    """Two hosts that route by BGP, so that containers may have their blocks' first addresses."""
    with Lab.up(document((100, 101)), name=next(lab_names), owner=myself()) as made:
        yield made


def leads(host: LabHost, block: str, way: str) -> bool:
    """Tell whether one route leads to a block, and by which way."""
    routes = host.exec(["ip", "route", "show", block]).strip()
    return "\n" not in routes and routes.endswith(way)


def followed(lab: Lab) -> bool:
    """Tell whether no host has anything left of a former backend."""
    return not lab.networks()[0].retiring


def follow(lab: Lab, argv: Sequence[str], way: str) -> None:
    """Say something on the first host; wait until both have left the former backend for ``way``."""
    one, two = lab.hosts
    one.exec(argv)
    wait_until(lambda: followed(lab), deadline_s=60, what=" ".join(argv))
    for host, far in ((one, two), (two, one)):
        (block,) = far.blocks()
        wait_until(
            lambda host=host, block=block: leads(host, block, way),  # type: ignore[misc]
            deadline_s=60,
            what=f"{host.name}'s way after {' '.join(argv)}",
        )


def test_every_move_to_ipip_and_from_it_loses_nothing(lab: Lab) -> None:
    one, two = lab.hosts
    a, b = one.run("a"), two.run("b")
    (block,), (back,) = two.blocks(), one.blocks()
    assert (a.address, b.address) == (back.partition("/")[0], block.partition("/")[0])
    wait_until(lambda: leads(one, block, WAYS[-1][1]), deadline_s=60, what="BIRD's route")
    with Pings(a, b.address, 0.01) as pings:
        for said, way in WAYS:
            follow(lab, ["netloom", "network", "set", "calnet1", said], way)
    assert pings.lost == 0
    assert pings.sent > 100
    assert any("nft" in str(problem) for problem in one.status()["problems"]), one.status()


@pytest.mark.slow  # labs of three hosts, in a kernel under ptrace; test_moves has other backends
@pytest.mark.parametrize(("before", "after"), [("vxlan", "ipip"), ("ipip", "bgp")])
def test_a_late_host_a_killed_agent_and_a_store_that_goes_away_cost_no_packet(
    lab_names: Iterator[str], before: str, after: str
) -> None:
    wanted = document(backend=before)
    with Lab.up(wanted, name=next(lab_names), owner=myself()) as lab:
        interrupted(lab, before, after, ended=followed, pause_s=0.02)
