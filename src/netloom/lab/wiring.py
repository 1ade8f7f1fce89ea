"""Building a topology's namespaces, bridges and cables, and nothing above them.

A segment is a bridge in a namespace of its own; a cable is a veth pair whose one end is a port of
that bridge and whose other end is born in the node's namespace under the name the topology gives.
"""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path

from netloom.kernel import namespaces
from netloom.lab.names import NamespaceName, port_name
from netloom.lab.topology import Interface, Node, Segment, Topology
from netloom.model.errors import KernelRejected

BRIDGE = "br0"
#: What a router does, and what spares everyone the second that IPv6 takes to look for duplicates.
_ROUTER_SYSCTLS = {"ipv4/ip_forward": "1", "ipv6/conf/all/forwarding": "1"}
_QUIET_IPV6 = {"ipv6/conf/all/accept_dad": "0", "ipv6/conf/default/accept_dad": "0"}


def namespace(lab: str, node: str, container: str = "") -> str:
    """Return the name of a node's or a container's namespace."""
    return str(NamespaceName(lab, node, container))


def make_namespaces(lab: str, topology: Topology) -> None:
    """Create one namespace for each segment, router and host, with ``lo`` up."""
    for name in topology.names:
        make_namespace(namespace(lab, name))


def make_namespace(name: str) -> None:
    """Create one namespace with ``lo`` up. Raises Conflict when the name is taken."""
    namespaces.create(name)
    ip(name, ["link set lo up"])
    write_sysctls(name, _QUIET_IPV6)


def wire(lab: str, topology: Topology) -> None:
    """Lay the cables, give addresses and default routes, and let routers forward."""
    for segment in topology.segments:
        ip(namespace(lab, segment.name), _bridge(lab, segment, topology.nodes))
    for node in topology.nodes:
        ip(namespace(lab, node.name), _configure(node))
    for router in topology.routers:
        write_sysctls(namespace(lab, router.name), _ROUTER_SYSCTLS)


def cables(topology: Topology, target: str) -> list[tuple[str, str]]:
    """Return (segment, port) of each cable that ``target`` names.

    ``target`` is a node (all its cables), ``NODE:IFNAME`` (one), or a segment (its bridge).
    """
    if any(segment.name == target for segment in topology.segments):
        return [(target, BRIDGE)]
    node, _, ifname = target.partition(":")
    return [
        (interface.segment, port_name(node, interface.name))
        for found in topology.nodes
        if found.name == node
        for interface in found.interfaces
        if ifname in ("", interface.name)
    ]


def ip(netns: str, lines: Iterable[str]) -> None:
    """Run ``ip`` commands inside a namespace, all by one process.

    Raises KernelRejected with the command that failed and what ``ip`` said.
    """
    commands = list(lines)
    done = subprocess.run(
        ["ip", "-n", netns, "-batch", "-"],
        input="\n".join(commands) + "\n",
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    if done.returncode:
        said, number, failed = done.stderr.strip().splitlines() or [""], 0, "set up"
        for line in said:
            if line.startswith("Command failed"):
                number = int(line.rpartition(":")[2])
        if 0 < number <= len(commands):
            failed = commands[number - 1]
        raise KernelRejected("do", f"`ip {failed}` in {netns}", _errno_of(said[0]), said[0])


def write_sysctls(netns: str, settings: dict[str, str]) -> None:
    """Write settings below ``/proc/sys/net`` inside a namespace; those that are absent are left."""

    def write() -> None:
        for name, value in settings.items():
            path = Path("/proc/sys/net") / name
            if path.exists():
                path.write_text(value, "utf-8")

    namespaces.in_namespace(namespaces.path(netns), write)


def _bridge(lab: str, segment: Segment, nodes: Iterable[Node]) -> Iterator[str]:
    # Snooping without a querier would make IPv6 neighbour discovery wait for a guess.
    yield f"link add {BRIDGE} type bridge mcast_snooping 0"
    yield f"link set {BRIDGE} addrgenmode none up"
    for node in nodes:
        for interface in node.interfaces:
            if interface.segment == segment.name:
                port = port_name(node.name, interface.name)
                mtu = f"mtu {segment.mtu_bytes}"
                far = f"peer name {interface.name} {mtu} netns {namespace(lab, node.name)}"
                yield f"link add {port} {mtu} type veth {far}"
                yield f"link set {port} master {BRIDGE} addrgenmode none up"


def _configure(node: Node) -> Iterator[str]:
    for interface in node.interfaces:
        yield from _card(interface)
    for destination, via in node.routes:
        yield f"route add {destination} via {via}"
    for gateway in node.gateways:
        yield f"route add default via {gateway}"


def _card(interface: Interface) -> Iterator[str]:
    for address in interface.addresses:
        nodad = " nodad" if address.version == 6 else ""
        yield f"address add {address} dev {interface.name}{nodad}"
    yield f"link set {interface.name} up"


def _errno_of(said: str) -> int:
    text = said.rpartition(": ")[2].strip().rstrip(".")
    return next((n for n in errno.errorcode if os.strerror(n) == text), errno.EINVAL)
