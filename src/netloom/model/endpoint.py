"""Endpoints: one interface of one container in one network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from netloom.model.addr import Family, IPAddress, parse_address, parse_mac
from netloom.model.errors import InvalidConfig
from netloom.model.fields import Fields


@dataclass(frozen=True, slots=True)
class PortMapping:
    """A published port: ``host_ip:host_port/protocol`` leads to ``container_port``."""

    host_port: int
    container_port: int
    protocol: str = "tcp"
    host_ip: IPAddress | None = None

    @classmethod
    def parse(cls, data: object, where: str) -> PortMapping:
        """Parse CNI's ``{hostPort, containerPort, protocol, hostIP}``."""
        fields = Fields(data, where)
        host_port = fields.take_int("hostPort", 0, 1, 65535)
        container_port = fields.take_int("containerPort", 0, 1, 65535)
        protocol = fields.take_str("protocol", "tcp").lower()
        if protocol not in ("tcp", "udp", "sctp"):
            raise InvalidConfig(
                f"{fields.path('protocol')}: {protocol!r} is not tcp, udp or sctp",
                field=fields.path("protocol"),
                value=protocol,
            )
        text = fields.take("hostIP")
        host_ip = parse_address(text, fields.path("hostIP")) if text else None
        fields.rest()  # runtimes add keys of their own; CNI asks plugins to ignore them
        if host_ip is not None and host_ip.is_unspecified:
            host_ip = None
        return cls(host_port, container_port, protocol, host_ip)

    def render(self) -> dict[str, Any]:
        """Return the JSON form that :meth:`parse` reads."""
        return {
            "hostPort": self.host_port,
            "containerPort": self.container_port,
            "protocol": self.protocol,
            "hostIP": str(self.host_ip) if self.host_ip else "",
        }


@dataclass(frozen=True, slots=True)
class Bandwidth:
    """Rate limits as the container sees them, in bit/s and bits of burst; 0 means no limit."""

    ingress_rate_bps: int = 0
    ingress_burst_bits: int = 0
    egress_rate_bps: int = 0
    egress_burst_bits: int = 0

    @classmethod
    def parse(cls, data: object, where: str) -> Bandwidth:
        """Parse CNI's ``{ingressRate, ingressBurst, egressRate, egressBurst}``."""
        fields = Fields(data, where)
        top = 1 << 62
        numbers = [
            fields.take_int(name, 0, 0, top)
            for name in ("ingressRate", "ingressBurst", "egressRate", "egressBurst")
        ]
        fields.rest()
        return cls(*numbers)

    def render(self) -> dict[str, Any]:
        """Return the JSON form that :meth:`parse` reads."""
        return {
            "ingressRate": self.ingress_rate_bps,
            "ingressBurst": self.ingress_burst_bits,
            "egressRate": self.egress_rate_bps,
            "egressBurst": self.egress_burst_bits,
        }


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One interface of one container, as its host's journal keeps it.

    ``handle`` (``network.container.ifname``) owns the addresses. ``attached`` is the second phase:
    until then the record is an intent whose addresses are taken but whose container nobody
    promised. ``netns`` is the path of the container's network namespace. ``led_out``: families
    for which another interface led out of the container already when this one was attached.
    """

    network: str
    host_id: str
    container_id: str
    ifname: str
    netns: str
    host_ifname: str
    mac: str
    addresses: tuple[IPAddress, ...]
    attached: bool = False
    ports: tuple[PortMapping, ...] = ()
    bandwidth: Bandwidth = Bandwidth()
    labels: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    created: str = ""
    led_out: tuple[Family, ...] = ()

    @property
    def handle(self) -> str:
        """The owner's name under which the addresses are held."""
        return f"{self.network}.{self.container_id}.{self.ifname}"

    @classmethod
    def parse(cls, data: object, where: str = "") -> Endpoint:
        """Parse what :meth:`render` writes; what a newer agent wrote beside it is left alone."""
        fields = Fields(data, where)
        return cls(
            network=fields.take_str("network"),
            host_id=fields.take_str("host"),
            container_id=fields.take_str("container"),
            ifname=fields.take_str("ifname"),
            netns=fields.take_str("netns"),
            host_ifname=fields.take_str("hostIfname"),
            mac=parse_mac(fields.take_required("mac"), fields.path("mac")),
            addresses=tuple(
                parse_address(text, fields.path(f"addresses[{index}]"))
                for index, text in enumerate(fields.take_list("addresses"))
            ),
            attached=fields.take_bool("attached", False),
            ports=tuple(
                PortMapping.parse(item, fields.path(f"ports[{index}]"))
                for index, item in enumerate(fields.take_list("ports"))
            ),
            bandwidth=Bandwidth.parse(fields.take_map("bandwidth"), fields.path("bandwidth")),
            labels=MappingProxyType(
                {str(key): str(value) for key, value in fields.take_map("labels").items()}
            ),
            created=fields.take_str("created"),
            led_out=_families(fields.take_list("ledOut"), fields.path("ledOut")),
        )

    def render(self) -> dict[str, Any]:
        """Return the JSON form that :meth:`parse` reads."""
        return {
            "network": self.network,
            "host": self.host_id,
            "container": self.container_id,
            "ifname": self.ifname,
            "netns": self.netns,
            "hostIfname": self.host_ifname,
            "mac": self.mac,
            "addresses": [str(address) for address in self.addresses],
            "attached": self.attached,
            "ports": [port.render() for port in self.ports],
            "bandwidth": self.bandwidth.render() if self.bandwidth != Bandwidth() else {},
            "labels": dict(self.labels),
            "created": self.created,
            **({"ledOut": list(self.led_out)} if self.led_out else {}),
        }


def _families(items: list[Any], where: str) -> tuple[Family, ...]:
    for item in items:
        if item not in (4, 6):
            raise InvalidConfig(f"{where}: {item!r} is not 4 or 6", field=where, value=item)
    return tuple(items)
