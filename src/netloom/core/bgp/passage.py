"""Routers on the way that nobody told of our blocks: plain packets to containers end there.

BGP between two hosts on different segments says nothing to the routers between them. Such a router
has to be a peer itself (a BGPPeer), or to have been told in a way that is not seen from here.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping

from netloom.core.backends.contract import Prepared, announces
from netloom.core.bgp.peerings import peers, routers
from netloom.core.bgp.session import Session
from netloom.core.bgp.speakers import Speaker, settings
from netloom.model.addr import Family, IPNetwork
from netloom.model.errors import Conflict
from netloom.model.host import Block, Host, named
from netloom.model.view import Cluster, Problem, View

_REMEDY = (
    "write a BGPPeer for the router, or choose a backend with tunnels: vxlan, or ipip, which with "
    "CrossSubnet have them between segments alone"
)


def untold(
    view: View,
    blocks: Iterable[Block],
    sessions: Iterable[Session],
    speakers: Mapping[Family, Iterable[Speaker]],
) -> Iterator[Problem]:
    """Yield, for each family, who of ``speakers`` is behind a router that this host tells nothing.

    ``blocks`` are those that BGP tells of.
    """
    told = {session.family for session in sessions if session.router}
    near = {interface.network for _, interface, _ in view.facts.candidates}
    near |= {interface.network for _, interface in view.facts.underlay.values()}
    for family in sorted(view.facts.underlay.keys() - told):
        others = [b for b in blocks if b.cidr.version == family and b.host_id != view.host_id]
        if far := _beyond((each.host for each in speakers[family]), near, others, family):
            yield Problem(
                "warning",
                "bgp",
                f"a router is between this host and {named(far)}, and no BGPPeer lets this host "
                f"tell it of its blocks: IPv{family} packets to containers there are lost, unless "
                "the router knows the way by other means",
                _REMEDY,
            )


def refuse_untold(cluster: Cluster, name: str, sides: Iterable[tuple[Host, Prepared]]) -> None:
    """Refuse that network ``name`` is led over such a router. Raises Conflict.

    ``sides`` are the hosts that hold blocks, with the new backend there. Only of hosts whose
    records tell their segments something is known.
    """
    said = settings(cluster)
    speakers = [said.speaker(cluster, host) for host in cluster.hosts.values()]
    asked = peers(cluster, speakers).all
    hosts = {
        address: speaker
        for speaker in speakers
        for address in (speaker.host.underlay4, speaker.host.underlay6)
        if address is not None
    }
    of_network = [block for block in cluster.blocks.values() if block.network == name]
    for host, prepared in sides:
        own = said.speaker(cluster, host)
        told = {p.address.version for p in routers(asked, own, hosts) if p.address is not None}
        blocks = [
            block
            for block in of_network
            if block.host_id != host.id
            and block.cidr.version not in told
            and host.underlay(block.cidr.version) is not None
            and announces(prepared, block)
        ]
        for family in sorted({block.cidr.version for block in blocks}):
            of_family = [block for block in blocks if block.cidr.version == family]
            if far := _beyond(cluster.hosts.values(), host.segments, of_family, family):
                raise Conflict(
                    f"backend: a router is between {host.name} and {named(far)}, and no BGPPeer "
                    f"lets {host.name} tell it of its blocks: IPv{family} packets to containers "
                    "there would be lost",
                    hint=f"{_REMEDY}; if the router knows the way by other means: netloom network "
                    f"set {name} backend=bgp --force",
                )


def _beyond(
    hosts: Iterable[Host], near: Collection[IPNetwork], blocks: Iterable[Block], family: Family
) -> list[Host]:
    """Return the holders of ``blocks`` among ``hosts`` that are on no network of ``near``."""
    holders = {block.host_id for block in blocks}
    return [
        host
        for host in hosts
        if host.id in holders
        and (address := host.underlay(family)) is not None
        and not any(address in network for network in near)
    ]
