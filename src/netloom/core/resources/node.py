"""Node: a host as Calico's users see it.

Addresses are what the host's agent says of itself; AS number, route reflection and labels are what
people say of it, kept as a document. A document may be there before its host is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from netloom.core.resources.bgp import parse_node
from netloom.core.resources.contract import Operation, Picture
from netloom.core.resources.documents import Documents
from netloom.core.resources.values import take_unused
from netloom.core.selection import parse
from netloom.core.selection_merge import by_family
from netloom.model.addr import Family, IPAddress
from netloom.model.errors import Conflict, InvalidConfig
from netloom.model.fields import Fields, nearest
from netloom.model.host import Host
from netloom.model.keys import host_key
from netloom.model.resource import Resource
from netloom.model.view import Cluster

KIND = "Node"
_DOCUMENTS = Documents(KIND)
#: What people say; the rest of a spec is the agent's to say.
_SAID = ("asNumber", "routeReflectorClusterID")
_CHOICE = (
    "the host's agent says it; the annotation netloom/ip-autodetection-method says how it is chosen"
)
_END = "the host's agent takes the tunnel's address out of the host's own first block"
_MAC = "it follows from the host's id"
#: What the agent decides of ``spec.bgp``, and of the rest of a spec: how.
_AGENTS_BGP = {
    "ipv4Address": _CHOICE,
    "ipv6Address": _CHOICE,
    "ipv4IPIPTunnelAddr": f"{_END}; `ip address show tunl0` there tells it",
}
_AGENTS = {
    "ipv4VXLANTunnelAddr": _END,
    "ipv6VXLANTunnelAddr": _END,
    "vxlanTunnelMACAddr": _MAC,
    "vxlanTunnelMACAddrV6": _MAC,
}
_UNUSED = ("orchRefs", "interfaces", "wireguard")


#: Annotations of a Node that say how its host chooses the underlay, in Calico's words, by family.
METHODS: dict[Family, str] = {
    4: "netloom/ip-autodetection-method",
    6: "netloom/ip6-autodetection-method",
}


def method_of(cluster: Cluster, host_name: str) -> str:
    """Return what a host's underlay is chosen by (``core/selection``); "" when nobody said it."""
    document = cluster.resources.get((KIND, "", host_name))
    said = document.annotations if document else {}
    return by_family({family: said.get(name, "") for family, name in METHODS.items()})


def labels_of(cluster: Cluster, host: Host) -> Mapping[str, str]:
    """Return the labels that people gave to a host."""
    document = cluster.resources.get((KIND, "", host.name))
    return document.labels if document else {}


def check(resource: Resource) -> tuple[str, ...]:
    """Check a Node; return what of it the agent decides."""
    parse_node(resource.spec)
    _check_names(resource.annotations)
    for name in METHODS.values():
        _check_method(resource, name)
    fields = Fields(resource.spec, "spec")
    bgp = Fields(fields.take_map("bgp"), fields.path("bgp"))
    for name in _SAID:
        bgp.take(name)
    ignored = [*_taken(bgp, _AGENTS_BGP)]
    bgp.done()
    fields.take("addresses")  # shown beside what it repeats
    ignored = [*take_unused(fields, _UNUSED), *_taken(fields, _AGENTS), *ignored]
    fields.done()
    return tuple(ignored)


def _taken(fields: Fields, reasons: Mapping[str, str]) -> Iterator[str]:
    """Remove the fields that ``reasons`` names; yield the path of each that was there, and why."""
    for name, reason in reasons.items():
        if fields.take(name) is not None:
            yield f"{fields.path(name)}: {reason}"


def _check_names(annotations: Mapping[str, str]) -> None:
    """Refuse an annotation of ours that means nothing; all others are people's own."""
    for name in annotations:
        if name.startswith("netloom/") and name not in METHODS.values():
            field = f"metadata.annotations.{name}"
            raise InvalidConfig(
                f"{field}: unknown annotation",
                field=field,
                value=name,
                hint=nearest(name, METHODS.values()),
            )


def _check_method(resource: Resource, name: str) -> None:
    try:
        parse(resource.annotations.get(name, ""))
    except InvalidConfig as error:
        field = f"metadata.annotations.{name}"
        text = f"{field}: {str(error).removeprefix('interface: ')}"
        raise InvalidConfig(text, field=field, value=error.value, hint=error.hint) from None


class Nodes:
    """Shows hosts with what people say of them; writes the latter."""

    def shown(self, picture: Picture) -> tuple[Resource, ...]:
        """Return a Node for each host, and for each document whose host is not there yet."""
        documents = {each.name: each for each in _DOCUMENTS.shown(picture)}
        hosts = picture.cluster.hosts.values()
        nodes = [_with_host(documents.pop(host.name, None), host) for host in hosts]
        return (*nodes, *documents.values())

    def keys(self, picture: Picture, resource: Resource) -> tuple[str, ...]:
        """Return the document's key; that of the host's record where there is no document."""
        own = _DOCUMENTS.keys(picture, resource)
        if resource.identity in picture.cluster.resources:
            return own
        host = _host(picture, resource.name)
        return (*own, host_key(host.id)) if host else own

    def written(self, picture: Picture, resource: Resource) -> tuple[Operation, ...]:
        """Return how to write what people say; the agent's part is left out."""
        bgp = {name: value for name, value in _bgp(resource).items() if name in _SAID}
        said = replace(resource, spec={"bgp": bgp} if bgp else {})
        return _DOCUMENTS.written(picture, said)

    def removed(self, picture: Picture, resource: Resource) -> tuple[Operation, ...]:
        """Return how to forget what people said. Raises Conflict while the host is there."""
        if _host(picture, resource.name):
            raise Conflict(
                f"Node({resource.name}) is a host of this cluster",
                hint=f"stop its agent, then `netloom host forget {resource.name}`",
            )
        return _DOCUMENTS.removed(picture, resource)


def _host(picture: Picture, name: str) -> Host | None:
    return next((host for host in picture.cluster.hosts.values() if host.name == name), None)


def _bgp(resource: Resource) -> Mapping[str, Any]:
    bgp = resource.spec.get("bgp") or {}
    return bgp if isinstance(bgp, Mapping) else {}


def _with_host(document: Resource | None, host: Host) -> Resource:
    node = document or Resource(KIND, host.name)
    bgp = dict(_bgp(node))
    addresses = []
    for name, address in (("ipv4Address", host.underlay4), ("ipv6Address", host.underlay6)):
        if address is not None:
            bgp[name] = _with_length(address, host)
            addresses.append({"address": bgp[name], "type": "CalicoNodeIP"})
    spec: dict[str, Any] = {"addresses": addresses} if addresses else {}
    return replace(node, spec={**spec, **({"bgp": bgp} if bgp else {})})


def _with_length(address: IPAddress, host: Host) -> str:
    segment = next((each for each in host.segments if address in each), None)
    return f"{address}/{segment.prefixlen if segment else address.max_prefixlen}"
