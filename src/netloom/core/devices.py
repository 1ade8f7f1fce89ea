"""Which kinds of links a network needs on every host, and which hosts' kernels cannot make them.

A host says in its record what its kernel can make (``Host.devices``); of kinds that it does not
name it is believed that it can. Whoever chooses a backend is told at once where it could not stand,
and which one comes nearest; a host that joins a network later says so in its own status.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from netloom.core import moving
from netloom.core.backends.calico_modes import MODES, choice_of, modes_of
from netloom.core.backends.contract import Side
from netloom.core.backends.table import BACKENDS
from netloom.model.errors import InvalidConfig
from netloom.model.host import Host, named
from netloom.model.kernel import Link
from netloom.model.network import Choice, Network
from netloom.model.view import Cluster
from netloom.model.wording import how_to_get


def needed(network: Network) -> frozenset[str]:
    """Return the kinds of links that the network's backend makes on each host."""
    anybody = moving.anybody()
    side = Side(network, anybody, moving.facts_of(anybody), ())
    objects = BACKENDS[network.backend.type].prepare(side).objects
    return frozenset(obj.kind for obj in objects.values() if isinstance(obj, Link))


def refuse_lacking(cluster: Cluster, wanted: Network, before: Network | None = None) -> None:
    """Refuse a backend that needs what some host's kernel cannot make. Raises InvalidConfig.

    What ``before`` needs as well stands or fails already, and counts for nothing.
    """
    kinds = needed(wanted) - (needed(before) if before else frozenset())
    for kind in sorted(kinds):
        lacking = sorted(_lacking(cluster, kind), key=lambda host: host.name)
        if lacking:
            raise InvalidConfig(
                f"backend: it needs links of type {kind}, which the kernel cannot make on "
                f"{named(lacking)}",
                field="backend",
                value=wanted.backend.type,
                hint=f"{how_to_get(kind)}; {_instead(cluster, wanted)}"
                + ("" if len(lacking) == len(cluster.hosts) else _gone(lacking[0].name)),
            )


def _lacking(cluster: Cluster, kind: str) -> Iterator[Host]:
    return (host for host in cluster.hosts.values() if host.devices.get(kind) is False)


def _gone(name: str) -> str:
    return f"; a host that is gone counts no more after `netloom host forget {name}`"


def _instead(cluster: Cluster, wanted: Network) -> str:
    """Name the backend that comes nearest and that every host can do."""
    for choice in _others(wanted):
        network = replace(wanted, backend=choice, retiring=())
        if {pool.family for pool in wanted.pools} <= BACKENDS[choice.type].families and not (
            any(True for kind in needed(network) for _ in _lacking(cluster, kind))
            or moving.obstacles(cluster, network)
        ):
            return f"the nearest that every host can do is backend {_word(choice)}"
    return "no other backend works on every host as it is"


def _others(wanted: Network) -> Iterable[Choice]:
    """Yield the other backends, the nearest first: tunnels that need least, then plain routes."""
    modes = modes_of(wanted.backend)
    mode = next((mode for mode in modes if mode != MODES[0]), "Always")
    every = (choice_of("Never", mode), choice_of(mode, "Never"), Choice("host-gw"), Choice("udp"))
    return (choice for choice in (*every, Choice("bgp")) if choice.type != wanted.backend.type)


def _word(choice: Choice) -> str:
    """Return a backend as `netloom` has it, and as an IPPool has it where that can say it."""
    ipip, vxlan = modes_of(choice)
    if choice.type not in ("vxlan", "ipip", "bgp"):
        return choice.type
    return f"{choice.type} (in an IPPool ipipMode: {ipip}, vxlanMode: {vxlan})"
