"""The tables of a cluster: which keys of the store fill them, and how one entry is read."""

from __future__ import annotations

import json
import sys
from bisect import bisect_left
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from netloom.model import keys
from netloom.model.addr import IPNetwork
from netloom.model.errors import InvalidConfig
from netloom.model.host import Block, Host, Reservation
from netloom.model.network import Network
from netloom.model.resource import Resource
from netloom.model.surprise import foreseen
from netloom.model.view import Problem

KEY_SUBJECT = "key "  # subjects of problems with one key begin so


class KeyProblem(Problem):
    """A problem with what stands at a key that another's format has for it.

    ``subject`` names that key, as a person finds it in the store; ``key`` is the record's.
    """

    __slots__ = ("key",)
    key: str

    def __init__(self, key: str, shown: str, text: str, remedy: str) -> None:
        super().__init__("error", KEY_SUBJECT + shown, text, remedy)
        object.__setattr__(self, "key", key)


#: What a table is keyed by: a name, an id, (network, cidr), or (kind, namespace, name).
Identity = Any


@dataclass(frozen=True, slots=True)
class Table:
    """One table: ``name`` is the field of ``Cluster``, ``prefix`` where its keys are.

    ``from_key`` reads what follows the prefix and refuses text that :attr:`to_key` would not
    write, so that no two keys ever mean one identity.
    """

    name: str
    prefix: str
    from_key: Callable[[str], Identity]
    parse: Callable[[object], Any]
    identify: Callable[[Any], Identity]
    to_key: Callable[[Any], str]


@dataclass(frozen=True, slots=True)
class Place:
    """Where a key belongs; with ``problem`` the key itself does not parse."""

    table: Table
    identity: Identity
    problem: Problem | None = None


def _network_and_cidr(rest: str) -> tuple[str, IPNetwork]:
    network, _, segment = rest.rpartition("/")
    cidr = keys.parse_cidr_segment(segment)
    if keys.cidr_segment(cidr) != segment:
        raise InvalidConfig(f"{segment!r} is not how {cidr} is written in a key")
    return sys.intern(network), cidr


def _kind_and_name(rest: str) -> tuple[str, str, str]:
    parts = rest.split("/")
    if len(parts) not in (2, 3) or "" in parts:
        raise InvalidConfig(f"{rest!r} is not how a resource is named in a key")
    return parts[0], "".join(parts[1:-1]), parts[-1]


TABLES = (
    Table("hosts", keys.HOSTS, str, Host.parse, lambda h: h.id, lambda h: keys.host_key(h.id)),
    Table(
        "blocks",
        keys.BLOCKS,
        _network_and_cidr,
        Block.parse,
        lambda b: (b.network, b.cidr),
        lambda b: keys.block_key(b.network, b.cidr),
    ),
    Table(
        "networks",
        keys.NETWORKS,
        str,
        Network.parse,
        lambda n: n.name,
        lambda n: keys.network_key(n.name),
    ),
    Table(
        "reservations",
        keys.RESERVATIONS,
        _network_and_cidr,
        Reservation.parse,
        lambda r: (r.network, r.cidr),
        lambda r: keys.reservation_key(r.network, r.cidr),
    ),
    Table(
        "resources",
        keys.RESOURCES,
        _kind_and_name,
        Resource.parse,
        lambda r: r.identity,
        lambda r: keys.resource_key(*r.identity),
    ),
)


def place(key: str) -> Place | None:
    """Return where ``key`` belongs; None for a key that fills no table (a newer version's)."""
    for table in TABLES:
        if key.startswith(table.prefix):
            try:
                return Place(table, table.from_key(key[len(table.prefix) :]))
            except InvalidConfig as error:
                return Place(table, None, _unreadable(key, error))
    return None


def read(where: Place, key: str, value: bytes) -> tuple[Any, Problem | None]:
    """Return what ``value`` says, or the problem with it.

    A store that translates another's format says itself what it cannot read, and of which key:
    ``{"key": key, "unreadable": text, "remedy": text}`` in the record's place.
    """
    try:
        document = json.loads(value.decode())
        if isinstance(document, dict) and "unreadable" in document:
            return None, _foreign(key, document)
        if where.problem is not None:
            return None, where.problem
        parsed = foreseen(where.table.parse)(document)
        if where.table.identify(parsed) != where.identity:
            proper = where.table.to_key(parsed)
            raise InvalidConfig(f"the value belongs to the key {proper}")
    except (InvalidConfig, ValueError, RecursionError) as error:
        return None, where.problem or _unreadable(key, error)
    return parsed, None


def subject_of(problem: Problem) -> str:
    """Return what a problem is known by among those of a cluster: mostly the record's key."""
    return KEY_SUBJECT + problem.key if isinstance(problem, KeyProblem) else problem.subject


def _foreign(key: str, document: dict[str, Any]) -> Problem:
    remedy = str(document.get("remedy", ""))
    return KeyProblem(key, str(document.get("key", key)), str(document["unreadable"]), remedy)


def _unreadable(key: str, error: Exception) -> Problem:
    return Problem(
        "error",
        KEY_SUBJECT + key,
        f"cannot be read, its last good form stays in use: {error}",
        "mend the value or delete the key",
    )


class Ranges:
    """The address ranges of some blocks, for asking whether another overlaps one of them."""

    def __init__(self, blocks: Iterable[Block]) -> None:
        self._starts: dict[tuple[str, int], list[int]] = {}
        self._prefixes: dict[tuple[str, int], dict[int, set[int]]] = {}
        for block in blocks:
            family = (block.network, block.cidr.version)
            start, shift = _start_and_shift(block.cidr)
            self._starts.setdefault(family, []).append(start)
            self._prefixes.setdefault(family, {}).setdefault(shift, set()).add(start >> shift)
        for starts in self._starts.values():
            starts.sort()

    def overlap(self, network: str, cidr: IPNetwork) -> bool:
        """Tell whether ``cidr`` overlaps one: of two CIDRs that do, one holds the other."""
        family = (network, cidr.version)
        starts = self._starts.get(family)
        if starts is None:
            return False
        start, shift = _start_and_shift(cidr)
        index = bisect_left(starts, start)
        if index < len(starts) and starts[index] < start + (1 << shift):
            return True
        return any(start >> s in known for s, known in self._prefixes[family].items() if s >= shift)


def _start_and_shift(cidr: IPNetwork) -> tuple[int, int]:
    return int(cidr.network_address), cidr.max_prefixlen - cidr.prefixlen
