"""Damage to every kind of object that an agent keeps on a host of the vxlan and bridge kind."""

from __future__ import annotations

from netloom.lab.host import LabHost
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
        _act(f"ip route del {block}", "ip monitor route", rf"^Deleted {block} ", rf"^{block} via"),
        _act(
            f"ip neigh del {via} dev {TUNNEL}",
            "ip monitor neigh",
            rf"^Deleted {via} dev {TUNNEL}",
            rf"^{via} dev {TUNNEL} lladdr .* PERMANENT",
        ),
        _act(
            f"bridge fdb del {mac} dev {TUNNEL}",
            "bridge monitor fdb",
            rf"^Deleted {mac} ",
            rf"^{mac} dev {TUNNEL} dst",
        ),
    ]


def _to_the_bridge(host: LabHost) -> list[Damage]:
    port = host.json(["ip", "-j", "link", "show", "master", BRIDGE])[0]["ifname"]
    address = host.json(["ip", "-j", "-4", "address", "show", "dev", BRIDGE])[0]["addr_info"][0]
    cidr = f"{address['local']}/{address['prefixlen']}"
    return [
        _act(
            f"ip link set {port} nomaster",
            "ip monitor link",
            rf"^Deleted .*{port}.*master",
            rf" {port}@.* master {BRIDGE} ",
        ),
        _act(
            f"ip address del {cidr} dev {BRIDGE}",
            "ip monitor address",
            rf"^Deleted .*{BRIDGE} .*inet {cidr} ",
            rf"^[0-9]+: {BRIDGE} .*inet {cidr} ",
        ),
    ]


def _to_the_whole(host: LabHost) -> list[Damage]:
    routes = host.json(["ip", "-j", "route", "show", "dev", TUNNEL])
    return [
        _act(
            f"ip link del {TUNNEL}",
            "ip monitor link route",
            rf"^Deleted .*{TUNNEL}",
            rf"^[0-9./]+ via [0-9.]+ dev {TUNNEL}",
            times=len(routes),
        ),
        _act("nft flush ruleset", "nft monitor", "new generation", "new generation"),
    ]


def _act(command: str, monitor: str, gone: str, back: str, times: int = 1) -> Damage:
    return Damage(tuple(command.split()), tuple(monitor.split()), gone, back, times)
