"""Which other hosts speak BGP for a network of ours: one at each address, the same for all to see.

BIRD refuses a whole configuration for two sessions with one neighbour, or for one with an address
that cannot be a neighbour's. What another host's record says must not stop it here.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import NamedTuple

from netloom.core.bgp.speakers import Speaker
from netloom.core.resources.values import nobodys
from netloom.model.addr import Family, IPAddress, IPNetwork
from netloom.model.host import Block
from netloom.model.view import Problem, View


class Others(NamedTuple):
    """The other hosts by family, each address once, and who among them is left out."""

    by_family: Mapping[Family, tuple[Speaker, ...]]
    problems: tuple[Problem, ...]


def others(
    view: View,
    ranges: Mapping[str, tuple[IPNetwork, ...]],
    blocks: Collection[Block],
    everyone: Collection[Speaker],
) -> Others:
    """Return the other hosts that speak BGP for one of the networks.

    Of several with one address it is the one with the least id, as long as none of them has left it
    to the one that had it first (agent).
    """
    by_family: dict[Family, tuple[Speaker, ...]] = {}
    problems: list[Problem] = []
    for family in view.facts.underlay:
        found: dict[IPAddress, Speaker] = {}
        for speaker, address in _speaking(view, ranges, blocks, everyone, family):
            if complaint := nobodys(address):
                problems.append(_odd(speaker, address, complaint))
            elif found.setdefault(address, speaker) is not speaker:
                problems.append(_twin(speaker, address, found[address]))
        by_family[family] = tuple(found.values())
    return Others(by_family, tuple(problems))


def _speaking(
    view: View,
    ranges: Mapping[str, tuple[IPNetwork, ...]],
    blocks: Iterable[Block],
    everyone: Iterable[Speaker],
    family: Family,
) -> Iterator[tuple[Speaker, IPAddress]]:
    """Yield the other hosts of one family's networks that have an address, by their ids."""
    holders = {block.host_id for block in blocks if block.cidr.version == family}
    names = {name for name, each in ranges.items() if any(r.version == family for r in each)}
    for speaker in sorted(everyone, key=lambda each: each.host.id):
        host = speaker.host
        address = host.underlay(family)
        if host.id == view.host_id or address is None:
            continue
        if host.id in holders or names.intersection(host.serves):
            yield speaker, address


def _odd(speaker: Speaker, address: IPAddress, complaint: str) -> Problem:
    return Problem(
        "error",
        f"peer {speaker.host.name}",
        f"its underlay address {address} {complaint}: there is no BGP session with it",
        "name the right interface on that host (--interface)",
    )


def _twin(speaker: Speaker, address: IPAddress, keeper: Speaker) -> Problem:
    return Problem(
        "error",
        f"peer {speaker.host.name}",
        f"its underlay address {address} is also host {keeper.host.name}'s ({keeper.host.id}), "
        "with whom the BGP session there is",
        "give each host its own address; `netloom host list` shows who has which",
    )
