"""CNI results: parsed from any version that we know, merged along a chain, rendered in any.

A result that came from another plugin is passed on whole: fields that we do not interpret
(``socketPath``, a route's ``table``) stay with their object, and go only where the version that is
written has no place for them. Source: CNI specification 1.1.0, section 5, and those before it.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

from netloom.drivers.cni.errors import invalid
from netloom.drivers.cni.versions import at_least
from netloom.model.addr import IPAddress, IPInterface, IPNetwork, parse_address
from netloom.model.attachment import Attached
from netloom.model.fields import Fields

_NOTHING: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Interface:
    """One link. ``sandbox`` is the path of its namespace, "" for the host's; ``more`` is 1.1's."""

    name: str
    mac: str = ""
    sandbox: str = ""
    more: Mapping[str, Any] = field(default_factory=lambda: _NOTHING)

    @classmethod
    def parse(cls, data: object, where: str) -> Interface:
        """Parse ``{name, mac, sandbox, …}``."""
        fields = Fields(data, where)
        name, mac, sandbox = (fields.take_str(key) for key in ("name", "mac", "sandbox"))
        return cls(name, mac, sandbox, MappingProxyType(fields.rest()))

    def render(self, version: str) -> dict[str, Any]:
        """Return the JSON form in ``version``."""
        document = {"name": self.name}
        document |= {"mac": self.mac} if self.mac else {}
        document |= dict(self.more) if at_least(version, "1.1.0") else {}
        return document | ({"sandbox": self.sandbox} if self.sandbox else {})


@dataclass(frozen=True, slots=True)
class Address:
    """One address with its prefix length; ``interface`` is an index into the interfaces."""

    address: IPInterface
    gateway: IPAddress | None = None
    interface: int | None = None

    @classmethod
    def parse(cls, data: object, where: str) -> Address:
        """Parse ``{address, gateway, interface}``; a ``version`` is implied by the address."""
        fields = Fields(data, where)
        address = _interface_address(fields.take_required("address"), fields.path("address"))
        gateway = _optional_address(fields, "gateway")
        index = fields.take_int("interface", -1, -1, 1 << 20)
        return cls(address, gateway, None if index < 0 else index)

    def render(self, version: str) -> dict[str, Any]:
        """Return the JSON form in ``version``."""
        document: dict[str, Any] = {}
        if not at_least(version, "1.0.0"):
            document["version"] = str(self.address.version)
        document["address"] = str(self.address)
        document |= {"gateway": str(self.gateway)} if self.gateway else {}
        return document | ({} if self.interface is None else {"interface": self.interface})


@dataclass(frozen=True, slots=True)
class Route:
    """One route of the container; ``more`` has what version 1.1 added (mtu, table, …)."""

    destination: IPNetwork
    gateway: IPAddress | None = None
    more: Mapping[str, Any] = field(default_factory=lambda: _NOTHING)

    @classmethod
    def parse(cls, data: object, where: str) -> Route:
        """Parse ``{dst, gw, …}``; host bits in ``dst`` are dropped, as other plugins write them."""
        fields = Fields(data, where)
        wanted = _interface_address(fields.take_required("dst"), fields.path("dst"))
        gateway = _optional_address(fields, "gw")
        return cls(wanted.network, gateway, MappingProxyType(fields.rest()))

    def render(self, version: str) -> dict[str, Any]:
        """Return the JSON form in ``version``."""
        document = {"dst": str(self.destination)}
        document |= {"gw": str(self.gateway)} if self.gateway else {}
        return document | (dict(self.more) if at_least(version, "1.1.0") else {})


@dataclass(frozen=True, slots=True)
class Result:
    """What a chain has done so far; the empty one is the start of a chain."""

    interfaces: tuple[Interface, ...] = ()
    addresses: tuple[Address, ...] = ()
    routes: tuple[Route, ...] = ()
    dns: Mapping[str, Any] = field(default_factory=lambda: _NOTHING)

    @classmethod
    def parse(cls, data: object, where: str = "prevResult") -> Result:
        """Parse a result of version 0.1.0 to 1.1.0. Raises InvalidConfig naming the field."""
        fields = Fields(data, where)
        routes = _each(fields, "routes", Route)
        addresses = _each(fields, "ips", Address)
        for key in ("ip4", "ip6"):  # before 0.3.0
            if old := fields.take_map(key):
                inner = Fields(old, fields.path(key))
                document = {"address": inner.take("ip"), "gateway": inner.take("gateway")}
                addresses += (Address.parse(document, inner.where),)
                routes += _each(inner, "routes", Route)
        interfaces = _each(fields, "interfaces", Interface)
        for index, address in enumerate(addresses):
            if address.interface is not None and address.interface >= len(interfaces):
                field_name = fields.path(f"ips[{index}].interface")
                raise invalid(field_name, address.interface, "points to no interface")
        return cls(interfaces, addresses, routes, MappingProxyType(fields.take_map("dns")))

    @classmethod
    def of(cls, attached: Attached, netns: str, dns: Mapping[str, Any] = _NOTHING) -> Result:
        """Return what our attachment adds: bridge, host's end, container's end, in this order.

        ``netns`` is the namespace's path as the runtime gave it.
        """
        endpoint = attached.endpoint
        mtu = MappingProxyType({"mtu": attached.mtu_bytes} if attached.mtu_bytes else {})
        ends = (
            Interface(attached.bridge, attached.bridge_mac, "", mtu),
            Interface(endpoint.host_ifname, attached.host_mac, "", mtu),
            Interface(endpoint.ifname, endpoint.mac, netns, mtu),
        )
        interfaces = tuple(end for end in ends if end.name)
        gateways = {gateway.version: gateway for gateway in attached.gateways}
        addresses = tuple(
            Address(address, gateways.get(address.version), len(interfaces) - 1)
            for address in attached.addresses
        )
        routes = tuple(Route(destination, gateway) for destination, gateway in attached.routes)
        return cls(interfaces, addresses, routes, dns)

    def followed_by(self, other: Result) -> Result:
        """Return this result with ``other``'s parts after it, its indexes moved along."""
        offset = len(self.interfaces)
        moved = tuple(
            address
            if address.interface is None
            else replace(address, interface=address.interface + offset)
            for address in other.addresses
        )
        fresh = tuple(route for route in other.routes if route not in self.routes)
        return Result(
            self.interfaces + other.interfaces,
            self.addresses + moved,
            self.routes + fresh,
            other.dns or self.dns,
        )

    def render(self, version: str) -> dict[str, Any]:
        """Return the JSON form in ``version`` (0.3.0 or later); empty lists are left out."""
        parts: dict[str, Any] = {
            "interfaces": [item.render(version) for item in self.interfaces],
            "ips": [item.render(version) for item in self.addresses],
            "routes": [item.render(version) for item in self.routes],
        }
        present = {key: value for key, value in parts.items() if value}
        return {"cniVersion": version, **present, "dns": dict(self.dns)}


def _each(fields: Fields, name: str, kind: Any) -> Any:
    items = enumerate(fields.take_list(name))
    return tuple(kind.parse(item, fields.path(f"{name}[{index}]")) for index, item in items)


def _optional_address(fields: Fields, name: str) -> IPAddress | None:
    text = fields.take_str(name)
    return parse_address(text, fields.path(name)) if text else None


def _interface_address(text: object, where: str) -> IPInterface:
    try:
        if isinstance(text, str) and "/" in text:
            return ipaddress.ip_interface(text)
    except ValueError:
        pass
    raise invalid(where, text, "is not an address with a prefix length", "e.g. 10.244.1.2/24")
