"""What the document of an IPPool says, on its own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from netloom.core.backends.calico_modes import MODES, choice_of
from netloom.core.backends.table import BACKENDS
from netloom.core.resources.values import take_unused, take_word
from netloom.model.errors import InvalidConfig
from netloom.model.fields import Fields
from netloom.model.pool import Pool
from netloom.model.resource import Resource

#: The annotation that names the network which a pool is to be in.
NETWORK = "netloom/network"
_BLOCK_SIZES = {4: 26, 6: 122}
_LIMITS = {4: (20, 32), 6: (116, 128)}
#: What of the spec goes to the pool itself, by the same names.
_OF_POOL = (
    "cidr",
    "blockSize",
    "natOutgoing",
    "nodeSelector",
    "disabled",
    "disableBGPExport",
    "assignmentMode",
)
_UNUSED = ("namespaceSelector", "allowedUses")
_USES = ("Workload", "Tunnel", "LoadBalancer")


class Asked(NamedTuple):
    """What a document says: the pool, and its backend's modes."""

    pool: Pool
    ipip: str
    vxlan: str


def check(resource: Resource) -> tuple[str, ...]:
    """Check an IPPool on its own; return what has no effect here."""
    read(resource)
    fields = Fields(resource.spec, "spec")
    uses = fields.take_list("allowedUses")
    for i, use in enumerate(uses):
        name = f"allowedUses[{i}]"
        take_word(Fields({name: use}, fields.where), name, _USES)
    ignored = [*take_unused(fields, ("namespaceSelector",)), *_unkept(resource)]
    return (*ignored, *(() if not uses or "Workload" in uses else ("spec.allowedUses",)))


def _unkept(resource: Resource) -> Iterator[str]:
    """Yield what of the metadata is not kept: a pool is a part of its network's definition."""
    if resource.labels:
        yield "metadata.labels: a pool keeps none"
    if resource.annotations.keys() - {NETWORK}:
        yield f"metadata.annotations: of a pool {NETWORK} alone is kept"


def read(resource: Resource) -> Asked:
    """Read a document. Raises InvalidConfig."""
    fields = Fields(resource.spec, "spec")
    ipip = take_word(fields, "ipipMode", MODES) or "Never"
    vxlan = take_word(fields, "vxlanMode", MODES) or "Never"
    if "Never" not in (ipip, vxlan):
        raise InvalidConfig(
            f"spec.vxlanMode: ipipMode {ipip} and vxlanMode {vxlan} exclude each other",
            field="spec.vxlanMode",
            value=vxlan,
            hint="set one of them to Never",
        )
    take_unused(fields, _UNUSED)
    spec = {name: fields.take(name) for name in _OF_POOL}
    if spec["cidr"] is None:
        raise fields.missing("cidr")
    fields.done()
    data = {**{k: v for k, v in spec.items() if v is not None}, "name": resource.name}
    data.setdefault("natOutgoing", False)
    if data.get("nodeSelector") == "all()":
        del data["nodeSelector"]
    pool = Pool.parse(data, "spec", default_block_size=_BLOCK_SIZES)
    low, high = _LIMITS[pool.family]
    if not low <= pool.block_size <= high:
        raise InvalidConfig(
            f"spec.blockSize: {pool.block_size} is out of range {low}..{high}",
            field="spec.blockSize",
            value=pool.block_size,
            hint=f"choose a prefix length from {low} to {high}",
        )
    backend = choice_of(ipip, vxlan).type
    if pool.family not in BACKENDS[backend].families:
        raise InvalidConfig(
            f"spec.ipipMode: backend {backend} does not carry IPv{pool.family}",
            field="spec.ipipMode",
            value=ipip,
            hint="set ipipMode: Never, and vxlanMode where routes alone do not suffice",
        )
    return Asked(pool, ipip, vxlan)
