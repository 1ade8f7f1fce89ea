"""The IPAMConfiguration ``default``: what people say of the addresses of all networks at once.

Kept as the document that it is. Of it ``maxBlocksPerHost`` has an effect: on-demand networks give a
host no more blocks of a pool. Addresses are never borrowed here, which ``strictAffinity`` asks for.
Source: reference/calico.md §3.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from netloom.model.errors import InvalidConfig
from netloom.model.fields import Fields
from netloom.model.network import Network
from netloom.model.resource import Resource
from netloom.model.view import Cluster

KIND, NAME = "IPAMConfiguration", "default"
_MOST_BLOCKS = 4096
_LONGEST_COOLDOWN_S = 1200


@dataclass(frozen=True, slots=True)
class IpamConfiguration:
    """What the document says; ``max_blocks`` 0 means that it sets no limit."""

    strict: bool = True
    max_blocks: int = 0
    ignored_fields: tuple[str, ...] = ()


def limited(cluster: Cluster, network: Network) -> Network:
    """Return a network with the limit of blocks that holds for a host: the smaller one there is."""
    most = configuration(cluster).max_blocks
    addressing = network.addressing
    if addressing.mode != "on-demand" or not 0 < most < addressing.max_blocks_per_host:
        return network
    return replace(network, addressing=replace(addressing, max_blocks_per_host=most))


def configuration(cluster: Cluster) -> IpamConfiguration:
    """Return what is configured; a document that does not parse configures nothing."""
    document = cluster.resources.get((KIND, "", NAME))
    try:
        return parse(document.spec) if document else IpamConfiguration()
    except InvalidConfig:
        return IpamConfiguration()  # whoever wrote it past the check


def parse(spec: Mapping[str, Any]) -> IpamConfiguration:
    """Read a spec. Raises InvalidConfig."""
    fields = Fields(spec, "spec")
    strict = fields.take_bool("strictAffinity", False)
    automatic = fields.take_bool("autoAllocateBlocks", True)
    most = fields.take_int("maxBlocksPerHost", 0, 0, _MOST_BLOCKS)
    cooldown = fields.take_int("ipCooldownSeconds", 0, 0, _LONGEST_COOLDOWN_S)
    virtual = fields.take("kubeVirtVMAddressPersistence")
    fields.done()
    if not automatic:
        raise InvalidConfig(
            "spec.autoAllocateBlocks: false: hosts always claim the blocks that they need",
            field="spec.autoAllocateBlocks",
            value=False,
            hint="to keep hosts from a pool, give the pool a nodeSelector or disabled: true",
        )
    if most and not strict:
        raise InvalidConfig(
            f"spec.maxBlocksPerHost: {most} goes with strictAffinity: true alone",
            field="spec.maxBlocksPerHost",
            value=most,
            hint="set strictAffinity: true; addresses are never borrowed here in any case",
        )
    ignored = (
        "" if strict else "strictAffinity: no host ever borrows addresses of another's block",
        "ipCooldownSeconds: what was freed last is dealt last" if cooldown else "",
        "kubeVirtVMAddressPersistence" if virtual is not None else "",
    )
    return IpamConfiguration(strict, most, tuple(f"spec.{text}" for text in ignored if text))


def check(resource: Resource) -> tuple[str, ...]:
    """Check an IPAMConfiguration; return what of it has no effect here."""
    if resource.name != NAME:
        raise InvalidConfig(
            f"metadata.name: {resource.name!r}: there is one {KIND}, called {NAME!r}",
            field="metadata.name",
            value=resource.name,
            hint=f"call it {NAME}",
        )
    return parse(resource.spec).ignored_fields
