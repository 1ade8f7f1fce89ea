"""A BGPPeer that says a wrong thing of a host of ours: it is told, and takes no session away."""

from __future__ import annotations

import pytest
from tests.unit.core.test_bgp_resources import names, planned, resource, told

#: It is for all hosts, and in the place of no router: h1 itself is there.
WRONG = resource("BGPPeer", "wrong", peerIP="192.168.26.1", asNumber=65000)
SAID = "BGPPeer(wrong): spec.asNumber: 192.168.26.1 is host h1, of AS 64512 and not 65000"


@pytest.mark.parametrize("own", ["h1", "h2"])
def test_one_that_names_a_host_with_another_as_number_leaves_the_mesh_on_both_sides(
    own: str,
) -> None:
    """One mistyped address must not cut a host off from all others."""
    made = planned(WRONG, own=own)
    assert names(made) == names(planned(own=own))
    assert told(made) == [SAID]


@pytest.mark.parametrize("own", ["h1", "h2"])
def test_what_comes_next_in_rank_decides_instead(own: str) -> None:
    right = resource("BGPPeer", "xright", peerIP="192.168.26.1", asNumber=64512)
    made = planned(WRONG, right, own=own)
    assert names(made) == names(planned(right, own=own))
    assert told(made) == [SAID]


def test_without_a_mesh_there_is_no_session_to_fall_back_to() -> None:
    no_mesh = resource("BGPConfiguration", "default", nodeToNodeMeshEnabled=False)
    made = planned(WRONG, no_mesh, own="h2")
    assert (names(made), told(made)) == ([], [SAID])


def test_a_host_that_has_a_session_with_nobody_is_told() -> None:
    """Without a mesh somebody has to say who peers with whom; else hosts are alone, in silence."""
    no_mesh = resource("BGPConfiguration", "default", nodeToNodeMeshEnabled=False)
    assert told(planned(no_mesh)) == [
        "bgp: this host has no IPv4 session: nodeToNodeMeshEnabled is false and no BGPPeer is for "
        "it, so no other host reaches its containers"
    ]
    router = resource("BGPPeer", "tor", peerIP="192.168.26.254", asNumber=65000)
    assert told(planned(no_mesh, router)) == []
    assert told(planned(no_mesh, hosts=1)) == []


def test_a_reflector_that_nobody_peers_with_is_told() -> None:
    """It leaves the mesh by itself."""
    reflector = resource("Node", "h1", bgp={"routeReflectorClusterID": "244.0.0.1"})
    assert told(planned(reflector)) == [
        "bgp: this host has no IPv4 session: as a route reflector it has left the mesh and no "
        "BGPPeer is for it, so no other host reaches its containers"
    ]
