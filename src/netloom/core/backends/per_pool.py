"""Backend ``per-pool``: each pool of a network has a backend of its own, as Calico's IPPools may.

Its options name them: ``{default: {type: bgp}, pools: {10.1.0.0/16: {type: ipip}}}``. It is a
backend like any other, so a network moves to it, from it, and from one division to another by the
same rules.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from netloom.core.backends.contract import Backend, Prepared, Reach, Side, announces
from netloom.model.addr import Family, IPAddress, IPNetwork, parse_network
from netloom.model.errors import InvalidConfig
from netloom.model.fields import Fields, nearest
from netloom.model.host import Block, Host
from netloom.model.kernel import KernelObject
from netloom.model.network import Choice, Network
from netloom.model.pool import Pool
from netloom.model.view import Problem

NAME = "per-pool"


@dataclass(frozen=True, slots=True)
class Division:
    """Which pool has which backend: ``pools`` by CIDR, ``default`` for all others."""

    default: Choice
    pools: Mapping[IPNetwork, Choice]

    def choice(self, pool: Pool) -> Choice:
        """Return the backend of one pool."""
        return self.pools.get(pool.cidr, self.default)

    def choices(self) -> tuple[Choice, ...]:
        """Return the backends, each once, the default first."""
        every = (self.default, *self.pools.values())
        return tuple({choice.label: choice for choice in every}.values())


@dataclass(frozen=True, slots=True)
class PreparedDivision:
    """One network on this host: ``parts`` are (ranges, what carries them)."""

    parts: tuple[tuple[tuple[IPNetwork, ...], Prepared], ...]
    mtu_bytes: int
    problems: tuple[Problem, ...] = ()
    objects: Mapping[str, KernelObject] = field(default_factory=dict)

    def reach(self, peer: Host, block: Block) -> Reach:
        """Return the way that the block's pool has."""
        prepared = self._of(block)
        return prepared.reach(peer, block) if prepared else Reach()

    def excluded(self, block: Block) -> frozenset[IPAddress]:
        """Return what the backend of the block's pool takes of it."""
        prepared = self._of(block)
        return prepared.excluded(block) if prepared else frozenset()

    def announces(self, block: Block) -> bool:
        """Tell whether the backend of the block's pool leaves it to the routing daemon."""
        prepared = self._of(block)
        return prepared is not None and announces(prepared, block)

    def _of(self, block: Block) -> Prepared | None:
        first = block.cidr[0]
        for ranges, prepared in self.parts:
            if any(first in cidr for cidr in ranges):
                return prepared
        return None


class PerPoolBackend:
    """The table's entry for ``per-pool``; ``backends`` are those that pools may have."""

    name = NAME
    families: frozenset[Family] = frozenset({4, 6})

    def __init__(self, backends: Mapping[str, Backend]) -> None:
        self._backends = dict(backends)

    @property
    def least_host_bits(self) -> int:
        """The most that one of the backends needs."""
        return max(backend.least_host_bits for backend in self._backends.values())

    def parse(self, options: Mapping[str, Any], where: str) -> Division:
        """Check the options, those of the pools' backends too. Raises InvalidConfig."""
        fields = Fields(options, where)
        default = self._choice(fields.take_required("default"), fields.path("default"))
        pools: dict[IPNetwork, Choice] = {}
        for text, data in fields.take_map("pools").items():
            at = fields.path(f"pools.{text}")
            cidr = parse_network(text, at)
            choice = pools[cidr] = self._choice(data, at)
            if cidr.version not in self._backends[choice.type].families:
                raise InvalidConfig(
                    f"{at}: backend {choice.type} does not carry IPv{cidr.version}",
                    field=at,
                    value=choice.type,
                    hint="choose another backend for this pool, such as vxlan",
                )
        fields.done()
        return Division(default, pools)

    def claims(self, options: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
        """Return what any of the backends claims."""
        division = self.parse(options, "backend")
        every = [self._backends[c.type].claims(c.options) for c in division.choices()]
        return tuple(dict.fromkeys(claim for claims in every for claim in claims))

    def publish(self, network: Network, host_id: str) -> str:
        """Return the MAC that one of the backends needs, or ""."""
        for choice in self.parse(network.backend.options, "backend").choices():
            mac = self._backends[choice.type].publish(replace(network, backend=choice), host_id)
            if mac:
                return mac
        return ""

    def prepare(self, side: Side) -> PreparedDivision:
        """Prepare each backend that a pool has, for its pools and blocks alone."""
        division = self.parse(side.network.backend.options, "backend")
        parts: list[tuple[tuple[IPNetwork, ...], Prepared]] = []
        objects: dict[str, KernelObject] = {}
        problems: list[Problem] = []
        for choice in division.choices():
            pools = tuple(p for p in side.network.pools if division.choice(p) == choice)
            if not pools:
                continue
            prepared = self._backends[choice.type].prepare(_narrowed(side, choice, pools))
            parts.append((tuple(pool.cidr for pool in pools), prepared))
            objects.update(prepared.objects)
            problems += prepared.problems
        mtu = min((prepared.mtu_bytes for _, prepared in parts), default=side.facts.mtu_bytes)
        return PreparedDivision(tuple(parts), mtu, tuple(dict.fromkeys(problems)), objects)

    def _choice(self, data: object, where: str) -> Choice:
        choice = Choice.parse(data, where, "")
        if choice.type not in self._backends:
            raise InvalidConfig(
                f"{where}.type: unknown backend {choice.type!r}",
                field=f"{where}.type",
                value=choice.type,
                hint=nearest(choice.type, self._backends),
            )
        self._backends[choice.type].parse(choice.options, where)
        return choice


def _narrowed(side: Side, choice: Choice, pools: tuple[Pool, ...]) -> Side:
    blocks = tuple(b for b in side.blocks if any(b.cidr[0] in pool.cidr for pool in pools))
    return replace(side, network=replace(side.network, backend=choice, pools=pools), blocks=blocks)
