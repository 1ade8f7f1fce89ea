"""The table of kinds. Adding one: its check in a module here, a line in the table, its tests."""

from __future__ import annotations

from collections.abc import Callable

from netloom.core.bgp.misnamed import misfits
from netloom.core.ipam import configured, reserved
from netloom.core.resources import (
    bgp,
    bgp_filter,
    endpoints,
    felix,
    information,
    node,
    pool_spec,
    pools,
    workloads,
)
from netloom.core.resources.contract import Kind
from netloom.core.resources.documents import Documents
from netloom.model.errors import InvalidConfig
from netloom.model.fields import nearest
from netloom.model.resource import Resource


def _document(
    name: str,
    plural: str,
    check: Callable[[Resource], tuple[str, ...]],
    *aliases: str,
    namespaced: bool = False,
) -> Kind:
    return Kind(name, plural, check, Documents(name), aliases, namespaced)


KINDS: dict[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind("IPPool", "ipPools", pool_spec.check, pools.Pools(), ("pool", "ipp")),
        _document("IPReservation", "ipReservations", reserved.check),
        _document("IPAMConfiguration", "ipamConfigurations", configured.check, "ipamconfig"),
        Kind("Node", "nodes", node.check, node.Nodes(), ("no",)),
        _document("BGPConfiguration", "bgpConfigurations", bgp.check_configuration, "bgpconfig"),
        Kind(
            "BGPPeer",
            "bgpPeers",
            bgp.check_peer,
            Documents("BGPPeer"),
            ("bgpp",),
            misfits=misfits,
        ),
        _document("BGPFilter", "bgpFilters", bgp_filter.check_filter),
        _document("HostEndpoint", "hostEndpoints", endpoints.check_host_endpoint, "hep"),
        Kind(
            "WorkloadEndpoint",
            "workloadEndpoints",
            workloads.check,
            workloads.Workloads(),
            ("wep",),
            namespaced=True,
            told=True,
        ),
        _document(
            "NetworkSet", "networkSets", endpoints.check_network_set, "netset", namespaced=True
        ),
        _document("GlobalNetworkSet", "globalNetworkSets", endpoints.check_network_set),
        _document("Profile", "profiles", endpoints.check_profile, "pro"),
        Kind(
            "ClusterInformation",
            "clusterInformations",
            information.check,
            information.Information(),
            ("clusterinfo",),
            told=True,
        ),
        _document("FelixConfiguration", "felixConfigurations", felix.check, "felixconfig"),
    )
}

_POLICY = "rules of policy are not there yet: all containers of a network may talk to each other"
_OWN = "addresses are looked at with `netloom ipam show --show-blocks` and `--ip`"
#: Kinds of Calico's that are no resources here, and what to do instead.
_WHY_NOT = {
    "NetworkPolicy": _POLICY,
    "GlobalNetworkPolicy": _POLICY,
    "StagedNetworkPolicy": _POLICY,
    "StagedGlobalNetworkPolicy": _POLICY,
    "StagedKubernetesNetworkPolicy": _POLICY,
    "Tier": _POLICY,
    "IPAMBlock": _OWN,
    "IPAMHandle": _OWN,
    "BlockAffinity": _OWN,
    "KubeControllersConfiguration": "there are no such controllers: agents do it themselves",
    "CalicoNodeStatus": "a host's sessions and routes are shown by `netloom node status` there",
}


def kind_called(word: str) -> Kind:
    """Return the kind that a person calls ``word``. Raises InvalidConfig with the nearest name."""
    for kind in KINDS.values():
        if kind.called(word):
            return kind
    raise _unknown(word)


def kind_named(name: object) -> Kind:
    """Return the kind that a document names. Raises InvalidConfig with the nearest name."""
    if isinstance(name, str) and name in KINDS:
        return KINDS[name]
    raise _unknown(name)


def _unknown(name: object) -> InvalidConfig:
    known = {each.lower(): why for each, why in _WHY_NOT.items()}
    word = str(name).lower()
    hint = known.get(word) or known.get(word.removesuffix("s")) or known.get(word[:-3] + "y")
    return InvalidConfig(
        f"kind: there is no kind of resource called {name!r}",
        field="kind",
        value=name,
        hint=hint or nearest(str(name), KINDS),
    )
