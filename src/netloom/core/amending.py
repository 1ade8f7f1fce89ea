"""Creating and changing networks: what has to hold before a definition is written.

Whoever changes one (``netloom network set``, a resource IPPool) asks here, so that the same is
refused in the same words everywhere. Pure: cluster and endpoints in, a definition out.
"""

from __future__ import annotations

from collections.abc import Iterable

from netloom.core import definition, devices, moving
from netloom.core.bgp import passage
from netloom.core.ipam.blocks import within
from netloom.model.endpoint import Endpoint
from netloom.model.errors import Conflict, InvalidConfig
from netloom.model.network import Network
from netloom.model.view import Cluster


def changed(
    cluster: Cluster, endpoints: Iterable[Endpoint], asked: Network, *, force: bool = False
) -> Network:
    """Return what to write so that the network of this name becomes ``asked``.

    With ``force`` also what cuts off containers. Raises InvalidConfig for what cannot be, Conflict
    for what would take something from containers that are attached.
    """
    before = cluster.networks[asked.name]
    wanted = moving.begin(before, asked)
    check_fit(cluster, wanted)
    if wanted.backend != before.backend:
        devices.refuse_lacking(cluster, wanted, before)
        moving.refuse_impossible(cluster, wanted)
        if not force:
            moving.refuse_gap(cluster, wanted)
            passage.refuse_untold(cluster, wanted.name, moving.sides(cluster, wanted))
    if not force:
        _refuse_homeless_blocks(cluster, wanted)
        _refuse_other_attachment(cluster, endpoints, wanted)
    return wanted


def check_new(cluster: Cluster, wanted: Network) -> None:
    """Refuse a new network that fits not in, or that some host could not make. InvalidConfig."""
    check_fit(cluster, wanted)
    devices.refuse_lacking(cluster, wanted)


def check_fit(cluster: Cluster, wanted: Network) -> None:
    """Refuse a network that collides with another, or with where the hosts are."""
    definition.check_against(wanted, cluster.networks.values())
    for index, pool in enumerate(wanted.pools):
        for host in cluster.hosts.values():
            address = host.underlay(pool.family)
            if address and address in pool.cidr:
                raise InvalidConfig(
                    f"pools[{index}].cidr: {pool.cidr} contains the underlay address {address} "
                    f"of host {host.name}",
                    field=f"pools[{index}].cidr",
                    value=str(pool.cidr),
                    hint="choose a range that the hosts' own network does not use",
                )


def inside(cluster: Cluster, endpoints: Iterable[Endpoint], name: str) -> str:
    """Say how many interfaces are in a network and on which hosts; "" for none."""
    attached = [endpoint for endpoint in endpoints if endpoint.network == name]
    if not attached:
        return ""
    ids = {endpoint.host_id for endpoint in attached}
    names = {host.name for host in cluster.hosts.values() if host.id in ids} or ids
    count = f"{len(attached)} attached interface{'s' if len(attached) > 1 else ''}"
    return f"{count} on {', '.join(sorted(names))}"


def _refuse_homeless_blocks(cluster: Cluster, wanted: Network) -> None:
    for block in cluster.blocks.values():
        if block.network != wanted.name:
            continue
        if not any(within(block.cidr, pool.cidr) for pool in wanted.pools):
            raise Conflict(
                f"block {block.cidr} of host {block.host_id} would be in no pool any more",
                hint="set disabled=true of the pool first: its blocks go with their containers; "
                "--force cuts these off",
            )


def _refuse_other_attachment(
    cluster: Cluster, endpoints: Iterable[Endpoint], wanted: Network
) -> None:
    """Refuse it while containers are attached: what is inside them fits the former one only."""
    before = cluster.networks[wanted.name].attachment.type
    if wanted.attachment.type == before:
        return
    if held := inside(cluster, endpoints, wanted.name):
        raise Conflict(
            f"attachment.type: network {wanted.name} has {held}, which {before} attached: "
            f"{wanted.attachment.type} would cut them off",
            hint="stop those containers first, or use --force and attach them anew",
        )
