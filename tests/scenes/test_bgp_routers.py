"""Interoperation with FRR, GoBGP and a second BIRD, none of which was written here."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from netloom.kernel.commands import find
from netloom.lab.host import LabContainer
from netloom.lab.lab import Lab
from netloom.lab.place import Place
from netloom.lab.traffic import Pings
from netloom.lab.waiting import wait_until

from . import routers
from .bgp_lab import bird_routes, ttl_of
from .test_bgp_resources import apply, peers_of, resource

LabUp = Callable[..., Lab]
PROGRAMS = {"frr": "/usr/lib/frr/bgpd", "gobgp": "gobgpd", "bird": "bird"}


@pytest.fixture(params=sorted(PROGRAMS))
def name(request: pytest.FixtureRequest) -> str:
    program = PROGRAMS[request.param]
    if not (Path(program).exists() or find(program)):
        pytest.skip(f"{program} is not installed: run scripts/setup")
    return str(request.param)


def neighbours(lab: Lab) -> list[str]:
    return [str(a.ip) for host in lab.hosts for c in host.node.interfaces for a in c.addresses]


def peers(as_number: int, **more: object) -> list[dict[str, Any]]:
    """Return a BGPPeer of all hosts for each of the router's addresses."""
    return [
        resource("BGPPeer", f"tor{at}", peerIP=each, asNumber=as_number, **more)
        for at, each in enumerate(routers.ADDRESSES)
    ]


def wait_sessions(lab: Lab, up: bool = True) -> None:
    """Wait until all hosts have their sessions with the router, or none has."""
    for host in lab.hosts:
        wait_until(
            lambda: (
                up == any(each in peers_of(host) for each in routers.ADDRESSES)  # noqa: B023
                and (not up or set(routers.ADDRESSES) <= set(peers_of(host)))
            ),  # noqa: B023
            deadline_s=30,
            what=f"the sessions of {host.name} with the router",
        )


def wait_reached(router: routers.Router, box: Place, container: LabContainer) -> None:
    """Wait until ``box`` reaches the container from behind the router, in both families."""

    def reached(address: str) -> bool:
        router.follow()
        return box.pings(address)

    for address in container.addresses:
        wait_until(lambda: reached(address), deadline_s=20, what=f"an answer of {address}")  # noqa: B023


def test_containers_are_reached_from_behind_a_router_and_reach_there(
    lab_up: LabUp, tmp_path: Path, name: str
) -> None:
    """Another AS, both families, no address translation; the mesh stays as it is.

    Then the router is killed and comes again: sessions and ways do too, and the hosts miss nothing.
    """
    lab = lab_up(routers.rack())
    first, second = lab.hosts
    a, b = first.run("a"), second.run("b")
    box, folder = lab.node("box"), tmp_path / "tor"
    apply(first, *peers(65000))
    wanted = routers.Wanted(65000, neighbours(lab))
    with routers.running(name, lab.node("tor"), folder, wanted) as router:
        wait_sessions(lab)
        for container in (a, b):
            wait_reached(router, box, container)
            for address, out in zip(container.addresses, routers.BOX, strict=True):
                assert ttl_of(box.exec(["ping", "-c1", address])) == 62
                assert ttl_of(container.exec(["ping", "-c1", out])) == 62
        assert set(peers_of(first).values()) == {"global", "node-to-node mesh"}
        with Pings(a, b.address, 0.005) as between:
            router.kill()
            wait_sessions(lab, up=False)
            c = second.run("c")  # a dead router delays nobody
            assert ttl_of(a.exec(["ping", "-c1", c.address])) == 62
            router.start()
            wait_sessions(lab)
            wait_reached(router, box, c)
        assert between.lost == 0


def test_a_router_reflects_what_hosts_without_a_mesh_tell_it(
    lab_up: LabUp, tmp_path: Path, name: str
) -> None:
    """Blocks of both families; each host leads straight to the other, not by way of the router.

    The reflector is killed and comes again: what the hosts know stays (RFC 4724), no ping is lost.
    """
    lab = lab_up(routers.rack())
    first, second = lab.hosts
    a, b = first.run("a"), second.run("b")
    off = resource("BGPConfiguration", "default", nodeToNodeMeshEnabled=False)
    apply(first, off, *peers(routers.HOSTS_AS))
    wanted = routers.Wanted(routers.HOSTS_AS, neighbours(lab))
    with routers.running(name, lab.node("tor"), tmp_path / "tor", wanted) as router:
        wait_sessions(lab)
        assert set(peers_of(first)) == set(routers.ADDRESSES)
        for address in b.addresses:
            wait_until(lambda: a.pings(address), deadline_s=20, what=address)  # noqa: B023
        ways = [f"via {second.underlay} ", "via fd26::101 "]
        for words, way in zip(((), ("-6",)), ways, strict=True):
            assert any(way in line for line in bird_routes(first, *words))
        with Pings(a, b.address, 0.005) as there, Pings(b, a.addresses[1], 0.005) as back:
            router.kill()
            wait_sessions(lab, up=False)
            router.start()
            wait_sessions(lab)
            c = second.run("c")
            wait_until(lambda: a.pings(c.address), deadline_s=20, what="a new container")
        assert (there.lost, back.lost) == (0, 0)
