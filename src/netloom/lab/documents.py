"""Topology documents: the default lab made from flags, shipped files, and files of the user's."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from netloom.core import definition
from netloom.lab.topology import Topology
from netloom.model.errors import InvalidConfig
from netloom.model.fields import nearest

SUBNET = ipaddress.IPv4Network("192.168.31.0/24")
#: Where the hosts are when a pool takes SUBNET, as that of the preset calico does.
OTHER_SUBNET = ipaddress.IPv4Network("172.31.31.0/24")
FIRST_HOST = 62
MOST_HOSTS = 254 - FIRST_HOST + 1
DEFAULT_NETWORK: Mapping[str, Any] = {
    "name": "default",
    "pools": [{"cidr": "10.244.0.0/16", "blockSize": 24}],
    "addressing": "host-block",
    "attachment": "bridge",
    "backend": "vxlan",
}


def default_document(
    hosts: int = 3, network: Mapping[str, Any] | None = DEFAULT_NETWORK
) -> dict[str, Any]:
    """Return the document of ``hosts`` hosts on one segment with a gateway, as in the tutorials.

    Underlay 192.168.31.0/24, or 172.31.31.0/24 when the network's pools take that, on ``ens33``;
    hosts from .62 on, the gateway at .1.
    """
    if not 1 <= hosts <= MOST_HOSTS:
        raise InvalidConfig(
            f"hosts: {hosts} is out of range 1..{MOST_HOSTS}",
            field="hosts",
            value=hosts,
            hint="for more hosts write a topology file with a larger subnet",
        )
    subnet = _free_subnet(network or {})
    gateway = str(subnet.network_address + 1)
    return {
        "title": f"{hosts} host{'s' if hosts != 1 else ''} on one segment",
        "segments": [{"name": "lan", "subnets": [str(subnet)], "gateways": [gateway]}],
        "routers": [
            {"name": "gw", "interfaces": [{"name": "lan", "segment": "lan", "address": gateway}]}
        ],
        "hosts": [
            {
                "name": f"h{index + 1}",
                "interfaces": [
                    {
                        "name": "ens33",
                        "segment": "lan",
                        "address": str(subnet.network_address + FIRST_HOST + index),
                    }
                ],
            }
            for index in range(hosts)
        ],
        "networks": [dict(network)] if network else [],
    }


def _free_subnet(network: Mapping[str, Any]) -> ipaddress.IPv4Network:
    """Return an underlay that the network's pools leave free; of a pool over both, agents tell."""
    base = definition.preset(network["preset"]) if "preset" in network else {}
    pools = {**base, **network}.get("pools", ())
    cidrs = [pool["cidr"] if isinstance(pool, Mapping) else pool for pool in pools]
    taken = any(_overlaps(str(cidr), SUBNET) for cidr in cidrs)
    return OTHER_SUBNET if taken else SUBNET


def _overlaps(text: str, subnet: ipaddress.IPv4Network) -> bool:
    try:
        cidr = ipaddress.ip_network(text)
    except ValueError:
        return False  # refused with its reason when the network is parsed
    return cidr.version == 4 and cidr.overlaps(subnet)


def shipped() -> list[str]:
    """Return the names of the topologies that come with Netloom."""
    folder = resources.files("netloom.lab") / "topologies"
    return sorted(
        item.name.removesuffix(".yaml") for item in folder.iterdir() if item.name.endswith(".yaml")
    )


def load_document(source: str) -> dict[str, Any]:
    """Read a topology from a file, or a shipped one by its bare name. Raises InvalidConfig."""
    path = Path(source)
    try:
        if not path.exists() and source.removesuffix(".yaml") in shipped():
            folder = resources.files("netloom.lab") / "topologies"
            text = (folder / f"{source.removesuffix('.yaml')}.yaml").read_text("utf-8")
        else:
            text = path.read_text("utf-8")
    except FileNotFoundError:
        raise InvalidConfig(
            f"{source}: no such file, and no shipped topology of that name",
            field="file",
            value=source,
            hint=nearest(source, shipped()),
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidConfig(f"{source}: {error}", field="file", value=source) from None
    return parse_yaml(text, source)


def parse_yaml(text: str, source: str) -> dict[str, Any]:
    """Parse a topology's YAML (or JSON) into its document, and check it. Raises InvalidConfig."""
    import yaml  # noqa: PLC0415 - loading it costs 30 ms, and most verbs need no YAML

    try:
        document = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        line = getattr(getattr(error, "problem_mark", None), "line", None)
        where = f"{source}:{line + 1}" if line is not None else source
        problem = getattr(error, "problem", None) or "not YAML"
        raise InvalidConfig(f"{where}: {problem}", field="file", value=source) from None
    if not isinstance(document, dict):
        raise InvalidConfig(
            f"{source}: not a topology",
            field="file",
            value=source,
            hint="the topology's form is in docs/lab.md; `netloom lab up --help` shows an example",
        )
    Topology.parse(document)
    return document
