"""The blocks of one family as flannel's configuration says them: range, length, first and last."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from netloom.model.addr import Family, IPAddress, IPNetwork
from netloom.model.errors import InvalidConfig
from netloom.store.flannel.document import take


@dataclass(frozen=True, slots=True)
class Span:
    """The blocks of one family: a range, the blocks' length, the first and last one dealt."""

    cidr: IPNetwork
    length: int
    first: IPAddress
    last: IPAddress

    @property
    def left_out(self) -> tuple[IPNetwork, ...]:
        """The parts of the range that no host gets, as CIDRs."""
        start, end = self.cidr[0], self.cidr[-1]
        after = int(self.last) + (1 << (self.cidr.max_prefixlen - self.length))
        parts: list[IPNetwork] = []
        if int(self.first) > int(start):
            parts += _between(start, _same_kind(start, int(self.first) - 1))
        if after <= int(end):
            parts += _between(_same_kind(start, after), end)
        return tuple(parts)


def read_span(known: Mapping[str, Any], family: Family, dot: str) -> Span:
    """Read one family's range with flannel's defaults and checks. Raises InvalidConfig."""
    prefix = "" if family == 4 else "IPv6"
    cidr = _cidr(known, f"{prefix}Network", family, dot)
    longest, usual = (30, 24) if family == 4 else (126, 64)
    name = f"{prefix}SubnetLen"
    length = take(known, name, int, 0, dot)
    if cidr.prefixlen + 2 > longest:
        raise InvalidConfig(
            f"{dot}{prefix}Network: {cidr} is too small for four blocks",
            field=f"{prefix}Network",
            value=str(cidr),
            hint=f"use a /{longest - 2} or larger",
        )
    if length == 0:
        length = usual if cidr.prefixlen <= usual - 2 else cidr.prefixlen + 2
    if not cidr.prefixlen + 2 <= length <= longest:
        raise InvalidConfig(
            f"{dot}{name}: /{length} blocks do not fit: {cidr} has to hold at least four of them, "
            f"and none is smaller than /{longest}",
            field=name,
            value=length,
            hint=f"choose a number from {cidr.prefixlen + 2} to {longest}",
        )
    size = 1 << (cidr.max_prefixlen - length)
    lowest, highest = cidr[0], cidr[-1]
    first = _bound(known, f"{prefix}SubnetMin", (cidr, length), dot)
    last = _bound(known, f"{prefix}SubnetMax", (cidr, length), dot)
    first = first or _same_kind(lowest, int(lowest) + size)
    last = last or _same_kind(lowest, int(highest) + 1 - size)
    if int(first) > int(last):
        raise InvalidConfig(
            f"{dot}{prefix}SubnetMin: {first} is above {prefix}SubnetMax {last}: no block is left",
            field=f"{prefix}SubnetMin",
            value=str(first),
            hint=f"choose a {prefix}SubnetMin of at most {last}",
        )
    return Span(cidr, length, first, last)


def _cidr(known: Mapping[str, Any], name: str, family: Family, dot: str) -> IPNetwork:
    text = take(known, name, str, "", dot)
    if not text:
        raise InvalidConfig(
            f"{dot}{name}: missing",
            field=name,
            hint='e.g. {"Network": "10.244.0.0/16", "Backend": {"Type": "vxlan"}}'
            if family == 4
            else f"give the range, or leave EnableIPv6 out; e.g. {name}: fd00:244::/48",
        )
    try:
        cidr = ipaddress.ip_network(text, strict=False)  # host bits are cut off, as Go does
    except ValueError:
        cidr = None
    if cidr is None or "/" not in text or cidr.version != family:
        raise InvalidConfig(
            f"{dot}{name}: {text!r} is not an IPv{family} range",
            field=name,
            value=text,
            hint="write it as 10.244.0.0/16" if family == 4 else "write it as fd00:244::/48",
        )
    return cidr


def _bound(
    known: Mapping[str, Any], name: str, blocks: tuple[IPNetwork, int], dot: str
) -> IPAddress | None:
    """Read SubnetMin or SubnetMax: the first address of a block inside the range."""
    text = take(known, name, str, "", dot)
    cidr, length = blocks
    if not text:
        return None
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        raise InvalidConfig(
            f"{dot}{name}: {text!r} is not an address",
            field=name,
            value=text,
            hint=f"write it as {cidr[0]}",
        ) from None
    if address.version != cidr.version or address not in cidr:
        raise InvalidConfig(
            f"{dot}{name}: {address} is not in {cidr}",
            field=name,
            value=text,
            hint=f"choose a block of {cidr}",
        )
    block = ipaddress.ip_network((address, length), strict=False)
    if block.network_address != address:
        raise InvalidConfig(
            f"{dot}{name}: {address} is not where a /{length} block begins",
            field=name,
            value=text,
            hint=f"did you mean {block.network_address}?",
        )
    return address


def _between(first: IPAddress, last: IPAddress) -> list[IPNetwork]:
    return list(ipaddress.summarize_address_range(first, last))


def _same_kind(like: IPAddress, number: int) -> IPAddress:
    return type(like)(number)
