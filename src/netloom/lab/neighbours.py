"""Hosts of a large lab know each other's MACs from the start.

Linux has one table of learned neighbours for all namespaces of a machine, of 1,024 unless its owner
wants another size (net.ipv4.neigh.default.gc_thresh3, arp(7)). Forty hosts that all speak to each
other need 1,560, and what overflows is resolved again and again, after seconds, or never.
Permanent entries do not count (net/core/neighbour.c, neigh_alloc).
"""

from __future__ import annotations

from collections import defaultdict
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from netloom.kernel import namespaces
from netloom.kernel.rtnetlink import RtKernel
from netloom.lab import wiring
from netloom.lab.topology import Interface, Topology
from netloom.model.kernel import Link

_LIMIT = Path("/proc/sys/net/ipv4/neigh/default/gc_thresh3")
_USUAL_LIMIT = 1024
#: A lab is large when its hosts could fill this part of the table: it is not the only lab.
_PART = 1 / 4


class Card(NamedTuple):
    """One interface of one node."""

    node: str
    interface: Interface


def introduce(lab: str, topology: Topology) -> None:
    """Write permanent neighbours for each pair of cards on a segment, if the lab is large."""
    pairs = acquaintances(topology)
    if len(pairs) <= _limit() * _PART:
        return
    macs = {node.name: _macs(lab, node.name) for node in topology.nodes}
    lines: dict[str, list[str]] = defaultdict(list)
    for here, there in pairs:
        mac = macs[there.node][there.interface.name]
        for address in there.interface.addresses:
            lines[here.node].append(
                f"neighbour replace {address.ip} lladdr {mac} dev {here.interface.name} "
                "nud permanent"
            )
    for node, commands in lines.items():
        wiring.ip(wiring.namespace(lab, node), commands)


def acquaintances(topology: Topology) -> list[tuple[Card, Card]]:
    """Return each ordered pair of cards on one segment."""
    segments: dict[str, list[Card]] = defaultdict(list)
    for node in topology.nodes:
        for interface in node.interfaces:
            segments[interface.segment].append(Card(node.name, interface))
    return [
        (here, there)
        for cards in segments.values()
        for here in cards
        for there in cards
        if here is not there
    ]


def _limit() -> int:
    try:
        return int(_LIMIT.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # not to be seen in a namespace other than the first
        return _USUAL_LIMIT


def _macs(lab: str, node: str) -> dict[str, str]:
    with closing(RtKernel(namespaces.path(wiring.namespace(lab, node)))) as kernel:
        links = kernel.read(("link",))
    return {link.name: link.mac for link in links if isinstance(link, Link) and link.mac}
