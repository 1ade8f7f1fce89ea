"""What ``node run`` was asked for, and what of it is written to the datastore as resources.

Calico's words are those of calico-node: its flags, and its variables for the default pools.
"""

from __future__ import annotations

import ipaddress
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import click

from netloom.cli.resources import files
from netloom.cli.resources.editor import Editor, edit
from netloom.cli.resources.patch import merged
from netloom.cli.settings import Settings
from netloom.core.resources.table import KINDS
from netloom.kernel.rtnetlink import RtKernel
from netloom.model.addr import IPNetwork
from netloom.model.errors import InvalidConfig
from netloom.model.kernel import Address
from netloom.model.resource import API_VERSION
from netloom.model.view import Cluster

#: What calico-node takes as its default pool: the first that is free.
_DEFAULT_RANGES = ("192.168.0.0/16", *(f"172.{second}.0.0/16" for second in range(16, 32)))
_MODES = {
    "": "Never", "off": "Never", "never": "Never", "always": "Always",
    "crosssubnet": "CrossSubnet", "cross-subnet": "CrossSubnet",
}  # fmt: skip


@dataclass(frozen=True)
class Options:
    """What was asked for, by flag or variable."""

    addresses: Mapping[int, str]
    methods: Mapping[int, str]
    as_number: str
    name: str
    backend: str
    no_default_ippools: bool
    log_dir: str

    def interface(self) -> str:
        """Return what the setting ``interface`` has to be; "" to leave it. Raises InvalidConfig."""
        parts = []
        for family in (4, 6):
            address, method = self.addresses[family], self.methods[family]
            if address == "none":
                parts.append(f"{family}:none")
            elif address in ("", "autodetect"):
                parts += [f"{family}:{method}"] if method else []
            else:
                parts.append(f"{family}:interface={_address(address, family)}")
        return ";".join(parts)


def tell_cluster(settings: Settings, options: Options, host_name: str) -> None:
    """Write what was said of the cluster. Hosts that start together do it one after the other."""
    done = edit(settings, lambda editor: _write(editor, options, host_name), create=True)
    for made in done.changed:
        if made.kind == "IPPool":
            click.echo(f"Creating default pool {made.spec['cidr']}")


def _write(editor: Editor, options: Options, host_name: str) -> None:
    if options.as_number:
        known = editor.find(KINDS["Node"], "", host_name)
        data = _document("Node", host_name, {"bgp": {"asNumber": options.as_number}})
        # What people have said of this host besides, its labels for one, stays.
        before = json.loads(json.dumps(known.render())) if known else {}
        editor.apply(files.document(merged(before, data), "", {}))
    if not editor.picture.cluster.networks and not options.no_default_ippools:
        for data in _default_pools(editor.picture.cluster, options, os.environ):
            editor.create(files.document(data, "", {}))


def _default_pools(
    cluster: Cluster, options: Options, env: Mapping[str, str]
) -> list[dict[str, Any]]:
    """Return calico-node's pools: IPv4 always, IPv6 where a variable names its range."""
    hosts = cluster.hosts.values()
    taken = [segment for host in hosts for segment in host.segments] + _own_segments()
    free = [
        text for text in _DEFAULT_RANGES
        if not any(
            each.version == 4 and each.overlaps(ipaddress.ip_network(text)) for each in taken
        )
    ]  # fmt: skip
    first = env.get("CALICO_IPV4POOL_CIDR") or next(iter(free), "")
    if not first:
        raise InvalidConfig(
            "CALICO_IPV4POOL_CIDR: none of the default ranges is free of this host's networks",
            field="CALICO_IPV4POOL_CIDR",
            hint="name a range there, or say --no-default-ippools",
        )
    pools = []
    for family, cidr in (
        (4, first),
        (6, env.get("CALICO_IPV6POOL_CIDR", "")),
    ):
        if not cidr:
            continue
        prefix = f"CALICO_IPV{family}POOL_"
        vxlan = _mode(env, prefix + "VXLAN")
        spec: dict[str, Any] = {
            "cidr": cidr,
            "ipipMode": _mode(env, prefix + "IPIP"),
            "vxlanMode": "Always" if options.backend == "vxlan" and vxlan == "Never" else vxlan,
            "natOutgoing": env.get(prefix + "NAT_OUTGOING", "true" if family == 4 else "false"),
            "disableBGPExport": env.get(prefix + "DISABLE_BGP_EXPORT", "false"),
        }
        if size := env.get(prefix + "BLOCK_SIZE"):
            spec["blockSize"] = size
        if selector := env.get(prefix + "NODE_SELECTOR"):
            spec["nodeSelector"] = selector
        pools.append(_document("IPPool", f"default-ipv{family}-ippool", spec))
    return pools


def _own_segments() -> list[IPNetwork]:
    """Return the networks that this host's own cards are on."""
    kernel = RtKernel()
    try:
        found = kernel.read(frozenset({"address"}))
    finally:
        kernel.close()
    return [each.interface.network for each in found if isinstance(each, Address)]


def _mode(env: Mapping[str, str], name: str) -> str:
    said = env.get(name, "")
    if said.lower() not in _MODES:
        raise InvalidConfig(
            f"{name}: {said!r} is no mode",
            field=name,
            value=said,
            hint="use Always, CrossSubnet or Never",
        )
    return _MODES[said.lower()]


def _document(kind: str, name: str, spec: dict[str, Any]) -> dict[str, Any]:
    assert kind in KINDS
    return {"apiVersion": API_VERSION, "kind": kind, "metadata": {"name": name}, "spec": spec}


def _address(text: str, family: int) -> str:
    """Return an address without its length. Raises InvalidConfig."""
    try:
        interface = ipaddress.ip_interface(text)
    except ValueError:
        interface = None
    if interface is None or interface.version != family:
        flag = "--ip" if family == 4 else "--ip6"
        raise InvalidConfig(
            f"{flag}: {text!r} is not an IPv{family} address",
            field=flag,
            value=text,
            hint="give an address of this host, autodetect, or none",
        )
    return str(interface.ip)
