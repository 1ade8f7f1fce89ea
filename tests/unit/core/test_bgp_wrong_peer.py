"""A BGPPeer that says a wrong thing of a host of ours: it is told, and takes no session away."""

from __future__ import annotations

from typing import Any

import pytest
from tests.unit.core.test_bgp_resources import names, planned, resource, session_of, told

from netloom.core.resources.table import KINDS
from netloom.model.errors import InvalidConfig

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


NOBODYS = (
    "fe80::1",
    "::",
    "::1",
    "ff02::1",
    "::ffff:192.0.2.1",
    "0.0.0.0",
    "127.0.0.1",
    "224.0.0.1",
    "255.255.255.255",
)


@pytest.mark.parametrize("field", ["peerIP", "reachableBy"])
@pytest.mark.parametrize("address", NOBODYS)
def test_an_address_that_is_no_machines_is_refused_before_it_is_written(
    address: str, field: str
) -> None:
    """BIRD would take none of it, or wait for nobody."""
    same = "fd26::9" if ":" in address else "192.168.26.254"
    spec = {"peerIP": same, "asNumber": 65000, field: address}
    with pytest.raises(InvalidConfig) as caught:
        KINDS["BGPPeer"].whole(resource("BGPPeer", "p", **spec))
    assert (caught.value.field, caught.value.value) == (f"spec.{field}", address)
    assert caught.value.hint


@pytest.mark.parametrize("address", ["169.254.77.1", "240.0.0.1", "192.168.26.254:1790"])
def test_addresses_that_some_routers_have_are_taken(address: str) -> None:
    KINDS["BGPPeer"].whole(resource("BGPPeer", "p", peerIP=address, asNumber=65000))


@pytest.mark.parametrize("spec", [{"peerIP": "fe80::1"}, {"peerIP": "::", "reachableBy": "::"}])
def test_one_that_another_hand_wrote_is_left_out_and_told(spec: dict[str, Any]) -> None:
    made = planned(resource("BGPPeer", "odd", asNumber=65000, **spec))
    assert names(made) == names(planned())
    assert [each for each in told(made) if each.startswith("BGPPeer(odd): spec.peerIP: ")]


@pytest.mark.parametrize("own", ["h1", "h2"])
def test_a_port_where_the_host_that_is_named_does_not_listen_is_told(own: str) -> None:
    """It decides nothing, as one with a wrong AS number does."""
    wrong = resource("BGPPeer", "odd", peerIP="192.168.26.1:1790", asNumber=64512)
    made = planned(wrong, own=own)
    assert names(made) == names(planned(own=own))
    assert told(made) == [
        "BGPPeer(odd): spec.peerIP: 192.168.26.1 is host h1, which listens at port 179 and not 1790"
    ]


@pytest.mark.parametrize(("written", "agrees"), [("", True), (":1790", True), (":179", False)])
def test_the_port_of_a_host_is_the_one_that_its_configuration_says(
    written: str, agrees: bool
) -> None:
    elsewhere = resource("BGPConfiguration", "node.h1", listenPort=1790)
    peer = resource("BGPPeer", "p", peerIP=f"192.168.26.1{written}", asNumber=64512)
    made = planned(elsewhere, peer, own="h2")
    assert session_of(made, "192.168.26.1").port == 1790
    assert bool(told(made)) != agrees
    assert names(made)[0] == ("Global_" if agrees else "Mesh_") + "192_168_26_1"
