"""What the store tells of the network as a whole: flannel's configuration, and ours beside it.

Pure.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from netloom.core.moving import begin
from netloom.model import keys
from netloom.model.addr import Family, IPNetwork
from netloom.model.datastore import Entry
from netloom.model.errors import InvalidConfig
from netloom.model.network import Choice, Network
from netloom.store.flannel.config import FlannelConfig
from netloom.store.flannel.layout import Format
from netloom.store.flannel.lease import Lease


@dataclass(frozen=True, slots=True)
class Told:
    """A configuration that could be read, and the network that it makes; both None without one."""

    config: FlannelConfig | None = None
    network: Network | None = None
    #: The network's label and course, which thousands of leases are held against.
    label: str = ""
    course: str = ""
    #: The network's ranges by family.
    pools: Mapping[Family, IPNetwork] = field(default_factory=dict)
    #: Without a configuration: the note that says so. No lease of a guest can be judged then.
    lacking: bytes = b""

    @classmethod
    def parse(cls, form: Format, raw: Mapping[str, Entry]) -> Told:
        """Read configuration and note; there is a configuration. Raises InvalidConfig."""
        config = FlannelConfig.parse(raw[form.config].value, form.config)
        network = _moved(config.network(form.network, nat_outgoing=form.ip_masq), form, raw)
        pools = MappingProxyType({pool.family: pool.cidr for pool in network.pools})
        return cls(config, network, network.backend.label, network.course, pools)

    def reservations(self, form: Format) -> list[tuple[str, Mapping[str, object]]]:
        """Return key and content of what the configuration leaves out of its network."""
        found = self.config.reservations(form.network) if self.config else []
        return [(keys.reservation_key(form.network, each.cidr), each.render()) for each in found]

    def misplaced(self, cidrs: Iterable[IPNetwork]) -> str:
        """Return why a lease of these blocks cannot be one of this network; "" when it can.

        A family that the network has not says nothing: flannel's daemons pass by it, too.
        """
        for cidr in cidrs:
            pool = self.pools.get(cidr.version)
            if pool is None or (cidr.prefixlen > pool.prefixlen and cidr.network_address in pool):
                continue
            return f"{cidr} is no part of the network {pool}"
        return ""

    def serves(self, lease: Lease, dual: bool) -> tuple[str, str]:
        """Return the label of the backend that a guest's lease fits, or why it fits none."""
        if self.config is None or self.network is None:
            return "", ""
        reason = lease.mismatch(self.config, dual)
        if not reason:
            return self.label, ""
        for choice in self.network.retiring:
            options = {"VNI": choice.options.get("vni", 1)} if choice.type == "vxlan" else {}
            former = replace(self.config, backend=choice.type, options=MappingProxyType(options))
            if not lease.mismatch(former, dual):
                return choice.label, ""
        return "", reason


def absent(form: Format) -> tuple[str, str, str]:
    """Return key, text and remedy of the problem that there is no configuration."""
    text = f"there is no key {form.config}, where flannel's configuration is looked for"
    return form.config, text, f"write it (etcdctl put {form.config} …), or name the right prefix"


def _moved(network: Network, form: Format, raw: Mapping[str, Entry]) -> Network:
    """Add the backends that retire: noted ones, and that of before an edit by hand."""
    entry = raw.get(form.backend)
    if entry is None:
        return network
    try:
        data = json.loads(entry.value)
        choices = [Choice.parse(item, "backend", "") for item in data["retiring"]]
        current = Choice.parse(data["current"], "backend", "")
        moves = int(data.get("moves", 0))
    except (ValueError, KeyError, TypeError, InvalidConfig):
        return network
    before = replace(network, backend=current, retiring=tuple(choices), moves=moves)
    if current == network.backend:
        return before
    return begin(before, network)
