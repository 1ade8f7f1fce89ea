"""Documents of calicoctl v1 (``apiVersion: v1``), as the v3 documents that say the same.

Names are made as Calico's own converter makes them: of a pool's CIDR, of a peer's address and, for
a peer of one host, that host's name. Source: reference/calico.md §1.2.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from netloom.core.resources.values import take_word
from netloom.model.errors import InvalidConfig
from netloom.model.fields import Fields, nearest
from netloom.model.resource import API_VERSION

_IPIP_MODES = {"always": "Always", "cross-subnet": "CrossSubnet"}


def modern(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return a v1 document in v3's form. Raises InvalidConfig naming v1's field."""
    fields = Fields(data, "")
    fields.take("apiVersion")
    kind = fields.take_required("kind")
    if not isinstance(kind, str) or kind not in _KINDS:
        raise InvalidConfig(
            f"kind: v1 has no kind {kind!r} that is known here",
            field="kind",
            value=kind,
            hint=_WHY_NOT.get(str(kind)) or nearest(str(kind), _KINDS),
        )
    meta = Fields(fields.take_map("metadata"), "metadata")
    spec = Fields(fields.take_map("spec"), "spec")
    fields.done()
    name, result = _KINDS[kind](meta, spec)
    labels = meta.take_map("labels")
    meta.done()
    spec.done()
    metadata = {"name": name, **({"labels": labels} if labels else {})}
    return {
        "apiVersion": API_VERSION,
        "kind": _NAMES[kind],
        "metadata": metadata,
        "spec": {key: value for key, value in result.items() if value is not None},
    }


_Result = tuple[str, dict[str, Any]]


def _pool(meta: Fields, spec: Fields) -> _Result:
    cidr = str(meta.take_required("cidr"))
    ipip = Fields(spec.take_map("ipip"), "spec.ipip")
    enabled = ipip.take_bool("enabled", False)
    mode = take_word(ipip, "mode", tuple(_IPIP_MODES)) or "always"
    ipip.done()
    return _dashed(cidr), {
        "cidr": cidr,
        "ipipMode": _IPIP_MODES[mode] if enabled else "Never",
        "natOutgoing": spec.take_bool("nat-outgoing", False),
        "disabled": spec.take_bool("disabled", False),
    }


def _peer(meta: Fields, spec: Fields) -> _Result:
    address = str(meta.take_required("peerIP"))
    scope = take_word(meta, "scope", ("global", "node")) or "global"
    node = meta.take_str("node")
    if (scope == "node") != bool(node):
        raise InvalidConfig(
            f"metadata.node: {node!r} does not go with scope {scope}",
            field="metadata.node",
            value=node,
            hint="name the node where the scope is node, and only there",
        )
    name = f"{node}.{_dashed(address)}" if node else _dashed(address)
    return name, {
        "peerIP": address,
        "node": node or None,
        "asNumber": spec.take_required("asNumber"),
    }


def _node(meta: Fields, spec: Fields) -> _Result:
    return str(meta.take_required("name")), {"bgp": spec.take("bgp")}


def _host_endpoint(meta: Fields, spec: Fields) -> _Result:
    names = ("interfaceName", "expectedIPs", "profiles", "ports")
    return str(meta.take_required("name")), {
        "node": meta.take_required("node"),
        **{name: spec.take(name) for name in names},
    }


def _dashed(text: str) -> str:
    return text.replace(".", "-").replace(":", "-").replace("/", "-")


_KINDS: dict[str, Callable[[Fields, Fields], _Result]] = {
    "ipPool": _pool,
    "bgpPeer": _peer,
    "node": _node,
    "hostEndpoint": _host_endpoint,
}
_WHY_NOT = {
    "policy": "rules of policy are not there yet",
    "profile": f"write it as a Profile of {API_VERSION}",
    "workloadEndpoint": "agents write it; look at it with `netloom get workloadendpoints`",
}
_NAMES = {
    "ipPool": "IPPool",
    "bgpPeer": "BGPPeer",
    "node": "Node",
    "hostEndpoint": "HostEndpoint",
}
