"""flannel's leases: keys such as ``10.5.52.0-24`` and the attributes of the host that holds one.

The value is compact Go JSON with a fixed order of fields, of which the last three are left out when
empty. ``tests/unit/store/test_flannel_lease.py`` holds the bytes that flannel's own documents show.
"""

from __future__ import annotations

import ipaddress
import re
import sys
from dataclasses import dataclass
from typing import Any

from netloom.model.addr import Family, IPNetwork, parse_address, parse_mac, parse_network
from netloom.model.errors import InvalidConfig
from netloom.store.flannel.config import FlannelConfig
from netloom.store.flannel.document import decode, encode, folded, take

_KEY = re.compile(r"([0-9.]{7,15})-([0-9]{1,2})(?:&([0-9a-fA-F:.]+)-([0-9]{1,3}))?")
_FIELDS = ("PublicIP", "PublicIPv6", "BackendType", "BackendData", "BackendV6Data")
_DATA = ("VNI", "VtepMAC")
#: Backends whose leases name no type.
_NAMELESS = ("udp", "alloc")


def render_key(cidrs: tuple[IPNetwork, ...]) -> str:
    """Return a lease's key below ``subnets/``; ``cidrs`` is one IPv4 block, or it and an IPv6 one.

    ``10.5.52.0-24``, ``10.5.52.0-24&fd00:10::-64``.
    """
    return "&".join(f"{cidr.network_address}-{cidr.prefixlen}" for cidr in cidrs)


def parse_key(text: str) -> tuple[IPNetwork, ...]:
    """Return the blocks that a key names, IPv4 first. Raises InvalidConfig."""
    match = _KEY.fullmatch(text)
    try:
        if match is None:
            raise ValueError("it is not like 10.5.52.0-24")
        # the layers above parse the same texts: equal blocks are one object, read once
        cidrs = [parse_network(f"{match[1]}/{match[2]}", "IPv4")]
        if match[3]:
            cidrs.append(parse_network(f"{match[3]}/{match[4]}", "IPv6"))
        if [cidr.version for cidr in cidrs] != [4, 6][: len(cidrs)]:
            raise ValueError("the second block is not an IPv6 one")
        if render_key(tuple(cidrs)) != text:
            raise ValueError(f"it would be written {render_key(tuple(cidrs))}")
    except (ValueError, InvalidConfig) as error:
        raise InvalidConfig(
            f"{text!r} is no key of a lease: {error}", field="key", value=text
        ) from None
    return tuple(cidrs)


@dataclass(frozen=True, slots=True)
class Lease:
    """What the holder of a block says of itself. Backend data stays as it was read.

    ``backend`` "" is what udp writes.
    """

    public_ip: ipaddress.IPv4Address
    public_ip6: ipaddress.IPv6Address | None = None
    backend: str = ""
    data: Any = None
    data6: Any = None

    @classmethod
    def parse(cls, value: bytes, where: str = "lease") -> Lease:
        """Parse a lease's value. Raises InvalidConfig naming the field."""
        known, _ = folded(decode(value, where), _FIELDS)
        dot = f"{where}: "
        address = _address(known.get("PublicIP"), 4, f"{dot}PublicIP")
        second = known.get("PublicIPv6")
        other = _address(second, 6, f"{dot}PublicIPv6") if second else None
        assert isinstance(address, ipaddress.IPv4Address)
        assert other is None or isinstance(other, ipaddress.IPv6Address)
        kind = sys.intern(take(known, "BackendType", str, "", dot).lower())  # all have the same
        data, data6 = known.get("BackendData"), known.get("BackendV6Data")
        for each in (data, data6):
            if isinstance(each, dict) and isinstance(mac := each.get("VtepMAC"), str):
                each["VtepMAC"] = sys.intern(mac)  # the host's record has it, too
        return cls(address, other, kind, data, data6)

    def render(self) -> bytes:
        """Return the bytes that flannel's encoder would write."""
        data: dict[str, Any] = {
            "PublicIP": str(self.public_ip),
            "PublicIPv6": str(self.public_ip6) if self.public_ip6 else None,
        }
        for name, value in zip(_FIELDS[2:], (self.backend, self.data, self.data6), strict=True):
            if value:
                data[name] = value
        return encode(data)

    def mac(self, family: Family) -> str:
        """Return the MAC of the tunnel's end for one underlay family, "" where there is none."""
        data = self.data if family == 4 else self.data6
        fields, _ = folded(data if isinstance(data, dict) else {}, _DATA)
        text = fields.get("VtepMAC")
        return parse_mac(text, "BackendData.VtepMAC") if text else ""

    def mismatch(self, config: FlannelConfig, dual: bool) -> str:
        """Return why this lease's data does not fit the network's backend; "" when it does."""
        expected = "" if config.backend in _NAMELESS else config.backend
        if self.backend != expected and not (not expected and self.backend in _NAMELESS):
            return f"BackendType is {self.backend!r}, the network's backend is {config.backend!r}"
        if config.backend != "vxlan":
            return ""
        sides = [("BackendData", self.data)] + ([("BackendV6Data", self.data6)] if dual else [])
        for name, data in sides:
            fields, _ = folded(data if isinstance(data, dict) else {}, _DATA)
            try:
                parse_mac(fields.get("VtepMAC"), f"{name}.VtepMAC")
            except InvalidConfig as error:
                return str(error)
            if fields.get("VNI", config.vni) != config.vni:
                return f"{name}.VNI is {fields['VNI']}, the network's is {config.vni}"
        return ""


def of_host(config: FlannelConfig, addresses: tuple[Any, Any], mac: str, *, dual: bool) -> Lease:
    """Return the lease that one of our hosts writes; ``addresses`` are its IPv4 and IPv6 ones.

    Raises InvalidConfig for a host without the addresses that a lease names.
    """
    public4, public6 = addresses
    if public4 is None or (dual and public6 is None):
        raise InvalidConfig(
            f"this host has no {'IPv4' if public4 is None else 'IPv6'} underlay address, which "
            "flannel's lease names",
            field="PublicIP" if public4 is None else "PublicIPv6",
            hint="give it one, or name the interface that has it",
        )
    kind = "" if config.backend in _NAMELESS else config.backend
    data = {"VNI": config.vni, "VtepMAC": mac} if config.backend == "vxlan" else None
    if not dual:
        return Lease(public4, None, kind, data)
    return Lease(public4, public6, kind, data, dict(data) if data else None)


def _address(
    text: object, family: Family, where: str
) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    try:
        address = parse_address(text, where)
    except InvalidConfig:
        address = None
    if address is None or address.version != family:
        raise InvalidConfig(
            f"{where}: {text!r} is not an IPv{family} address",
            field=where.rpartition(" ")[2],
            value=text,
        )
    return address
