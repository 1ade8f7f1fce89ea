"""``CrossSubnet``: on the hosts' own segment packets go as they are, past a router in a tunnel.

Scene 3's hosts are on the same segments; here a third host is behind a router.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from netloom.lab.documents import load_document
from netloom.lab.host import LabContainer, LabHost
from netloom.lab.lab import Lab
from netloom.lab.processes import myself
from netloom.lab.waiting import wait_until
from netloom.lab.wire import Capture


@pytest.fixture(scope="module")
def lab(lab_names: Iterator[str]) -> Iterator[Lab]:
    """h1 and h2 on one segment, h3 behind the router, a container on each."""
    topology = load_document("scene2-router")
    (network,) = topology["networks"]
    backend = {"type": "ipip", "mode": "CrossSubnet"}
    topology["networks"] = [{**network, "attachment": "routed", "backend": backend}]
    with Lab.up(topology, name=next(lab_names), owner=myself()) as made:
        for host in made.hosts:
            host.run(f"{host.name}c")
        yield made


def container(lab: Lab, name: str) -> LabContainer:
    return lab.host(name).container(f"{name}c")


def way(host: LabHost, to: LabHost) -> str:
    (block,) = to.blocks()
    return host.exec(["ip", "route", "show", block]).strip()


def test_routes_lead_plainly_to_the_neighbour_and_through_the_tunnel_past_the_router(
    lab: Lab,
) -> None:
    h1, h2, h3 = lab.hosts
    (near,), (far,) = h2.blocks(), h3.blocks()
    assert way(h1, h2) == f"{near} via 192.168.31.63 dev ens33 proto 78"
    assert way(h1, h3) == f"{far} via 192.168.32.64 dev tunl0 proto bird onlink"
    assert way(h3, h2) == f"{near} via 192.168.31.63 dev tunl0 proto bird onlink"


def test_all_reach_all_and_the_wire_shows_the_tunnel_only_past_the_router(lab: Lab) -> None:
    h1 = lab.host("h1")
    a = container(lab, "h1")
    for other in ("h2", "h3"):
        target = container(lab, other)
        wait_until(lambda: a.pings(target.address), deadline_s=60, what=other)  # noqa: B023
    near, far = container(lab, "h2"), container(lab, "h3")
    with Capture(h1, "ens33", "icmp or ip proto 4") as wire:
        assert a.pings(near.address)
        assert a.pings(far.address)
        wire.until(lambda frames: len(frames) >= 4, "two requests and two replies")
    said = [str(frame) for frame in wire.frames]
    assert said[:2] == [
        f"{a.address} → {near.address} ICMP echo request",
        f"{near.address} → {a.address} ICMP echo reply",
    ]
    outer = f"192.168.31.62 → 192.168.32.64 IPIP [ {a.address} → {far.address} ICMP echo request ]"
    assert said[2] == outer
    assert said[3].startswith("192.168.32.64 → 192.168.31.62 IPIP [ ")


def test_with_always_the_neighbour_is_in_the_tunnel_too(lab: Lab) -> None:
    h1, h2, _ = lab.hosts
    h1.exec(["netloom", "network", "set", "default", "backend.mode=Always"])
    wait_until(lambda: not lab.networks()[0].retiring, deadline_s=60, what="mode Always")
    (near,) = h2.blocks()
    wanted = f"{near} via 192.168.31.63 dev tunl0 proto bird onlink"
    wait_until(lambda: way(h1, h2) == wanted, deadline_s=60, what="the neighbour's route")
    assert container(lab, "h1").pings(container(lab, "h2").address)
