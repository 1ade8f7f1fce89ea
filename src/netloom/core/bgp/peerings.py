"""Which resource asks for which session: BGPPeers, matched with hosts.

A BGPPeer asks for sessions of the hosts that it is for with a router, or with other hosts: then
both sides hold them, whichever of the two it is for. Of several resources that ask for one session
one decides, the same on both sides: what is for one ``node`` first, then by ``nodeSelector``, then
for all; of equals the first by name. Source: reference/calico.md §1.1, §5.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from netloom.core.bgp.speakers import Speaker
from netloom.core.resources.bgp import BgpPeer, parse_peer
from netloom.core.resources.contract import unreadable
from netloom.model.addr import Family, IPAddress
from netloom.model.errors import InvalidConfig
from netloom.model.view import Cluster, Problem

KIND = "BGPPeer"


class Pairing(NamedTuple):
    """The resource that decides about the session of two hosts, seen from one of them.

    ``here``: it is for this host; ``there``: for the other one.
    """

    peer: BgpPeer
    here: bool
    there: bool


class Peers(NamedTuple):
    """All BGPPeers, and what of them cannot be read."""

    all: tuple[BgpPeer, ...]
    problems: tuple[Problem, ...]


def peers(cluster: Cluster, speakers: Iterable[Speaker]) -> Peers:
    """Read all BGPPeers, in the order in which they decide; say which of them nobody heeds."""
    found, problems = [], []
    for (kind, _, _), resource in cluster.resources.items():
        if kind == KIND:
            try:
                found.append(parse_peer(resource))
            except InvalidConfig as error:
                problems.append(unreadable(resource, error))
    found.sort(key=lambda peer: (rank(peer), peer.name))
    everyone = tuple(speakers)
    for peer in found:
        problems += _heedless(peer, everyone)
    return Peers(tuple(found), tuple(problems))


def rank(peer: BgpPeer) -> int:
    """Return how special a resource is; the least decides."""
    return 0 if peer.node else 1 if peer.node_selector else 2


def subject(peer: BgpPeer) -> str:
    """Return how problems name a resource."""
    return f"{KIND}({peer.name})"


def is_for(peer: BgpPeer, speaker: Speaker) -> bool:
    """Tell whether ``peer`` asks for sessions of this host."""
    if peer.node:
        return peer.node == speaker.host.name
    return peer.node_selector is None or peer.node_selector.matches(speaker.labels)


def pairing(
    all_peers: Iterable[BgpPeer], own: Speaker, other: Speaker, family: Family
) -> Pairing | None:
    """Return what decides about the session of ``own`` with ``other``; None when nothing does.

    What names one of the two and has its AS number or port wrong decides nothing, on either side:
    the mesh, or the next resource, stays in force.
    """
    for peer in all_peers:
        here = is_for(peer, own) and _names(peer, other, family)
        there = is_for(peer, other) and _names(peer, own, family)
        if (here or there) and is_true_of(peer, other if here else own):
            return Pairing(peer, here, there)
    return None


def is_true_of(peer: BgpPeer, named: Speaker) -> bool:
    """Tell whether ``peer`` has the AS number and the port, if any, of the host that it names."""
    return peer.as_number in (None, named.as_number) and peer.port in (None, named.port)


def routers(
    all_peers: Iterable[BgpPeer], own: Speaker, hosts: Mapping[IPAddress, Speaker]
) -> Iterator[BgpPeer]:
    """Yield what asks for sessions of ``own`` with addresses that are no host's, best first."""
    for peer in all_peers:
        if peer.address is not None and peer.address not in hosts and is_for(peer, own):
            yield peer


def _names(peer: BgpPeer, other: Speaker, family: Family) -> bool:
    if peer.peer_selector is not None:
        return peer.peer_selector.matches(other.labels)
    return peer.address is not None and peer.address == other.host.underlay(family)


def _heedless(peer: BgpPeer, speakers: tuple[Speaker, ...]) -> Iterator[Problem]:
    for field, selector in (
        ("nodeSelector", peer.node_selector),
        ("peerSelector", peer.peer_selector),
    ):
        if selector is not None and not any(selector.matches(each.labels) for each in speakers):
            yield Problem(
                "warning",
                subject(peer),
                f"spec.{field}: {selector.text!r} selects no host",
                "label hosts: netloom label node NAME key=value",
            )
    if peer.node and not any(each.host.name == peer.node for each in speakers):
        yield Problem(
            "warning",
            subject(peer),
            f"spec.node: no host is called {peer.node!r}",
            "see netloom host list",
        )
