"""A move away from a backend whose device the kernel refuses ends, and nothing false is said."""

from __future__ import annotations

from tests.unit.core.test_moving import OWN, PEER_BLOCK, a_host, blue
from tests.unit.views import block, view

from netloom.core import moving
from netloom.core.desired import Desired, desired
from netloom.model.kernel import Route


def back_from(old: str, new: str, *served: str) -> Desired:
    """Return what host h1 wants while ``blue`` leaves ``old`` and its peer serves ``served``."""
    hosts = [a_host("h1", "192.168.31.62"), a_host("h2", "192.168.31.63", serves=served)]
    return desired(
        view([blue(old, new)], hosts, [block("10.244.1.0/24", "h1"), PEER_BLOCK], own=OWN)
    )


def of_device(wanted: Desired, device: str) -> set[str]:
    return {key for key in wanted.state if f" {device}" in key or f"/{device}/" in key}


def test_a_retiring_backend_that_the_kernel_does_not_have_holds_nothing_up() -> None:
    """It was chosen by mistake, on a kernel without the module: the way back has to end."""
    wanted = back_from("ipip", "host-gw", "host-gw")
    refused = of_device(wanted, "tunl0")
    assert {"link tunl0", "sysctl ipv4/conf/tunl0/rp_filter"} <= refused
    left = moving.in_kernel(wanted, refused)
    assert left.standing["blue"].serves == ("host-gw",), "what is not in the kernel is not served"
    assert not left.late


def test_the_ways_to_peers_that_lean_on_such_a_device_hold_nothing_up_either() -> None:
    """The network was made with it, on hosts that all lack the module: nobody serves anything."""
    wanted = back_from("ipip", "host-gw")
    route = "route 10.244.2.0/24"
    way = wanted.state[route]
    assert isinstance(way, Route)
    assert way.link == "tunl0"
    left = moving.in_kernel(wanted, of_device(wanted, "tunl0") | {route})
    assert left.standing["blue"].serves == ("host-gw",)
    assert left.late == {"blue"}, "the peer has yet to come"
    assert not moving.in_kernel(wanted, {route}).standing, "refused for a reason of its own"


def test_a_wanted_backend_that_is_refused_holds_the_move_up_as_ever() -> None:
    wanted = back_from("host-gw", "ipip", "ipip")
    assert not moving.in_kernel(wanted, {"link tunl0"}).standing
    assert not moving.in_kernel(wanted, {"sysctl ipv4/conf/tunl0/rp_filter"}).standing


def test_what_both_lean_on_holds_it_up_too() -> None:
    wanted = back_from("ipip", "host-gw", "host-gw")
    card = "sysctl ipv4/conf/ens33/rp_filter"
    assert not moving.in_kernel(wanted, {"link tunl0", card}).standing
    assert not moving.in_kernel(wanted, {"link tunl0", "route 10.244.2.0/24"}).standing
