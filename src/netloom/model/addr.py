"""Addresses: parsing with errors that name the field, and MAC addresses made from names."""

from __future__ import annotations

import hashlib
import ipaddress
import re
import sys
from functools import lru_cache
from typing import Literal

from netloom.model.errors import InvalidConfig

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
IPNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network
IPInterface = ipaddress.IPv4Interface | ipaddress.IPv6Interface
Family = Literal[4, 6]

_SCOPE = re.compile(r"[A-Za-z0-9_.:@-]{0,15}")
_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")


@lru_cache(maxsize=65536)
def _network(text: str) -> IPNetwork:
    return ipaddress.ip_network(text)


@lru_cache(maxsize=65536)
def _address(text: str) -> IPAddress:
    return ipaddress.ip_address(text)


def forget() -> None:
    """Let go of what equal texts shared while thousands were read at once, as at a start."""
    _network.cache_clear()
    _address.cache_clear()


def parse_network(text: object, field: str) -> IPNetwork:
    """Parse a CIDR without host bits. Raises InvalidConfig naming ``field`` and the remedy.

    A scope ("%eth0"), which Python takes in networks too, is refused: any text may stand in it.
    """
    if not isinstance(text, str) or "/" not in text or "%" in text:
        raise InvalidConfig(
            f"{field}: {text!r} is not a CIDR",
            field=field,
            value=text,
            hint="write it as 10.244.0.0/16",
        )
    try:
        return _network(text)
    except ValueError as error:
        hint = "write it as 10.244.0.0/16"
        if "host bits" in str(error):
            hint = f"did you mean {ipaddress.ip_network(text, strict=False)}?"
        raise InvalidConfig(
            f"{field}: {text!r}: {error}", field=field, value=text, hint=hint
        ) from None


def cidr_order(cidr: IPNetwork) -> tuple[int, int, int]:
    """Return what CIDRs are sorted by: family, first address, and of two the larger first."""
    return cidr.version, int(cidr.network_address), cidr.prefixlen


def as_network(address: IPAddress) -> IPNetwork:
    """Return the CIDR that is ``address`` alone, a /32 or /128."""
    return ipaddress.ip_network((address, address.max_prefixlen))


def parse_address(text: object, field: str) -> IPAddress:
    """Parse one address without a prefix length. Raises InvalidConfig naming ``field``.

    Its scope, if it has one, is the name of an interface and no other text.
    """
    try:
        if not isinstance(text, str) or not _SCOPE.fullmatch(text.partition("%")[2]):
            raise ValueError("not a string")
        return _address(text)
    except ValueError:
        raise InvalidConfig(
            f"{field}: {text!r} is not an IP address", field=field, value=text
        ) from None


def parse_mac(text: object, field: str) -> str:
    """Return a unicast MAC in lower case with colons. Raises InvalidConfig naming ``field``."""
    mac = text.lower().replace("-", ":") if isinstance(text, str) else ""
    if not _MAC.fullmatch(mac):
        raise InvalidConfig(
            f"{field}: {text!r} is not a MAC address",
            field=field,
            value=text,
            hint="write it as 02:42:ac:11:00:02",
        )
    if int(mac[:2], 16) & 1:
        raise InvalidConfig(
            f"{field}: {text!r} is a multicast MAC address",
            field=field,
            value=text,
            hint="the first byte must be even",
        )
    return sys.intern(mac)  # a lease has it, and the record of its host


def derived_mac(*parts: str) -> str:
    """Make a locally administered unicast MAC that is a pure function of ``parts``.

    The same parts give the same MAC on every start and on every host, so that nothing needs to
    remember it and no peer ever holds a stale one.
    """
    digest = hashlib.sha256("\0".join(parts).encode()).digest()
    first = (digest[0] & 0xFE) | 0x02
    return ":".join(f"{byte:02x}" for byte in (first, *digest[1:6]))


def derived_name(prefix: str, *parts: str, digits: int) -> str:
    """Make an interface name: ``prefix`` plus ``digits`` hex digits that depend on ``parts``."""
    return (
        prefix + hashlib.sha1("\0".join(parts).encode(), usedforsecurity=False).hexdigest()[:digits]
    )
