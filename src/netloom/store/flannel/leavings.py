"""What flannel's daemon leaves in a host's kernel when it ends, and our agent goes on with.

Pure. flannel marks nothing as its own, so a thing is recognised by what only flannel's daemon of
this very network would have made:

- a VXLAN device that is called after its VNI (``flannel.1``, ``flannel-v6.1``) and has no alias,
  or ours, from before this host went back to flannel;
- a route on such a device into one of the network's pools;
- a route to exactly the block of a peer by way of that peer's address (host-gw, DirectRouting).

Going on means to put our mark on it. Nothing is taken away for that, so traffic goes on too.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace

from netloom.model.kernel import ALIAS_PREFIX, ROUTE_PROTOCOL, KernelObject, Link, Route
from netloom.model.network import Network
from netloom.model.view import Cluster

_DEVICE = re.compile(r"flannel(?:-v6)?\.([0-9]{1,10})")
#: RTPROT_BOOT: what is set without naming a protocol, as flannel does.
_UNNAMED = 3


def leavings(
    objects: Iterable[KernelObject], network: Network, cluster: Cluster
) -> list[tuple[KernelObject, KernelObject]]:
    """Return what flannel left behind for ``network``: each thing as it is and with our mark."""
    objects = list(objects)
    mark = ALIAS_PREFIX + network.name
    links = [obj for obj in objects if isinstance(obj, Link) and _is_device(obj)]
    # one that has our mark is ours from before: flannel went on with it, and set its own routes
    devices = {link.name for link in links if link.alias in ("", mark)}
    found: list[tuple[KernelObject, KernelObject]] = [
        (link, replace(link, alias=mark)) for link in links if not link.alias
    ]
    gateways = {
        (block.cidr, peer.underlay(block.cidr.version))
        for block in cluster.blocks.values()
        if block.network == network.name and (peer := cluster.hosts.get(block.host_id))
    }
    for obj in objects:
        if not isinstance(obj, Route) or obj.protocol != _UNNAMED:
            continue
        inside = any(
            pool.family == obj.destination.version and obj.destination.overlaps(pool.cidr)
            for pool in network.pools
        )
        direct = obj.gateway is not None and (obj.destination, obj.gateway) in gateways
        if direct or (obj.link in devices and inside):
            found.append((obj, replace(obj, protocol=ROUTE_PROTOCOL)))
    return found


def _is_device(link: Link) -> bool:
    match = _DEVICE.fullmatch(link.name)
    return bool(match and link.vxlan and link.vxlan.vni == int(match[1]))
