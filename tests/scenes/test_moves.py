"""Calico's ways and flannel's in turn, live: routed containers, pools with ways of their own.

What needs module ipip is in ``tests/uml``.
"""

from __future__ import annotations

from collections.abc import Callable

from netloom.lab.lab import Lab
from netloom.lab.traffic import Pings
from netloom.lab.waiting import wait_until

from .bgp_lab import document, settled, wait_mesh
from .test_switching_faults import stream

LabUp = Callable[..., Lab]


def move(lab: Lab, *assignments: str) -> None:
    """Write another backend and wait until every host follows and nothing of the former is left."""
    name = lab.networks()[0].name
    lab.hosts[0].exec(["netloom", "network", "set", name, *assignments])
    wait_until(lambda: settled(lab), deadline_s=40, what=f"the move to {' '.join(assignments)}")


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


def tunnel_of(host) -> str:
    (device,) = host.json(["ip", "-j", "-4", "address", "show", "dev", "flannel.1"])
    (address,) = device["addr_info"]
    return str(address["local"])
