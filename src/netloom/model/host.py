"""Hosts, blocks and reservations: what hosts tell each other through the store.

Agents of several versions read these at once, so a field that is not known is left alone.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from types import MappingProxyType
from typing import Any

from netloom.model.addr import (
    Family,
    IPAddress,
    IPNetwork,
    cidr_order,
    parse_address,
    parse_mac,
    parse_network,
)
from netloom.model.errors import InvalidConfig
from netloom.model.fields import Fields

#: In ``Host.serves``: what reaches it by backend ``udp`` is unpacked by its kernel.
UNPACKS = "unpacks"
_MOST_NAMED = 5
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")


def parse_host_id(text: object, where: str) -> str:
    """Return a host id: letters, digits, '_', '.', '-', at most 128. Raises InvalidConfig."""
    if not isinstance(text, str) or not _ID.fullmatch(text):
        raise InvalidConfig(
            f"{where}: {text!r} is not a host id",
            field=where,
            value=text,
            hint="use letters, digits, '_', '.' and '-'",
        )
    return sys.intern(text)  # a host has it, and each of its blocks


def named(hosts: Iterable[Host]) -> str:
    """Return the hosts' names as a message has them: the first five, and how many more."""
    names = sorted(host.name for host in hosts)
    more = len(names) - _MOST_NAMED
    return ", ".join(names[:_MOST_NAMED]) + (f" and {more} more" if more > 0 else "")


@lru_cache(maxsize=256)
def _shared(items: tuple[tuple[str, Any], ...]) -> Mapping[str, Any]:
    """Return the map of ``items``; what thousands of hosts say alike is there once."""
    return MappingProxyType({sys.intern(str(name)): value for name, value in items})


@dataclass(frozen=True, slots=True)
class Host:
    """A machine that runs containers. Its identity is ``id``; its addresses may change.

    ``underlay4``/``underlay6`` are where peers reach it. ``macs`` gives, per network, the MAC of
    its tunnel end; ``serves``, per network, the labels of the backends by which the host can be
    reached now, and how (``UNPACKS``); ``sends``, per network, the course (backend and move) by
    which it reaches every peer. ``segments`` are the networks that its underlay cards are on.
    ``devices`` tells, by kind, whether its kernel can make such links; nothing of kinds that it
    does not name, and nothing at all in the records of older agents. ``contested`` are addresses
    that it has and that are another host's by right: nobody reaches it there.
    """

    id: str
    name: str
    underlay4: IPAddress | None = None
    underlay6: IPAddress | None = None
    macs: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    serves: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: MappingProxyType({}))
    sends: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    segments: tuple[IPNetwork, ...] = ()
    devices: Mapping[str, bool] = field(default_factory=lambda: MappingProxyType({}))
    contested: tuple[IPAddress, ...] = ()

    def underlay(self, family: Family) -> IPAddress | None:
        """Return the underlay address of one family, if the host has it."""
        return self.underlay4 if family == 4 else self.underlay6

    def contests(self, family: Family) -> IPAddress | None:
        """Return the address of one family that is another host's by right, if there is one."""
        return next((each for each in self.contested if each.version == family), None)

    @classmethod
    def parse(cls, data: object, where: str = "") -> Host:
        """Parse ``{id, name, underlay: {ipv4, ipv6}, macs: {network: mac}}``."""
        fields = Fields(data, where)
        host_id = parse_host_id(fields.take_required("id"), fields.path("id"))
        name = sys.intern(fields.take_str("name", host_id))  # mostly one of the two is the other
        under = Fields(fields.take_map("underlay"), fields.path("underlay"))
        addresses = {
            key: parse_address(text, under.path(key)) if (text := under.take(key)) else None
            for key in ("ipv4", "ipv6")
        }
        for key, version in (("ipv4", 4), ("ipv6", 6)):
            address = addresses[key]
            if address is not None and address.version != version:
                raise InvalidConfig(
                    f"{under.path(key)}: {address} is not an IPv{version} address",
                    field=under.path(key),
                    value=str(address),
                )
        macs = {
            sys.intern(str(network)): parse_mac(mac, fields.path(f"macs.{network}"))
            for network, mac in fields.take_map("macs").items()
        }
        serving = fields.take_map("serves")
        each = Fields(serving, fields.path("serves"))
        serves = tuple(
            (network, tuple(str(label) for label in each.take_list(network))) for network in serving
        )
        sends = tuple((n, str(label)) for n, label in fields.take_map("sends").items())
        segments = tuple(
            parse_network(text, fields.path(f"segments[{index}]"))
            for index, text in enumerate(fields.take_list("segments"))
        )
        contested = tuple(
            parse_address(text, fields.path(f"contested[{index}]"))
            for index, text in enumerate(fields.take_list("contested"))
        )
        devices = tuple((kind, can is True) for kind, can in fields.take_map("devices").items())
        return cls(
            host_id,
            name,
            addresses["ipv4"],
            addresses["ipv6"],
            MappingProxyType(macs),
            _shared(serves),
            _shared(sends),
            segments,
            _shared(devices),
            contested,
        )

    def render(self) -> dict[str, Any]:
        """Return the JSON form that :meth:`parse` reads."""
        return {
            "id": self.id,
            "name": self.name,
            "underlay": {
                "ipv4": str(self.underlay4) if self.underlay4 else None,
                "ipv6": str(self.underlay6) if self.underlay6 else None,
            },
            "macs": dict(self.macs),
            "serves": {network: list(labels) for network, labels in self.serves.items()},
            "sends": dict(self.sends),
            "segments": [str(segment) for segment in self.segments],
            "devices": dict(self.devices),
            "contested": [str(address) for address in self.contested],
        }


