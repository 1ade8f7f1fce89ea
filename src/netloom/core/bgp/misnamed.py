"""BGPPeers that say a wrong thing of a host of ours, as the store alone can tell.

Such a one decides about no session (``peerings``): it is refused where it is written, and told by
the status of the hosts that it is for where it became wrong afterwards.
"""

from __future__ import annotations

from contextlib import suppress

from netloom.core.bgp.peerings import KIND, is_true_of
from netloom.core.bgp.speakers import Speaker, settings
from netloom.core.resources.bgp import BgpPeer, parse_peer
from netloom.core.resources.contract import Misfits, Picture
from netloom.model.addr import IPAddress
from netloom.model.errors import InvalidConfig


def misnamed(peer: BgpPeer, named: Speaker) -> InvalidConfig | None:
    """Return what is wrong with ``peer``, whose address is that of the host ``named``."""
    name = named.host.name
    if peer.node == name:
        return InvalidConfig(
            f"spec.peerIP: {peer.address} is {name}'s own address",
            field="spec.peerIP",
            value=str(peer.address),
            hint="name the address of another router or host",
        )
    if is_true_of(peer, named):
        return None
    if peer.as_number not in (None, named.as_number):
        return InvalidConfig(
            f"spec.asNumber: {peer.address} is host {name}, of AS {named.as_number} and not "
            f"{peer.as_number}",
            field="spec.asNumber",
            value=peer.as_number,
            hint=f"write asNumber: {named.as_number}",
        )
    return InvalidConfig(
        f"spec.peerIP: {peer.address} is host {name}, which listens at port {named.port} and not "
        f"{peer.port}",
        field="spec.peerIP",
        value=f"port {peer.port}",
        hint=f"leave the port out, or set BGPConfiguration(node.{name}) listenPort: {peer.port}",
    )


def misfits(picture: Picture) -> Misfits:
    """Return, by identity, the BGPPeers that are wrong about a host, and what is."""
    cluster, found = picture.cluster, {}
    named: dict[IPAddress, Speaker] | None = None
    for identity, resource in cluster.resources.items():
        if identity[0] != KIND:
            continue
        if named is None:
            said = settings(cluster)
            named = {
                address: said.speaker(cluster, host)
                for _, host in sorted(cluster.hosts.items(), reverse=True)  # the least id decides
                for address in (host.underlay4, host.underlay6)
                if address is not None
            }
        with suppress(InvalidConfig):  # told by the hosts as one that cannot be read
            peer = parse_peer(resource)
            other = named.get(peer.address) if peer.address is not None else None
            if other is not None and (error := misnamed(peer, other)):
                found[identity] = error
    return found
