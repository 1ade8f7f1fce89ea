"""Which columns ``get`` shows of a kind: headings and cells as calicoctl's users know them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from netloom.core.resources.bgp import DEFAULT_AS
from netloom.core.resources.contract import Picture
from netloom.model.resource import Resource

Cell = Callable[[Resource, Picture], str]


@dataclass(frozen=True, slots=True)
class Columns:
    """Headings of the plain and of the wide table."""

    plain: tuple[str, ...]
    wide: tuple[str, ...] = ()

    def chosen(self, wide: bool) -> tuple[str, ...]:
        """Return the headings of one of the two."""
        return self.wide if wide and self.wide else self.plain


COLUMNS: dict[str, Columns] = {
    "BGPConfiguration": Columns(("NAME", "LOGSEVERITY", "MESHENABLED", "ASNUMBER")),
    "BGPPeer": Columns(("NAME", "PEERIP", "NODE", "ASN")),
    "BGPFilter": Columns(
        ("NAME", "NUMEXPORTV4", "NUMIMPORTV4", "NUMEXPORTV6", "NUMIMPORTV6"),
    ),
    "IPPool": Columns(
        ("NAME", "CIDR", "SELECTOR"),
        (
            "NAME",
            "CIDR",
            "NAT",
            "IPIPMODE",
            "VXLANMODE",
            "DISABLED",
            "DISABLEBGPEXPORT",
            "SELECTOR",
            "ASSIGNMENTMODE",
        ),
    ),
    "IPReservation": Columns(("NAME",), ("NAME", "CIDRS")),
    "Node": Columns(("NAME",), ("NAME", "ASN", "IPV4", "IPV6")),
    "HostEndpoint": Columns(("NAME", "NODE"), ("NAME", "NODE", "INTERFACE", "IPS", "PROFILES")),
    "WorkloadEndpoint": Columns(
        ("WORKLOAD", "NODE", "NETWORKS", "INTERFACE"),
        ("NAME", "WORKLOAD", "NODE", "NETWORKS", "INTERFACE", "PROFILES", "NATS"),
    ),
    "NetworkSet": Columns(("NAME",), ("NAME", "NETS")),
    "GlobalNetworkSet": Columns(("NAME",), ("NAME", "NETS")),
    "FelixConfiguration": Columns(("NAME",)),
    "IPAMConfiguration": Columns(
        ("NAME", "STRICTAFFINITY", "AUTOALLOCATEBLOCKS"),
        ("NAME", "STRICTAFFINITY", "AUTOALLOCATEBLOCKS", "MAXBLOCKSPERHOST"),
    ),
    "Profile": Columns(("NAME",), ("NAME", "LABELS")),
    "ClusterInformation": Columns(
        ("NAME", "CLUSTERGUID", "CLUSTERTYPE", "CALICOVERSION", "DATASTOREREADY")
    ),
}


def columns_of(kind: str, *, wide: bool) -> tuple[str, ...]:
    """Return the headings for a kind."""
    return COLUMNS.get(kind, Columns(("NAME",))).chosen(wide)


def cell(heading: str, resource: Resource, picture: Picture) -> str:
    """Return what stands under ``heading`` for a resource; "" where it says nothing."""
    make = _CELLS.get((resource.kind, heading)) or _CELLS.get(("", heading))
    return make(resource, picture) if make else ""


def headings(kind: str) -> tuple[str, ...]:
    """Return all headings that a kind has, for those who choose their own columns."""
    known = [heading for owner, heading in _CELLS if owner in ("", kind)]
    return tuple(dict.fromkeys([*columns_of(kind, wide=True), *known]))


def word(value: object) -> str:
    """Return a value as a cell: ``true``, ``a,b``, ``k=v,l=w`` by key, "" for None."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        return ",".join(f"{key}={word(value[key])}" for key in sorted(value))
    if isinstance(value, (list, tuple)):
        return ",".join(word(item) for item in value)
    return str(value)


def _spec(name: str, default: Any = None) -> Cell:
    return lambda resource, picture: word(resource.spec.get(name, default))


def _count(name: str) -> Cell:
    return lambda resource, picture: str(len(resource.spec.get(name) or ()))


def _peer_node(resource: Resource, picture: Picture) -> str:
    spec = resource.spec
    return str(spec.get("node") or spec.get("nodeSelector") or "(global)")


def _bgp(name: str) -> Cell:
    return lambda resource, picture: word((resource.spec.get("bgp") or {}).get(name))


