"""What the status tells of the peers."""

from __future__ import annotations

from dataclasses import replace

from tests.unit.views import block, facts, host, ip, net, network, view

from netloom.agent.report import network_statuses, peer_statuses
from netloom.core.desired import desired
from netloom.model.network import Choice
from netloom.model.status import PeerStatus
from netloom.model.view import HostFacts, View

BLUE, RED = (
    network(),
    network("red", "10.99.0.0/16", backend={"type": "host-gw"}, attachment={"type": "routed"}),
)
PEERS = [host("h2", "192.168.31.63", macs={"blue": "02:00:00:00:00:02"})]
BLOCKS = [
    block("10.244.1.0/24", "h1"),
    block("10.244.2.0/24", "h2"),
    block("10.99.1.0/24", "h1", "red"),
    block("10.99.2.0/24", "h2", "red"),
]


def peer_of(seen: View, *, turned: bool = True) -> PeerStatus:
    (peer,) = peer_statuses(seen.cluster, desired(seen) if turned else None, "h1")
    return peer


def test_each_network_has_its_own_way_to_a_peer() -> None:
    peer = peer_of(view([BLUE, RED], PEERS, BLOCKS, own=facts("192.168.31.62/24")))
    assert dict(peer.paths) == {
        "blue": "vxlan flannel.1 to 192.168.31.63",
        "red": "host-gw via 192.168.31.63 dev ens33",
    }
    assert peer.problem == ""


def test_a_peer_is_not_well_while_no_way_there_is_known() -> None:
    seen = view([BLUE], PEERS, BLOCKS[:2], own=HostFacts())
    assert peer_of(seen).problem == "no way there is known"
    assert peer_of(seen, turned=False).problem == "no way there is known"


def test_a_peer_without_blocks_needs_no_way() -> None:
    seen = view([BLUE], PEERS, BLOCKS[:1], own=facts("192.168.31.62/24"))
    assert peer_of(seen).problem == ""


def test_a_peer_whose_route_a_daemon_has_yet_to_hear_of_is_waited_for() -> None:
    grey = network("grey", "10.98.0.0/16", backend="bgp", attachment="routed")
    blocks = [block("10.98.1.0/26", "h1", "grey"), block("10.98.2.0/26", "h2", "grey")]
    own = facts("192.168.31.62/24")
    peer = peer_of(view([grey], PEERS, blocks, own=own))
    assert (peer.problem, peer.path) == ("waiting", "bgp, no route from 192.168.31.63 yet")
    learned = facts("192.168.31.62/24", learned={net("10.98.2.0/26"): ip("192.168.31.63")})
    assert peer_of(view([grey], PEERS, blocks, own=learned)).problem == ""


def test_a_backend_with_long_options_is_called_by_its_type() -> None:
    pools = {"10.98.0.0/17": {"type": "vxlan", "vni": 7, "port": 4789, "device": "vxlan.seven"}}
    old = Choice("per-pool", {"default": {"type": "bgp"}, "pools": pools})
    moving = replace(network("grey", "10.98.0.0/16", attachment="routed"), retiring=(old,))
    found = desired(view([moving], own=facts("192.168.31.62/24")))
    (status,) = network_statuses(found, ())
    assert status.retiring == ("per-pool",)


def test_what_is_lent_is_in_use() -> None:
    found = desired(view([RED], PEERS, BLOCKS, own=facts("192.168.31.62/24")))
    (status,) = network_statuses(found, (), {("red", ip("10.99.1.9")), ("blue", ip("10.99.1.8"))})
    assert [(each["used"], each["lent"]) for each in status.blocks] == [(1, 1)]


def test_a_peer_whose_way_the_kernel_does_not_have_is_not_well() -> None:
    """Its tunnel is refused, say: a state of "ok" beside that error would be a lie."""
    seen = view([BLUE], PEERS, BLOCKS[:2], own=facts("192.168.31.62/24"))
    wanted = desired(seen)
    (peer,) = peer_statuses(seen.cluster, wanted, "h1", {"route 10.244.2.0/24"})
    assert peer.problem == "not in the kernel"
    (peer,) = peer_statuses(seen.cluster, wanted, "h1", {"route 10.244.9.0/24"})
    assert peer.problem == ""
