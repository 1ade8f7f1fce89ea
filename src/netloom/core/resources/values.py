"""Values that several kinds have in their specs, each read with errors that name the field.

The ``take_*`` functions extend :class:`netloom.model.fields.Fields`; all raise InvalidConfig.
"""

from __future__ import annotations

import re

from netloom.model.addr import IPAddress, parse_address, parse_network
from netloom.model.errors import InvalidConfig
from netloom.model.fields import Fields, nearest, whole_number
from netloom.model.resource import Resource
from netloom.model.secret import Secret
from netloom.model.selector import Selector

MAX_AS = (1 << 32) - 1
BGP_PORT = 179
#: Where no single machine is that others could send to, each with what it is instead. Link-local
#: IPv4 addresses are some routers' own; link-local IPv6 ones mean nothing without an interface.
_NOBODYS = {
    "0.0.0.0/32": "means no address",
    "127.0.0.0/8": "is the loopback's",
    "224.0.0.0/4": "is a multicast group's",
    "255.255.255.255/32": "is everyone's",
    "::/128": "means no address",
    "::1/128": "is the loopback's",
    "::ffff:0:0/96": "is an IPv4 address",
    "fe80::/10": "is link-local, and means another machine on each interface",
    "ff00::/8": "is a multicast group's",
}
#: The same as numbers (family, first, last): for a plan of BGP thousands of hosts are looked at.
_NOBODYS_BY_NUMBER = [
    (cidr.version, int(cidr.network_address), int(cidr.broadcast_address), text)
    for cidr, text in ((parse_network(each, ""), text) for each, text in _NOBODYS.items())
]
_DURATION = re.compile(r"(?:([0-9]{1,10})h)?(?:([0-9]{1,10})m)?(?:([0-9]{1,10})s)?")
_COMMUNITY = re.compile(r"([0-9]{1,10}):([0-9]{1,10})(?::([0-9]{1,10}))?")
_AS = re.compile(r"([0-9]{1,10})(?:\.([0-9]{1,5}))?")


def parse_as(value: object, where: str) -> int:
    """Return an AS number from a number, "64512" or "1.10" (RFC 5396). Raises InvalidConfig."""
    number = -1
    if isinstance(value, int) and not isinstance(value, bool):
        number = value
    elif isinstance(value, str) and (found := _AS.fullmatch(value)):
        high, low = int(found[1]), found[2]
        number = high if low is None else (high << 16) + int(low)
        if low is not None and (high > 0xFFFF or int(low) > 0xFFFF):
            number = -1
    if not 1 <= number <= MAX_AS:
        raise InvalidConfig(
            f"{where}: {value!r} is not an AS number",
            field=where,
            value=value,
            hint='with a dot write it in quotes, as "1.10": YAML takes it for a number'
            if isinstance(value, float)
            else f"choose one from 1 to {MAX_AS}; 64512 to 65534 and 4200000000 to 4294967294 "
            "are for private use",
        )
    return number


def take_text(value: object, where: str) -> str:
    """Return a text of one line that is not empty. Raises InvalidConfig."""
    if not isinstance(value, str) or not value or not value.isprintable():
        raise InvalidConfig(
            f"{where}: {value!r} is not a text",
            field=where,
            value=value,
            hint="write one line, without tabs and other control characters",
        )
    return value


def take_as(fields: Fields, name: str) -> int | None:
    """Remove and return an AS number; None when absent."""
    value = fields.take(name)
    return None if value is None else parse_as(value, fields.path(name))


def take_as_path(fields: Fields, name: str) -> tuple[int, ...]:
    """Remove and return a list of AS numbers."""
    items = fields.take_list(name)
    return tuple(parse_as(item, fields.path(f"{name}[{i}]")) for i, item in enumerate(items))


def take_flag(fields: Fields, name: str) -> bool | None:
    """Remove and return true or false; None when absent."""
    value = fields.take(name)
    return None if value is None else Fields({name: value}, fields.where).take_bool(name, False)


def take_number(fields: Fields, name: str, low: int, high: int) -> int | None:
    """Remove and return a whole number in ``low..high``; None when absent."""
    value = fields.take(name)
    if value is None:
        return None
    return Fields({name: value}, fields.where).take_int(name, low, low, high)


def take_word(fields: Fields, name: str, known: tuple[str, ...]) -> str | None:
    """Remove and return one of ``known``, whatever its case; None when absent."""
    value = fields.take(name)
    for word in known:
        if isinstance(value, str) and value.lower() == word.lower():
            return word
    if value is None:
        return None
    raise InvalidConfig(
        f"{fields.path(name)}: {value!r} is none of {', '.join(known)}",
        field=fields.path(name),
        value=value,
        hint=nearest(str(value), known),
    )


