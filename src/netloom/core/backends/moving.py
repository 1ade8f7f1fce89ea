"""A network on its way from one backend to another: both stand, and each peer is reached by one.

Make before break. While a definition names ``retiring`` backends, every host keeps their own side
standing beside the new one's and says so in its record (``serves``). A peer is sent to by the new
backend as soon as its record says that it serves it, until then by the old one. When a host reaches
every peer by the new backend it says that too (``sends``); when all do, the retiring ones are taken
out of the definition (``core/moving``), and what was theirs is swept.

So a host that is late is still reached, and reaches others, by the old way, and no packet is sent
to where nobody listens.

While two hosts follow one after the other, packets come another way than the answers go. A strict
reverse path filter (RFC 3704 §2.2, rp_filter 1) would drop them all, so the devices that are part
of a move are set to the loose one (2) before a host says that it serves the new way. The kernel
takes the larger of a device's value and that of ``all`` (Documentation/networking/ip-sysctl.rst).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace

from netloom.core.backends.contract import Prepared, Reach, Side, announces
from netloom.core.backends.table import BACKENDS
from netloom.model.addr import IPAddress
from netloom.model.host import Block, Host
from netloom.model.kernel import KernelObject, Link, Sysctl, state_of
from netloom.model.network import Network
from netloom.model.view import Problem


@dataclass(frozen=True, slots=True)
class PreparedMove:
    """Several backends of one network: ``ways`` are (label, prepared), the wanted one first."""

    network: str
    ways: tuple[tuple[str, Prepared], ...]
    mtu_bytes: int
    problems: tuple[Problem, ...] = ()
    objects: Mapping[str, KernelObject] = field(default_factory=dict)

    def reach(self, peer: Host, block: Block) -> Reach:
        """Return the way by the first backend that the peer serves; else by the oldest.

        A better one that can never lead there is a problem: nobody asked before it was wanted.
        """
        serves = peer.serves.get(self.network, ())
        vain: Problem | None = None
        for place, (label, prepared) in enumerate(self.ways):
            if label in serves:
                reach = prepared.reach(peer, block)
                if reach.problem is None and (reach.objects or reach.stands):  # it leads there
                    return replace(reach, late=place > 0, problem=_still(vain, reach))
                vain = vain or reach.problem
        oldest = self.ways[-1][1].reach(peer, block)
        return replace(oldest, late=True, problem=oldest.problem or _still(vain, oldest))

    def excluded(self, block: Block) -> frozenset[IPAddress]:
        """Return what any of the backends takes of an own block."""
        return frozenset().union(*(prepared.excluded(block) for _, prepared in self.ways))

    def announces(self, block: Block) -> bool:
        """Tell whether any of the backends leaves ``block`` to the routing daemon."""
        return any(announces(prepared, block) for _, prepared in self.ways)


def prepare(side: Side) -> Prepared:
    """Return this host's part of a network: of its backend, and of those that are retiring."""
    network = side.network
    wanted = BACKENDS[network.backend.type].prepare(side)
    if not network.retiring:
        return wanted
    ways: list[tuple[str, Prepared]] = [(network.backend.label, wanted)]
    objects = dict(wanted.objects)
    for choice in network.retiring:
        old = BACKENDS[choice.type].prepare(replace(side, network=replace(network, backend=choice)))
        if any(objects.get(key, obj) != obj for key, obj in old.objects.items()):
            continue  # it needs the very device that the new one has: the two cannot stand together
        ways.append((choice.label, old))
        objects.update(old.objects)
    objects |= _loose(side, objects)
    return PreparedMove(
        network.name,
        tuple(ways),
        min(prepared.mtu_bytes for _, prepared in ways),
        wanted.problems,
        objects,
    )


def _still(vain: Problem | None, reach: Reach) -> Problem | None:
    """Return why a peer is not reached as it should be, with the way that leads there meanwhile."""
    if vain is None:
        return None
    return replace(vain, text=f"{vain.text}; it is still reached by {reach.path}")


def _loose(side: Side, objects: Mapping[str, KernelObject]) -> dict[str, KernelObject]:
    filters = list(_filters(objects))
    if 4 in side.facts.underlay:
        filters.append(_filter(side.facts.underlay[4][0]))
    return state_of(*filters)


def _filters(objects: Mapping[str, KernelObject]) -> Iterable[Sysctl]:
    return (_filter(obj.name) for obj in objects.values() if isinstance(obj, Link))


def _filter(device: str) -> Sysctl:
    return Sysctl(f"ipv4/conf/{device}/rp_filter", "2")


def without(prepared: Prepared, refused: Collection[str]) -> Prepared | None:
    """Return ``prepared`` without the retiring backends that the kernel refuses a part of.

    ``refused`` are keys. None when one of them is not of retiring backends alone: then something is
    missing that the wanted one leans on, or a way to a peer.
    """
    if not isinstance(prepared, PreparedMove):
        return None
    wanted, *retiring = prepared.ways
    left, lost = [wanted], set(refused)
    for label, old in retiring:
        own = {*old.objects, *(each.key for each in _filters(old.objects))} - {
            *wanted[1].objects,
            *(each.key for each in _filters(wanted[1].objects)),
        }
        if own.isdisjoint(refused):
            left.append((label, old))
        lost -= own
    return None if lost else replace(prepared, ways=tuple(left))


def served(network: Network, prepared: Prepared) -> tuple[str, ...]:
    """Return the labels of the backends that stand in ``prepared``."""
    if isinstance(prepared, PreparedMove):
        return tuple(label for label, _ in prepared.ways)
    return (network.backend.label,)
