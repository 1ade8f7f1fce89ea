"""What a backend says where an underlay address is lacking: on this host, or on a peer."""

from __future__ import annotations

from collections.abc import Collection

from netloom.core.backends.contract import Side
from netloom.model.addr import Family
from netloom.model.host import Host
from netloom.model.view import Problem


def own_addresses(side: Side, backend: str, families: Collection[int]) -> tuple[Problem, ...]:
    """Return a problem per family that ``backend`` needs an underlay address of, and has none."""
    return tuple(
        Problem(
            "error",
            f"network {side.network.name}",
            f"this host has no IPv{family} underlay address, which backend {backend} needs",
            f"give it one, {_without(side, family)}or use backend vxlan",
        )
        for family in families
        if family not in side.facts.underlay
    )


def _without(side: Side, family: int) -> str:
    """Name the pool that could go: a network needs one that stays."""
    return f"or remove the IPv{family} pool, " if len(side.network.families) > 1 else ""


def peers_address(network: str, backend: str, peer: Host, family: Family) -> Problem:
    """Return the problem of a peer without an underlay address of a family."""
    return contested(network, peer, (family,)) or Problem(
        "error",
        f"peer {peer.name}",
        f"network {network}: {peer.name} has no IPv{family} underlay address, which backend "
        f"{backend} needs",
        f"give {peer.name} an IPv{family} address, or use backend vxlan",
    )


def contested(network: str, peer: Host, families: Collection[Family]) -> Problem | None:
    """Return the problem of a peer at an address that another host had before it, if it is so."""
    for family in families:
        if (address := peer.contests(family)) is not None:
            return Problem(
                "error",
                f"peer {peer.name}",
                f"network {network}: {peer.name} came to {address}, which another host had before "
                "it, so nothing is sent there",
                "give each host its own address; `netloom host list` shows who has which",
            )
    return None
