"""What speaks against a network on this host: other networks, the host's own routes, its MTU.

An objection is the ``InvalidConfig`` that a user would get for it: field, value, remedy. Whether it
keeps a network from standing is for ``core/desired`` to say.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from netloom.core.backends.contract import Prepared
from netloom.core.definition import check_against, check_choices
from netloom.model.addr import IPNetwork
from netloom.model.errors import InvalidConfig
from netloom.model.kernel import Address, KernelObject
from netloom.model.network import MIN_MTU, Network
from netloom.model.surprise import foreseen
from netloom.model.view import HostFacts, Problem, View


def rivals(networks: Iterable[Network], admitted: Collection[str]) -> dict[str, InvalidConfig]:
    """Return the networks that this version does not know how to do, or that exclude each other.

    Of two that do, the one that stands already (``admitted``) stays, else the first by name.
    """
    refused = {}
    accepted: list[Network] = []
    for network in sorted(networks, key=lambda n: (n.name not in admitted, n.name)):
        try:
            foreseen(check_choices)(network)
            check_against(network, accepted)
            accepted.append(network)
        except InvalidConfig as error:
            refused[network.name] = error
    return refused


def objections(view: View, network: Network, backend: Prepared) -> list[InvalidConfig]:
    """Return what speaks against ``network`` on the host of ``view``, the gravest first."""
    return [*_collisions(view, network), *_too_large(view, network, backend)]


def doubled(facts: HostFacts, network: str, objects: Iterable[KernelObject]) -> list[Problem]:
    """Return a problem for each address of ours whose network another's device has as well.

    An engine that takes the host's block for its own bridge does that: of the two bridges one
    answers for the containers of both.
    """
    return [
        Problem(
            "warning",
            f"network {network}",
            f"{device} has the network {cidr} as {obj.link} has: containers on {device} are not "
            "reached",
            f"netloom network set {network} attachment.whenNeeded=true, where only {device} has "
            f"containers; else give {device} another range",
        )
        for obj in objects
        if isinstance(obj, Address)
        for cidr, device in facts.routes
        if obj.interface.network == cidr and obj.link != device
    ]


def _collisions(view: View, network: Network) -> list[InvalidConfig]:
    found = []
    for index, pool in enumerate(network.pools):
        for cidr, device in view.facts.routes:
            if cidr.version == pool.family and cidr.overlaps(pool.cidr):
                if _is_own_block(view, network, cidr):
                    continue
                where = f"pools[{index}].cidr"
                what = (
                    "the underlay" if _is_underlay(view, cidr, device) else "a route of this host"
                )
                found.append(
                    InvalidConfig(
                        f"{where}: {pool.cidr} collides with {what}: {cidr} dev {device}",
                        field=where,
                        value=str(pool.cidr),
                        hint="choose a pool that nothing on the hosts uses",
                    )
                )
    return found


def _is_own_block(view: View, network: Network, cidr: IPNetwork) -> bool:
    """Tell whether a range is a block of this host's: an engine's own bridge (docker0) has it."""
    return any(block.cidr == cidr for block in view.own_blocks(network.name))


def _is_underlay(view: View, cidr: IPNetwork, device: str) -> bool:
    """Tell whether a range is the underlay's connected network, not just a route through it."""
    return any(
        device == name and cidr == interface.network
        for name, interface in view.facts.underlay.values()
    )


def _too_large(view: View, network: Network, backend: Prepared) -> list[InvalidConfig]:
    """Return what is wrong with the MTU; of a host without underlay nothing is known."""
    if not view.facts.underlay:
        return []
    if network.mtu_bytes > backend.mtu_bytes:
        return [
            InvalidConfig(
                f"mtu: {network.mtu_bytes} is above what this host's underlay carries: its MTU "
                f"{view.facts.mtu_bytes} leaves {backend.mtu_bytes} with {network.backend.type}",
                field="mtu",
                value=network.mtu_bytes,
                hint=f"choose at most {backend.mtu_bytes}, or 0 for automatic",
            )
        ]
    least = max(MIN_MTU[family] for family in network.families)
    if backend.mtu_bytes < least:
        return [
            InvalidConfig(
                f"mtu: this host's underlay MTU {view.facts.mtu_bytes} leaves "
                f"{backend.mtu_bytes}, and the least is {least}",
                field="mtu",
                value=network.mtu_bytes,
                hint="raise the underlay's MTU",
            )
        ]
    return []
