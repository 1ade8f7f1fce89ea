"""What ``netloom lab list -o json`` prints: a lab's hosts and containers as they are right now."""

from __future__ import annotations

from typing import Any

from netloom.kernel import namespaces
from netloom.lab import agents, containers, processes, record, wiring
from netloom.lab.agents import Home
from netloom.lab.record import Record
from netloom.lab.topology import Node, Topology
from netloom.model.errors import InvalidConfig, Unavailable

Pids = dict[tuple[int, int], list[int]]


def describe(lab: Record, topology: Topology) -> dict[str, Any]:
    """Return name, phase, hosts, routers and segments of a lab."""
    pids = processes.by_namespace()
    return {
        "name": lab.name,
        "phase": "abandoned" if lab.abandoned else lab.phase,
        "created": lab.created,
        "title": topology.title,
        "directory": str(record.directory(lab.name)),
        "datastore": Home(lab.name, "").settings()["NETLOOM_DATASTORE"],
        "hosts": [_host(lab.name, node, pids) for node in topology.hosts],
        "routers": [_node(lab.name, node, pids) for node in topology.routers],
        "segments": [
            {
                "name": segment.name,
                "namespace": wiring.namespace(lab.name, segment.name),
                "subnets": [str(subnet) for subnet in segment.subnets],
                "mtu": segment.mtu_bytes,
            }
            for segment in topology.segments
        ],
    }


def _node(lab: str, node: Node, pids: Pids) -> dict[str, Any]:
    netns = wiring.namespace(lab, node.name)
    return {
        "name": node.name,
        "namespace": netns,
        "interfaces": [
            {
                "name": interface.name,
                "segment": interface.segment,
                "addresses": [str(address) for address in interface.addresses],
            }
            for interface in node.interfaces
        ],
        "pids": _pids(netns, pids),
    }


def _host(lab: str, node: Node, pids: Pids) -> dict[str, Any]:
    home = Home(lab, node.name)
    return _node(lab, node, pids) | {
        "agent": _agent(home),
        "containers": [
            {
                "name": known.name,
                "namespace": wiring.namespace(lab, node.name, known.name),
                "networks": list(known.networks),
                "addresses": known.addresses,
                "command": list(known.command),
                "pids": _pids(wiring.namespace(lab, node.name, known.name), pids),
            }
            for known in containers.every(home).values()
        ],
    }


def _agent(home: Home) -> dict[str, Any]:
    process = home.process
    ready = False
    if process:
        try:
            ready = bool(agents.status(home, patience_s=5.0).get("ready"))
        except Unavailable:
            ready = False
    return {
        "pid": process.pid if process else None,
        "ready": ready,
        "socket": str(home.socket),
        "log": str(home.log),
    }


def _pids(netns: str, pids: Pids) -> list[int]:
    try:
        return sorted(pids.get(namespaces.identity(namespaces.path(netns)), []))
    except InvalidConfig:
        return []
