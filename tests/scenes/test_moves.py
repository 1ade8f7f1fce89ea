"""Calico's ways and flannel's in turn, live: routed containers, pools with ways of their own.

What needs module ipip is in ``tests/uml``.
"""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from netloom.lab.lab import Lab, LabHost
from netloom.lab.traffic import Pings
from netloom.lab.waiting import wait_until

from .bgp_lab import document, settled, wait_mesh
from .interrupted_move import interrupted
from .test_switching import way
from .test_switching_faults import stream

LabUp = Callable[..., Lab]
ONE, TWO = "10.233.0.0/16", "10.234.0.0/16"


def move(lab: Lab, *assignments: str) -> None:
    """Write another backend and wait until every host follows and nothing of the former is left."""
    name = lab.networks()[0].name
    lab.hosts[0].exec(["netloom", "network", "set", name, *assignments])
    wait_until(lambda: settled(lab), deadline_s=60, what=f"the move to {' '.join(assignments)}")


def test_a_container_with_its_blocks_first_address_keeps_it_through_every_move(
    lab_up: LabUp,
) -> None:
    """A network without a tunnel has dealt it; a tunnel would have it. Ping and stream go on."""
    lab = lab_up(document((100, 101)))
    first, second = lab.hosts
    a, b = first.run("a"), second.run("b")
    wait_mesh(lab)
    for host, container in zip(lab.hosts, (a, b), strict=True):
        (block,) = host.blocks()
        assert container.address == block.partition("/")[0]
    with (
        Pings(a, b.address, 0.005) as there,
        Pings(b, a.address, 0.005) as back,
        stream(a, b, b.address),
    ):
        for backend in ("vxlan", "host-gw", "vxlan", "bgp"):
            move(lab, f"backend={backend}")
            if backend == "vxlan":
                assert first.pings(b.address), "the host has an address that others answer to"
                c = second.run("c")
                assert c.address not in (b.address, tunnel_of(second)), "nobody's is dealt"
                assert c.pings(a.address)
                second.remove("c")
    assert (there.lost, back.lost) == (0, 0)


def tunnel_of(host: LabHost) -> str:
    (device,) = host.json(["ip", "-j", "-4", "address", "show", "dev", "flannel.1"])
    (address,) = device["addr_info"]
    return str(address["local"])


def test_one_pools_way_is_patched_and_the_other_pools_packets_notice_nothing(lab_up: LabUp) -> None:
    """`patch ippool`: vxlanMode Always, CrossSubnet (a plain route here), and BGP alone again."""
    pools = [{"cidr": c, "blockSize": 26, "name": n} for n, c in (("one", ONE), ("two", TWO))]
    lab = lab_up(document((100, 101), pools=pools))
    here, there = lab.hosts
    a, b = here.run("a"), there.run("b")
    c, d = here.run("c", ips=["10.234.1.0"]), there.run("d", ips=["10.234.2.0"])
    wait_mesh(lab)
    (of_one,) = (block for block in there.blocks() if block.startswith("10.233."))
    with (
        Pings(a, b.address, 0.005) as stays,
        Pings(c, d.address, 0.005) as moves,
        stream(c, d, d.address),
    ):
        for mode, route in (
            ("Always", "via 10.234.2.0 dev vxlan.calico proto 78 onlink"),
            ("CrossSubnet", f"via {there.underlay} dev ens32 proto 78"),
            ("Always", "via 10.234.2.0 dev vxlan.calico proto 78 onlink"),
            ("Never", f"via {there.underlay} dev ens32 proto bird"),
        ):
            patch = json.dumps({"spec": {"vxlanMode": mode}})
            here.exec(["netloom", "patch", "ippool", "two", "-p", patch])
            wait_until(lambda: settled(lab), deadline_s=60, what=f"the move to {mode}")
            wait_until(
                lambda: route_to(here, "10.234.2.0/26") == f"10.234.2.0/26 {route}",  # noqa: B023
                deadline_s=60,
                what=f"the route of {mode}",
            )
            assert route_to(here, of_one).endswith("proto bird")
    assert (stays.lost, moves.lost) == (0, 0)


def route_to(host: LabHost, block: str) -> str:
    return host.exec(["ip", "route", "show", block]).strip()


def test_direct_routing_is_switched_on_and_off_where_some_hosts_are_behind_a_router(
    lab_up: LabUp,
) -> None:
    """Neighbours go from the tunnel to plain routes and back; the one behind the router never."""
    lab = lab_up(_two_segments())
    one, two, far = lab.hosts
    a, b, c = one.run("a"), two.run("b"), far.run("c")
    near_block, far_block = two.blocks()[0], far.blocks()[0]
    with (
        Pings(a, b.address, 0.005) as near,
        Pings(c, a.address, 0.005) as behind,
        stream(b, a, a.address),
    ):
        for direct in ("true", "false", "true"):
            move(lab, f"backend.directRouting={direct}")
            device = "ens33" if direct == "true" else "flannel.1"
            assert (way(one, near_block), way(one, far_block)) == (device, "flannel.1")
    assert (near.lost, behind.lost) == (0, 0)


def _two_segments() -> dict[str, object]:
    sides = {"left": "192.168.31", "right": "192.168.32"}
    hosts = {"h1": ("left", 62), "h2": ("left", 63), "h3": ("right", 64)}
    return {
        "segments": [
            {"name": name, "subnet": f"{net}.0/24", "gateway": f"{net}.1"}
            for name, net in sides.items()
        ],
        "routers": [
            {
                "name": "gw",
                "interfaces": [
                    {"name": name, "segment": name, "address": f"{net}.1"}
                    for name, net in sides.items()
                ],
            }
        ],
        "hosts": [
            {
                "name": host,
                "interfaces": [
                    {"name": "ens33", "segment": side, "address": f"{sides[side]}.{number}"}
                ],
            }
            for host, (side, number) in hosts.items()
        ],
        "networks": [{"name": "default", "preset": "flannel"}],
    }


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("bgp", "vxlan"),
        ("vxlan", "bgp"),
        # Routes of one's own become BIRD's, as with vxlan; without these faults it is in test_bgp.
        pytest.param("host-gw", "bgp", marks=pytest.mark.slow),
    ],
)
def test_a_late_host_a_killed_agent_and_a_store_that_goes_away_cost_a_move_nothing(
    lab_up: LabUp, before: str, after: str
) -> None:
    interrupted(lab_up(document(backend=before)), before, after)
