"""Damage to every kind of object that an agent keeps on a host of the vxlan and bridge kind."""

from __future__ import annotations

from netloom.lab.host import LabHost
from netloom.lab.notices import FIREWALL
from netloom.lab.repair import Damage

TUNNEL = "flannel.1"
BRIDGE = "cni0"


def damages(host: LabHost) -> list[Damage]:
    """Return one act of damage to each kind of object, aimed at what is there now.

    The host needs a peer and a container. Each leaves the next one's aim in place, once mended.
    """
    return [*_to_the_tunnel(host), *_to_the_bridge(host), *_to_the_whole(host)]


def tables(host: LabHost) -> list[str]:
    """Return all that damage and repair are compared by, sorted, as a new link has a new number."""
    commands = (
        "ip -br -4 address",
        f"ip -br link show master {BRIDGE}",
        "ip route",
        "ip neigh show nud permanent",
        f"bridge fdb show dev {TUNNEL}",
    )
    lines = [
        f"{command}: {line}"
        for command in commands
        for line in host.exec(command.split(), check=False).splitlines()
    ]
    return [*sorted(lines), host.exec(["nft", "-s", "list", "ruleset"])]


def _to_the_tunnel(host: LabHost) -> list[Damage]:
    route = host.json(["ip", "-j", "route", "show", "dev", TUNNEL])[0]
    block, via = route["dst"], route["gateway"]
    mac = host.exec(["bridge", "fdb", "show", "dev", TUNNEL]).split()[0]
    return [
        _act(f"ip route del {block}", f"route {block}"),
        _act(f"ip neigh del {via} dev {TUNNEL}", f"neighbour {via} dev {TUNNEL}"),
        _act(f"bridge fdb del {mac} dev {TUNNEL}", f"fdb {mac} dev {TUNNEL}"),
    ]


def _to_the_bridge(host: LabHost) -> list[Damage]:
    port = host.json(["ip", "-j", "link", "show", "master", BRIDGE])[0]["ifname"]
    address = host.json(["ip", "-j", "-4", "address", "show", "dev", BRIDGE])[0]["addr_info"][0]
    cidr = f"{address['local']}/{address['prefixlen']}"
    return [
        _act(f"ip link set {port} nomaster", f"port {port}"),
        _act(f"ip address del {cidr} dev {BRIDGE}", f"address {cidr} dev {BRIDGE}"),
    ]


def _to_the_whole(host: LabHost) -> list[Damage]:
    routes = host.json(["ip", "-j", "route", "show", "dev", TUNNEL])
    delete = f"ip link del {TUNNEL}"
    flush = ("nft", "flush", "ruleset")
    return [
        _act(delete, f"link {TUNNEL}", *(f"route {route['dst']}" for route in routes)),
        Damage(flush, (False, FIREWALL), frozenset({FIREWALL})),
    ]


def _act(command: str, key: str, *others: str) -> Damage:
    """Return damage that takes the object ``key`` away, and ``others`` with it."""
    return Damage(tuple(command.split()), (True, key), frozenset({key, *others}))