@dataclass(frozen=True, slots=True)
class Block:
    """A CIDR of one network held by one host.

    ``confirmed`` is the second phase of the claim: a pending block is neither dealt from nor
    routed, and belongs to its host, who alone may confirm or withdraw it.

    A **loan** has a ``lender``: it is one address of another host's block, for one container.
    The host writes it pending; the lender confirms it, since it alone knows what it has dealt.
    """

    network: str
    cidr: IPNetwork
    host_id: str
    confirmed: bool = False
    lender: str = ""

    @classmethod
    def parse(cls, data: object, where: str = "") -> Block:
        """Parse ``{network, cidr, host, state: pending|confirmed[, lender]}``."""
        fields = Fields(data, where)
        network = sys.intern(fields.take_str("network"))
        cidr = parse_network(fields.take_required("cidr"), fields.path("cidr"))
        host_id = parse_host_id(fields.take_required("host"), fields.path("host"))
        state = fields.take_str("state", "confirmed")
        if state not in ("pending", "confirmed"):
            raise InvalidConfig(
                f"{fields.path('state')}: {state!r} is neither 'pending' nor 'confirmed'",
                field=fields.path("state"),
                value=state,
            )
        lender = fields.take("lender", "")
        if lender != "":
            lender = parse_host_id(lender, fields.path("lender"))
            if cidr.prefixlen < cidr.max_prefixlen:
                raise InvalidConfig(
                    f"{fields.path('cidr')}: {cidr} is lent, and is more than one address",
                    field=fields.path("cidr"),
                    value=str(cidr),
                    hint="hosts lend each other single addresses",
                )
        return cls(network, cidr, host_id, state == "confirmed", lender)

    def render(self) -> dict[str, Any]:
        """Return the JSON form that :meth:`parse` reads."""
        return {
            "network": self.network,
            "cidr": str(self.cidr),
            "host": self.host_id,
            "state": "confirmed" if self.confirmed else "pending",
            **({"lender": self.lender} if self.lender else {}),
        }


def block_order(block: Block) -> tuple[str, int, int, int]:
    """Return what blocks are sorted by: network, and their CIDRs' order."""
    return block.network, *cidr_order(block.cidr)


@dataclass(frozen=True, slots=True)
class Reservation:
    """A range of a network's pools that is never dealt out by itself; the reason is for people.

    An explicit request for an address inside it is still granted.
    """

    network: str
    cidr: IPNetwork
    reason: str = ""

    @classmethod
    def parse(cls, data: object, where: str = "") -> Reservation:
        """Parse ``{network, cidr, reason}``; a single address is taken as its /32 or /128."""
        fields = Fields(data, where)
        network = fields.take_str("network")
        text = fields.take_required("cidr")
        if isinstance(text, str) and "/" not in text:
            text = f"{text}/{parse_address(text, fields.path('cidr')).max_prefixlen}"
        cidr = parse_network(text, fields.path("cidr"))
        reason = fields.take_str("reason")
        return cls(network, cidr, reason)

    def render(self) -> dict[str, Any]:
        """Return the JSON form that :meth:`parse` reads."""
        return {"network": self.network, "cidr": str(self.cidr), "reason": self.reason}
