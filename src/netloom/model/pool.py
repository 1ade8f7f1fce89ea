"""Pools: the ranges that blocks are cut from, and who may have how much of them."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from netloom.model.addr import Family, IPNetwork, parse_network
from netloom.model.errors import InvalidConfig
from netloom.model.fields import Fields, nearest
from netloom.model.resource import parse_resource_name
from netloom.model.selector import Selector

#: What no container can have as its address (RFC 6890), and why.
_RESERVED: tuple[tuple[IPNetwork, str], ...] = tuple(
    (ipaddress.ip_network(cidr), why)
    for cidr, why in (
        ("0.0.0.0/8", "means this host"),
        ("127.0.0.0/8", "is loopback"),
        ("169.254.0.0/16", "is link-local"),
        ("224.0.0.0/4", "is multicast"),
        ("::/128", "means no address"),
        ("::1/128", "is loopback"),
        ("fe80::/10", "is link-local"),
        ("ff00::/8", "is multicast"),
    )
)


@dataclass(frozen=True, slots=True)
class Pool:
    """A CIDR that blocks are cut from. ``block_size`` is the blocks' prefix length.

    Hosts whose labels ``node_selector`` selects claim blocks of it; None means all hosts. From a
    ``disabled`` pool nobody gets a new address; those in use stay and are routed. From a ``manual``
    one only who asks for an address in it. Blocks of an ``unexported`` one are not announced by
    BGP. ``name`` is what users of Calico call it; "" for a pool that has none.
    """

    cidr: IPNetwork
    block_size: int
    nat_outgoing: bool = True
    name: str = ""
    node_selector: Selector | None = None
    disabled: bool = False
    manual: bool = False
    unexported: bool = False

    @property
    def family(self) -> Family:
        """4 or 6."""
        return self.cidr.version

    @classmethod
    def parse(cls, data: object, where: str, *, default_block_size: Mapping[int, int]) -> Pool:
        """Parse ``{cidr, blockSize, natOutgoing, name, nodeSelector, disabled, …}``.

        Raises InvalidConfig naming the field.
        """
        fields = Fields({"cidr": data} if isinstance(data, str) else data, where)
        cidr = parse_network(fields.take_required("cidr"), fields.path("cidr"))
        _refuse_reserved(cidr, fields.path("cidr"))
        fallback = max(default_block_size[cidr.version], cidr.prefixlen)
        size = fields.take_int("blockSize", fallback, 1, cidr.max_prefixlen)
        if size < cidr.prefixlen:
            raise InvalidConfig(
                f"{fields.path('blockSize')}: a /{size} block does not fit into the pool {cidr}",
                field=fields.path("blockSize"),
                value=size,
                hint=f"choose a prefix length from {cidr.prefixlen} to {cidr.max_prefixlen}",
            )
        nat = fields.take_bool("natOutgoing", True)
        name = fields.take_str("name")
        selector = fields.take("nodeSelector")
        pool = cls(
            cidr,
            size,
            nat,
            parse_resource_name(name, fields.path("name")) if name else "",
            Selector.parse(selector, fields.path("nodeSelector")) if selector else None,
            fields.take_bool("disabled", False),
            _assignment(fields),
            fields.take_bool("disableBGPExport", False),
        )
        fields.done()
        return pool

    def render(self) -> dict[str, Any]:
        """Return the JSON form that :meth:`parse` reads."""
        return {
            "cidr": str(self.cidr),
            "blockSize": self.block_size,
            "natOutgoing": self.nat_outgoing,
            **({"name": self.name} if self.name else {}),
            **({"nodeSelector": self.node_selector.text} if self.node_selector else {}),
            **({"disabled": True} if self.disabled else {}),
            **({"assignmentMode": "Manual"} if self.manual else {}),
            **({"disableBGPExport": True} if self.unexported else {}),
        }

    def open_to(self, labels: Mapping[str, str]) -> bool:
        """Tell whether a host with ``labels`` may claim blocks of this pool."""
        return not self.disabled and (
            self.node_selector is None or self.node_selector.matches(labels)
        )


def _assignment(fields: Fields) -> bool:
    mode = fields.take_str("assignmentMode", "Automatic")
    if mode not in ("Automatic", "Manual"):
        raise InvalidConfig(
            f"{fields.path('assignmentMode')}: {mode!r} is neither Automatic nor Manual",
            field=fields.path("assignmentMode"),
            value=mode,
            hint=nearest(mode, ("Automatic", "Manual")),
        )
    return mode == "Manual"


def _refuse_reserved(cidr: IPNetwork, where: str) -> None:
    for reserved, why in _RESERVED:
        if cidr.version == reserved.version and cidr.overlaps(reserved):
            raise InvalidConfig(
                f"{where}: {cidr} overlaps {reserved}, which {why}",
                field=where,
                value=str(cidr),
                hint="choose a private range, e.g. 10.244.0.0/16 or fd00:10:244::/56",
            )
