"""A lease as it stands: the key, the value, and what we say beside it of whose it is.

Pure.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass

from netloom.model.addr import IPNetwork
from netloom.model.datastore import Entry
from netloom.model.errors import InvalidConfig
from netloom.model.host import Host
from netloom.store.flannel.document import encode
from netloom.store.flannel.lease import Lease, parse_key
from netloom.store.flannel.told import Told


@dataclass(frozen=True, slots=True)
class Holder:
    """What we say beside a lease: whose it is, and in which families the claim is pending."""

    host_id: str
    pending: frozenset[int] = frozenset()

    @classmethod
    def parse(cls, value: bytes) -> Holder | None:
        """Parse what :meth:`render` writes; None for anything else."""
        try:
            data = json.loads(value)
            return cls(str(data["host"]), frozenset(int(family) for family in data["pending"]))
        except (ValueError, KeyError, TypeError):
            return None

    def render(self) -> bytes:
        """Return the value to write."""
        return encode({"host": self.host_id, "pending": sorted(self.pending)})


@dataclass(frozen=True, slots=True)
class Held:
    """One lease as it stands. ``lease`` is None where ``problem`` says that it cannot be used."""

    segment: str
    entry: Entry
    cidrs: tuple[IPNetwork, ...] = ()
    lease: Lease | None = None
    holder: Holder | None = None
    #: Ours wrote it last; False when another hand wrote it since.
    untouched: bool = False
    #: The label of the backend that the holder serves by its lease.
    serves: str = ""
    problem: str = ""
    #: The note to give in its place, since there is nothing to judge it by.
    unjudged: bytes = b""

    @property
    def address(self) -> str:
        """The public address that it names, "" where it cannot be read."""
        return str(self.lease.public_ip) if self.lease else ""

    @property
    def reserved(self) -> bool:
        """Tell whether it fits no backend and never ends: a person keeps the block free by it."""
        fits = not self.problem or self.unjudged
        return not fits and self.lease is not None and self.entry.lease == 0


@dataclass(frozen=True, slots=True)
class Reader:
    """Reads leases against what is told of the network; ``host`` finds a record of ours."""

    told: Told
    host: Callable[[str], Host | None]

    def read(self, segment: str, entry: Entry, noted: Entry | None, holder: Holder | None) -> Held:
        """Return a lease as it stands; ``noted`` is the entry that names ``holder``."""
        try:
            cidrs = parse_key(segment)
        except InvalidConfig as error:
            return Held(segment, entry, problem=str(error))
        try:
            lease = Lease.parse(entry.value, "value")
        except InvalidConfig as error:
            return Held(segment, entry, cidrs, problem=str(error))
        untouched = noted is not None and noted.mod_revision == entry.mod_revision
        if holder is not None and not untouched:
            host = self.host(holder.host_id)
            if host is None or host.underlay4 != lease.public_ip:
                holder = None
        if holder is None and (lacking := self.told.lacking):
            return Held(segment, entry, cidrs, lease, problem="unjudged", unjudged=lacking)
        if holder is None and (problem := self.told.misplaced(cidrs)):
            return Held(segment, entry, cidrs, problem=problem)
        serves, problem = ("", "") if holder else self.told.serves(lease, len(cidrs) > 1)
        return Held(segment, entry, cidrs, lease, holder, untouched, serves, problem)


class Index:
    """Segments by a name of theirs; tuples, since nearly all names have one."""

    def __init__(self, names: dict[str, tuple[str, ...]] | None = None) -> None:
        self._names = names if names is not None else {}

    def copy(self) -> Index:
        """Return an index that goes its own way from here."""
        return Index(dict(self._names))

    def names(self) -> list[str]:
        """Return the names that have a segment."""
        return list(self._names)

    def find(self, name: str) -> list[str]:
        """Return the segments of a name, in order."""
        return sorted(self._names.get(name, ()))

    def add(self, name: str, segment: str) -> None:
        """Note a segment of a name."""
        self._names[name] = (*self._names.get(name, ()), segment)

    def remove(self, name: str, segment: str) -> None:
        """Forget it; absent is well."""
        if segment in self._names.get(name, ()):
            left = tuple(each for each in self._names[name] if each != segment)
            if left:
                self._names[name] = left
            else:
                del self._names[name]