def _node_as(resource: Resource, picture: Picture) -> str:
    """Return a host's own AS, or in brackets that of all hosts."""
    return _bgp("asNumber")(resource, picture) or f"({_default_as(picture)})"


def _default_as(picture: Picture) -> str:
    default = picture.cluster.resources.get(("BGPConfiguration", "", "default"))
    return word((default.spec.get("asNumber") if default else None) or DEFAULT_AS)


def _peer_as(resource: Resource, picture: Picture) -> str:
    """Return the AS of the other side: its own, or the hosts' where it is chosen among them."""
    if resource.spec.get("asNumber") is not None:
        return word(resource.spec["asNumber"])
    return _default_as(picture)


_CELLS: dict[tuple[str, str], Cell] = {
    ("", "NAME"): lambda resource, picture: resource.name,
    ("", "NAMESPACE"): lambda resource, picture: resource.namespace,
    ("", "LABELS"): lambda resource, picture: word(resource.labels),
    ("BGPConfiguration", "LOGSEVERITY"): _spec("logSeverityScreen"),
    ("BGPConfiguration", "MESHENABLED"): _spec("nodeToNodeMeshEnabled"),
    ("BGPConfiguration", "ASNUMBER"): _spec("asNumber"),
    ("BGPPeer", "PEERIP"): lambda resource, picture: str(
        resource.spec.get("peerIP") or resource.spec.get("peerSelector") or ""
    ),
    ("BGPPeer", "NODE"): _peer_node,
    ("BGPPeer", "ASN"): _peer_as,
    ("BGPFilter", "NUMEXPORTV4"): _count("exportV4"),
    ("BGPFilter", "NUMIMPORTV4"): _count("importV4"),
    ("BGPFilter", "NUMEXPORTV6"): _count("exportV6"),
    ("BGPFilter", "NUMIMPORTV6"): _count("importV6"),
    ("IPPool", "CIDR"): _spec("cidr"),
    ("IPPool", "SELECTOR"): _spec("nodeSelector"),
    ("IPPool", "NAT"): _spec("natOutgoing"),
    ("IPPool", "IPIPMODE"): _spec("ipipMode"),
    ("IPPool", "VXLANMODE"): _spec("vxlanMode"),
    ("IPPool", "DISABLED"): _spec("disabled"),
    ("IPPool", "DISABLEBGPEXPORT"): _spec("disableBGPExport"),
    ("IPPool", "ASSIGNMENTMODE"): _spec("assignmentMode"),
    ("IPReservation", "CIDRS"): _spec("reservedCIDRs"),
    ("Node", "ASN"): _node_as,
    ("Node", "IPV4"): _bgp("ipv4Address"),
    ("Node", "IPV6"): _bgp("ipv6Address"),
    ("HostEndpoint", "NODE"): _spec("node"),
    ("HostEndpoint", "INTERFACE"): _spec("interfaceName"),
    ("HostEndpoint", "IPS"): _spec("expectedIPs"),
    ("HostEndpoint", "PROFILES"): _spec("profiles"),
    ("WorkloadEndpoint", "WORKLOAD"): _spec("workload"),
    ("WorkloadEndpoint", "NODE"): _spec("node"),
    ("WorkloadEndpoint", "NETWORKS"): _spec("ipNetworks"),
    ("WorkloadEndpoint", "INTERFACE"): _spec("interfaceName"),
    ("WorkloadEndpoint", "PROFILES"): _spec("profiles"),
    ("WorkloadEndpoint", "NATS"): _spec("ipNATs"),
    ("IPAMConfiguration", "STRICTAFFINITY"): _spec("strictAffinity", False),
    ("IPAMConfiguration", "AUTOALLOCATEBLOCKS"): _spec("autoAllocateBlocks", True),
    ("IPAMConfiguration", "MAXBLOCKSPERHOST"): _spec("maxBlocksPerHost", 0),
    ("Profile", "LABELS"): _spec("labelsToApply"),
    ("ClusterInformation", "CLUSTERGUID"): _spec("clusterGUID"),
    ("ClusterInformation", "CLUSTERTYPE"): _spec("clusterType"),
    ("ClusterInformation", "CALICOVERSION"): _spec("calicoVersion"),
    ("ClusterInformation", "DATASTOREREADY"): _spec("datastoreReady"),
    ("NetworkSet", "NETS"): _spec("nets"),
    ("GlobalNetworkSet", "NETS"): _spec("nets"),
}
