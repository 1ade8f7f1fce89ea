"""A tunnel's own address is never a container's, whatever backend the network had before."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.unit.views import block, endpoint, facts, host, ip, net, network, view

from netloom.core.backends.contract import Side
from netloom.core.backends.tunnel_end import kept_back, tunnel_ends
from netloom.core.desired import desired
from netloom.model.kernel import Address

OWN = facts("192.168.31.62/24", "fd31::62/64")
POOLS = ("10.244.0.0/16", "fd00:10:244::/112")


def ends(*blocks: str, taken: tuple[str, ...] = ()) -> list[str]:
    held = tuple(block(cidr, "h1") for cidr in blocks)
    side = Side(network("blue", *POOLS), host("h1"), OWN, held, frozenset(map(ip, taken)))
    return [str(address) for _, address in sorted(tunnel_ends(side).items())]


@pytest.mark.parametrize(
    ("blocks", "taken", "expected"),
    [
        (["10.244.1.0/30"], [], ["10.244.1.0"]),
        (["10.244.1.0/30"], ["10.244.1.1"], ["10.244.1.0"]),
        (["10.244.1.0/30"], ["10.244.1.0"], ["10.244.1.3"]),
        (["10.244.1.0/30"], ["10.244.1.0", "10.244.1.3"], ["10.244.1.2"]),
        (["10.244.1.0/31", "10.244.2.0/30"], ["10.244.1.0", "10.244.1.1"], ["10.244.2.0"]),
        (["10.244.1.0/32"], ["10.244.1.0"], []),
        (
            ["10.244.1.0/30", "fd00:10:244::40/122"],
            ["fd00:10:244::40"],
            ["10.244.1.0", "fd00:10:244::7f"],
        ),
        ([], [], []),
    ],
)
def test_it_is_the_first_of_the_block_or_the_last_that_nobody_has(
    blocks: list[str], taken: list[str], expected: list[str]
) -> None:
    assert ends(*blocks, taken=tuple(taken)) == expected


def test_the_first_address_is_kept_back_even_while_a_container_has_it() -> None:
    """So the tunnel gets it as soon as that container goes, and another one never does."""
    held = block("10.244.1.0/26", "h1")
    assert kept_back(held, [ip("10.244.1.63"), ip("10.244.9.9")]) == {
        ip("10.244.1.0"),
        ip("10.244.1.63"),
    }


@pytest.mark.parametrize("backend", ["vxlan", "ipip", "udp"])
def test_a_tunnel_leaves_the_first_address_to_the_container_that_has_it(backend: str) -> None:
    """Dealt while the network had no tunnel; in the kernel it is the container's alone."""
    blue = network(
        backend=backend, attachment="routed", pools=[{"cidr": "10.244.0.0/16", "blockSize": 26}]
    )
    own = block("10.244.1.0/26", "h1")
    there = [endpoint("a", "10.244.1.0"), endpoint("b", "10.244.1.63")]
    wanted = desired(view([blue], [host("h1")], [own], own=facts("192.168.31.62/24")))
    later = desired(
        view([blue], [host("h1")], [own], own=facts("192.168.31.62/24"), endpoints=there)
    )
    assert [a.interface.ip for a in _addresses(wanted)] == [ip("10.244.1.0")]
    assert [a.interface.ip for a in _addresses(later)] == [ip("10.244.1.62")]
    assert "route 10.244.1.0/32" in later.state
    assert later.standing["blue"].excluded(own) == {ip("10.244.1.0"), ip("10.244.1.62")}


@pytest.mark.parametrize("backend", ["vxlan", "ipip", "udp"])
def test_a_tunnel_leaves_an_address_to_the_host_that_has_borrowed_it(backend: str) -> None:
    """Lent while the network had no tunnel: from the block's last address down."""
    blue = network(
        backend=backend, attachment="routed", pools=[{"cidr": "10.244.0.0/16", "blockSize": 26}]
    )
    seen = view(
        [blue],
        [host("h1")],
        [block("10.244.1.0/26", "h1")],
        endpoints=[endpoint("a", "10.244.1.0")],
    )
    lent = frozenset({("blue", ip("10.244.1.63")), ("red", ip("10.244.1.62"))})
    assert [a.interface.ip for a in _addresses(desired(seen))] == [ip("10.244.1.63")]
    ends = _addresses(desired(replace(seen, lent=lent)))
    assert [a.interface.ip for a in ends] == [ip("10.244.1.62")]


def test_the_broadcast_address_of_udps_pool_is_no_tunnels() -> None:
    blue = network(
        backend="udp", attachment="routed", pools=[{"cidr": "10.244.0.0/24", "blockSize": 26}]
    )
    own = block("10.244.0.192/26", "h1")
    there = [endpoint("a", "10.244.0.192")]
    wanted = desired(
        view([blue], [host("h1")], [own], own=facts("192.168.31.62/24"), endpoints=there)
    )
    assert [a.interface.ip for a in _addresses(wanted)] == [ip("10.244.0.254")]
    assert own.cidr == net("10.244.0.192/26")


def _addresses(wanted) -> list[Address]:
    return [obj for obj in wanted.state.values() if isinstance(obj, Address)]
