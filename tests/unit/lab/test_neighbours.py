"""Who is whose neighbour in a lab."""

from __future__ import annotations

from netloom.lab.neighbours import acquaintances
from netloom.lab.topology import Topology


def test_cards_know_each_other_on_one_segment_and_not_beyond_a_router() -> None:
    """Each ordered pair once; a router is everybody's neighbour; nobody is his own."""
    topology = Topology.parse(
        {
            "segments": [
                {"name": "lan", "subnet": "192.168.31.0/24", "gateway": "192.168.31.1"},
                {"name": "far", "subnet": "192.168.32.0/24", "gateway": "192.168.32.1"},
            ],
            "routers": [
                {
                    "name": "gw",
                    "interfaces": [
                        {"name": "lan", "segment": "lan", "address": "192.168.31.1"},
                        {"name": "far", "segment": "far", "address": "192.168.32.1"},
                    ],
                }
            ],
            "hosts": [
                {"name": name, "interfaces": [{"segment": segment, "address": address}]}
                for name, segment, address in (
                    ("h1", "lan", "192.168.31.2"),
                    ("h2", "lan", "192.168.31.3"),
                    ("h3", "far", "192.168.32.2"),
                )
            ],
            "networks": [],
        }
    )
    pairs = [(here.node, there.node) for here, there in acquaintances(topology)]
    assert len(pairs) == len(set(pairs))
    assert set(pairs) == {
        ("h1", "h2"),
        ("h2", "h1"),
        ("h1", "gw"),
        ("gw", "h1"),
        ("h2", "gw"),
        ("gw", "h2"),
        ("h3", "gw"),
        ("gw", "h3"),
    }
