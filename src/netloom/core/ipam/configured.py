"""The IPAMConfiguration ``default``: what people say of the addresses of all networks at once.

Kept as the document that it is. Of it ``maxBlocksPerHost`` has an effect: on-demand networks give a
host no more blocks of a pool, and ``strictAffinity``: where it is written, it says for all networks
whose attachment lends whether hosts borrow addresses of each other's blocks. Calico does unless it
is told not to; here nobody borrows who was not told to. Source: reference/calico.md §3.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from netloom.model.errors import InvalidConfig
from netloom.model.fields import Fields
from netloom.model.network import Addressing, Network
from netloom.model.resource import Resource
from netloom.model.surprise import foreseen
from netloom.model.view import Cluster

KIND, NAME = "IPAMConfiguration", "default"
_MOST_BLOCKS = 4096
_LONGEST_COOLDOWN_S = 1200


@dataclass(frozen=True, slots=True)
class IpamConfiguration:
    """What the document says; ``max_blocks`` 0 and ``strict`` None mean that it says nothing."""

    strict: bool | None = None
    max_blocks: int = 0
    ignored_fields: tuple[str, ...] = ()


def limited(cluster: Cluster, network: Network, *, lends: bool = False) -> Network:
    """Return a network with what holds for its hosts: the smaller limit of blocks, and borrowing.

    ``lends`` tells whether its attachment can lend.
    """
    said, addressing = configuration(cluster), network.addressing
    if addressing.mode != "on-demand":
        return network
    most = min(said.max_blocks or addressing.max_blocks_per_host, addressing.max_blocks_per_host)
    borrowing = lends and (addressing.borrowing if said.strict is None else not said.strict)
    if (most, borrowing) == (addressing.max_blocks_per_host, addressing.borrowing):
        return network
    return replace(network, addressing=Addressing(addressing.mode, most, borrowing))


def configuration(cluster: Cluster) -> IpamConfiguration:
    """Return what is configured; a document that does not parse configures nothing."""
    document = cluster.resources.get((KIND, "", NAME))
    try:
        return parse(document.spec) if document else IpamConfiguration()
    except InvalidConfig:
        return IpamConfiguration()  # whoever wrote it past the check


@foreseen
def parse(spec: Mapping[str, Any]) -> IpamConfiguration:
    """Read a spec. Raises InvalidConfig."""
    fields = Fields(spec, "spec")
    strict = fields.take_bool("strictAffinity", False) if "strictAffinity" in spec else None
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
            hint="set strictAffinity: true",
        )
    ignored = (
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
