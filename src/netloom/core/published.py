"""Published ports: which places on the host lead to which container, and who may have them.

A :class:`Lead` is one port mapping in one family, ready for the firewall: ``core/firewall.py``
writes it down. :func:`refuse_taken_ports` is asked before a container is attached.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from netloom.model.addr import Family, IPAddress
from netloom.model.endpoint import Endpoint
from netloom.model.errors import Conflict, InvalidConfig
from netloom.model.kernel import Link, Sysctl

#: IP protocol numbers of what can be published.
PROTOCOLS = {"tcp": 6, "udp": 17, "sctp": 132}
_EVERY_ADDRESS = {4: "0.0.0.0", 6: "[::]"}


@dataclass(frozen=True, slots=True)
class Lead:
    """``host_ip:host_port/protocol`` leads to ``target:container_port``, both of one family.

    ``host_ip`` None means every address of the host.
    """

    protocol: str
    host_ip: IPAddress | None
    host_port: int
    target: IPAddress
    container_port: int

    @property
    def family(self) -> Family:
        """4 or 6."""
        return self.target.version

    @property
    def place(self) -> str:
        """Return what is taken on the host, as people write it: ``0.0.0.0:8080/tcp``."""
        host = _bracketed(self.host_ip) if self.host_ip else _EVERY_ADDRESS[self.family]
        return f"{host}:{self.host_port}/{self.protocol}"

    def excludes(self, other: Lead) -> bool:
        """Tell whether both want one place; "every address" wants the place of each of them."""
        return (
            (self.family, self.protocol, self.host_port)
            == (other.family, other.protocol, other.host_port)
        ) and (self.host_ip is None or other.host_ip is None or self.host_ip == other.host_ip)


def leads_of(endpoint: Endpoint) -> list[Lead]:
    """Return what an endpoint's port mappings come to, family by family.

    A mapping without ``host_ip`` leads to the endpoint's address of each family that it has; one
    with ``host_ip`` leads to the address of that family, or nowhere when there is none.
    """
    targets: dict[int, IPAddress] = {}
    for address in endpoint.addresses:
        targets.setdefault(address.version, address)
    return [
        Lead(port.protocol, port.host_ip, port.host_port, target, port.container_port)
        for port in endpoint.ports
        for family, target in sorted(targets.items())
        if port.host_ip is None or port.host_ip.version == family
    ]


def standing_leads(endpoints: Iterable[Endpoint]) -> list[Lead]:
    """Return the leads of all ``endpoints``; where two exclude each other, the older one stands.

    :func:`refuse_taken_ports` keeps that from happening. Should it happen all the same, one port
    leads elsewhere than its newer owner thinks and every other port stays right; the kernel would
    refuse a map that holds both, and with it the whole table.
    """
    publishing = (endpoint for endpoint in endpoints if endpoint.ports)
    stand: dict[tuple[int, str, int], list[Lead]] = {}
    for endpoint in sorted(publishing, key=lambda e: (e.created, e.handle)):
        for lead in leads_of(endpoint):
            rivals = stand.setdefault((lead.family, lead.protocol, lead.host_port), [])
            if not any(lead.excludes(rival) for rival in rivals):
                rivals.append(lead)
    return [lead for place in stand.values() for lead in place]


def refuse_taken_ports(wanted: Endpoint, holders: Iterable[Endpoint]) -> None:
    """Check that ``wanted`` may publish its ports on a host whose endpoints are ``holders``.

    ``wanted`` itself may be among the holders: asking again is well.

    Raises:
        Conflict: a port is published already; names the port and the container that has it.
        InvalidConfig: two mappings want one port, or ``hostIP`` is of a family that the container
            has no address of; the user edits the container's port mappings.
    """
    if not wanted.ports:
        return
    _refuse_own_mistakes(wanted)
    mine = leads_of(wanted)
    for holder in holders:
        if holder.handle == wanted.handle or not holder.ports:
            continue
        for theirs in leads_of(holder):
            for lead in mine:
                if lead.excludes(theirs):
                    raise Conflict(
                        f"host port {lead.place} is taken: {theirs.place} leads to container "
                        f"{holder.container_id} of network {holder.network} "
                        f"({_bracketed(theirs.target)}:{theirs.container_port})",
                        hint="choose another hostPort, or detach that container first",
                    )


def _refuse_own_mistakes(wanted: Endpoint) -> None:
    families = {address.version for address in wanted.addresses}
    for index, port in enumerate(wanted.ports):
        if port.host_ip is not None and port.host_ip.version not in families:
            where = f"portMappings[{index}].hostIP"
            raise InvalidConfig(
                f"{where}: the container has no IPv{port.host_ip.version} address "
                f"that {port.host_ip} could lead to",
                field=where,
                value=str(port.host_ip),
                hint="give a host address of the container's family, or none",
            )
    mine = leads_of(wanted)
    for index, lead in enumerate(mine):
        if any(lead.excludes(earlier) for earlier in mine[:index]):
            raise InvalidConfig(
                f"portMappings: host port {lead.place} is wanted twice",
                field="portMappings",
                value=lead.host_port,
                hint="publish a host port once, or once per hostIP",
            )


def loopback_sysctls(endpoints: Iterable[Endpoint], links: Iterable[Link]) -> list[Sysctl]:
    """Return the sysctls that make ``127.0.0.1:port`` of the host lead to a container.

    The kernel sends nothing from 127.0.0.0/8 into a device unless that device has
    ``route_localnet``: the bridge of a bridged container, the veth of a routed one. ``links`` are
    the desired ones. It is set per device and never for ``all``, which would open the host's
    loopback addresses to every neighbour; on these devices the table's chain ``loopback`` keeps
    them shut. IPv6 has nothing of the kind: ``[::1]:port`` leads nowhere.
    """
    published = {
        endpoint.host_ifname
        for endpoint in endpoints
        if any(lead.family == 4 for lead in leads_of(endpoint))
    }
    devices = {link.master or link.name for link in links if link.name in published}
    return [Sysctl(f"ipv4/conf/{device}/route_localnet", "1") for device in sorted(devices)]


def _bracketed(address: IPAddress) -> str:
    return f"[{address}]" if address.version == 6 else str(address)