def take_seconds(fields: Fields, name: str, most: int) -> int | None:
    """Read a duration as Kubernetes writes it, ``1m30s``, or a number of seconds up to ``most``."""
    value = fields.take(name)
    if value is None:
        return None
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= most:
        return value
    found = _DURATION.fullmatch(value) if isinstance(value, str) and value else None
    if found is not None:
        hours, minutes, seconds = (int(part or 0) for part in found.groups())
        total = hours * 3600 + minutes * 60 + seconds
        if total <= most:
            return total
    raise InvalidConfig(
        f"{fields.path(name)}: {value!r} is not a duration up to {most} s",
        field=fields.path(name),
        value=value,
        hint=f"write it as 20s or 1m30s, at most {most}s",
    )


def take_secret(fields: Fields, name: str) -> Secret | None:
    """Remove and return ``{secretKeyRef: {name, key}}``; None when absent."""
    value = fields.take(name)
    if value is None:
        return None
    outer = Fields(value, fields.path(name))
    inner = Fields(outer.take_required("secretKeyRef"), outer.path("secretKeyRef"))
    secret = Secret(
        _file_name(inner.take_required("name"), inner.path("name")),
        _file_name(inner.take_required("key"), inner.path("key")),
    )
    inner.take("optional")
    inner.done()
    outer.done()
    return secret


def _file_name(value: object, where: str) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9_.-]*", value):
        raise InvalidConfig(
            f"{where}: {value!r} is not a name",
            field=where,
            value=value,
            hint="use letters, digits, '_', '-' and '.'; the name of a file on each host",
        )
    return value


def take_selector(fields: Fields, name: str) -> Selector | None:
    """Remove and return a selector; None when absent or empty."""
    value = fields.take(name)
    return Selector.parse(value, fields.path(name)) if value else None


def take_address(fields: Fields, name: str) -> IPAddress | None:
    """Remove and return a text of an address, be it nobody's; None when absent."""
    value = fields.take(name)
    return parse_address(value, fields.path(name)) if value else None


def nobodys(address: IPAddress) -> str:
    """Return why ``address`` is not that of one machine for all hosts; "" when it may be."""
    if address.version == 6 and address.scope_id:
        return "names an interface after '%', which only one host knows"
    number = int(address)
    for version, first, last, text in _NOBODYS_BY_NUMBER:
        if first <= number <= last and version == address.version:
            return text
    return ""


def take_machine(fields: Fields, name: str) -> IPAddress | None:
    """Remove and return the address of one router or host; None when absent."""
    value = fields.take(name)
    return _machine(value, fields.path(name)) if value else None


def _machine(value: object, where: str) -> IPAddress:
    address = parse_address(value, where)
    if complaint := nobodys(address):
        raise InvalidConfig(
            f"{where}: {value} {complaint}",
            field=where,
            value=value,
            hint="name an address that one router or host alone has, and that is not link-local",
        )
    return address


def take_address_and_port(fields: Fields, name: str) -> tuple[IPAddress | None, int | None]:
    """Read ``192.0.2.1``, ``192.0.2.1:1790``, ``2001:db8::1`` or ``[2001:db8::1]:1790``."""
    value, where = fields.take(name), fields.path(name)
    if not value:
        return None, None
    text, port = str(value), ""
    if found := re.fullmatch(r"\[(.*)\](?::([^:]+))?|([^:]*):([^:]+)", text):
        text, port = found[1] or found[3] or "", found[2] or found[4] or ""
    number = whole_number(port) if port else None
    if port and (number is None or not 1 <= number <= 65535):
        raise InvalidConfig(
            f"{where}: {value!r}: {port!r} is not a port",
            field=where,
            value=value,
            hint="choose a port from 1 to 65535",
        )
    return _machine(text, where), number


def parse_community(value: object, where: str) -> tuple[int, ...]:
    """Read ``aa:nn`` (RFC 1997, 16 bits each) or ``aa:nn:mm`` (RFC 8092, 32 bits each)."""
    found = _COMMUNITY.fullmatch(value) if isinstance(value, str) else None
    parts = tuple(int(part) for part in found.groups() if part is not None) if found else ()
    if not parts or any(part > (0xFFFF if len(parts) == 2 else MAX_AS) for part in parts):
        raise InvalidConfig(
            f"{where}: {value!r} is not a community",
            field=where,
            value=value,
            hint="write it as 65001:100, or as a large one, 65001:100:1",
        )
    return parts


def take_unused(fields: Fields, names: tuple[str, ...]) -> tuple[str, ...]:
    """Remove ``names`` and return the dotted paths of those that were there."""
    return tuple(fields.path(name) for name in names if fields.take(name) is not None)


def both(fields: Fields, one: str, other: str) -> InvalidConfig:
    """Return the error of two fields that exclude each other."""
    return InvalidConfig(
        f"{fields.path(one)}: {fields.path(one)} and {fields.path(other)} exclude each other",
        field=fields.path(one),
        hint=f"leave out {one} or {other}",
    )


def check_scope(resource: Resource) -> None:
    """Refuse a name that says neither all hosts nor one of them. Raises InvalidConfig."""
    if resource.name != "default" and not resource.name.startswith("node."):
        raise InvalidConfig(
            f"metadata.name: {resource.name!r}: a {resource.kind} is called 'default' or "
            "'node.' and a host's name",
            field="metadata.name",
            value=resource.name,
            hint="use default for all hosts",
        )
