"""Pieces of a topology file: lists that may be written as one, addresses, references."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import TypeVar

from netloom.model.addr import IPAddress, IPInterface, IPNetwork, parse_address
from netloom.model.errors import InvalidConfig
from netloom.model.fields import Fields, nearest

T = TypeVar("T")


def take_each(
    fields: Fields, one: str, many: str, parse: Callable[[object, str], T]
) -> tuple[T, ...] | None:
    """Take a list written as field ``one`` or as field ``many``; None when neither is there.

    Raises InvalidConfig when both are.
    """
    single, several = fields.take(one), fields.take(many)
    if single is not None and several is not None:
        raise InvalidConfig(
            f"{fields.path(one)}: given together with {many}",
            field=fields.path(one),
            value=single,
            hint=f"keep {many} and put all of them there",
        )
    if single is not None:
        return (parse(single, fields.path(one)),)
    if several is None:
        return None
    if not isinstance(several, (list, tuple)):
        raise InvalidConfig(
            f"{fields.path(many)}: {several!r} is not a list",
            field=fields.path(many),
            value=several,
            hint=f"write {many}: [{several}]",
        )
    return tuple(parse(item, fields.path(f"{many}[{i}]")) for i, item in enumerate(several))


def take_text(value: object, where: str) -> str:
    """Return a string as it is. Raises InvalidConfig."""
    if not isinstance(value, str) or not value:
        raise InvalidConfig(f"{where}: {value!r} is not a name", field=where, value=value)
    return value


def parse_interface(
    text: object, where: str, segment: str, subnets: Sequence[IPNetwork]
) -> IPInterface:
    """Parse an address on ``segment``; without a length it takes that of the segment's subnet.

    Raises InvalidConfig when it lies in none of ``subnets``, or is one that no card can have.
    """
    bare, _, length = str(text).partition("/")
    address = parse_address(bare, where)
    subnet = refuse_outside(address, subnets, where, segment)
    if length and length != str(subnet.prefixlen):
        raise InvalidConfig(
            f"{where}: {text}: the subnet of segment {segment} is {subnet}",
            field=where,
            value=text,
            hint=f"write {bare}, or {bare}/{subnet.prefixlen}",
        )
    roomy = subnet.max_prefixlen - subnet.prefixlen > 1
    if roomy and address in (subnet.network_address, subnet.broadcast_address):
        raise InvalidConfig(
            f"{where}: {address} is the first or the last address of {subnet}",
            field=where,
            value=text,
            hint=f"choose one between, e.g. {subnet.network_address + 1}",
        )
    return ipaddress.ip_interface(f"{address}/{subnet.prefixlen}")


def refuse_outside(
    address: IPAddress, subnets: Sequence[IPNetwork], where: str, segment: str
) -> IPNetwork:
    """Return the subnet that holds ``address``. Raises InvalidConfig when none does."""
    for subnet in subnets:
        if subnet.version == address.version and address in subnet:
            return subnet
    raise InvalidConfig(
        f"{where}: {address} is outside segment {segment}",
        field=where,
        value=str(address),
        hint="its subnets: " + ", ".join(map(str, subnets)),
    )


def refuse_twice(names: Iterable[str], where: str, what: str) -> None:
    """Raise InvalidConfig when a name stands twice in ``names``."""
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise InvalidConfig(
                f"{where}: {name!r} names more than one {what}",
                field=where,
                value=name,
                hint="give each a name of its own",
            )
        seen.add(name)


def refuse_unknown(name: object, known: Collection[str], where: str, what: str) -> None:
    """Raise InvalidConfig with the nearest name when ``name`` is not among ``known``."""
    if name not in known:
        raise InvalidConfig(
            f"{where}: no {what} is named {name!r}",
            field=where,
            value=name,
            hint=nearest(str(name), known),
        )
