"""Which addresses of one network are in use on one host, and which one is dealt next.

A ledger is memory only: ``agent/addresses.py`` keeps it in step with the host's journal. Dealing
does not change it; :meth:`Ledger.hold` does, once the journal has the record.

The next address is the lowest that was never used; when there is none, the one that was freed the
longest time ago. Addresses once used are thus dealt again as late as possible, so that a packet,
a cache or a rule meant for a former holder rarely meets the new one. Blocks may be huge (a /64), so
at most :data:`FREED_LIMIT` freed addresses are left to rest before the oldest of them goes first.
"""

from __future__ import annotations

import bisect
import ipaddress
from collections import OrderedDict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from netloom.core.ipam.blocks import first_last, merged
from netloom.model.addr import Family, IPAddress, IPNetwork
from netloom.model.errors import Conflict

_LENT = "lent to host "
#: How many freed addresses may rest while there are others that were never used.
FREED_LIMIT = 4096


def lent_to(host_id: str) -> str:
    """Return what stands in the place of a handle for an address that another host has."""
    return _LENT + host_id


@dataclass(frozen=True, slots=True)
class Usage:
    """The addresses of one block: ``withheld`` ones are excluded, or reserved and not in use."""

    cidr: IPNetwork
    total: int
    in_use: int
    withheld: int

    @property
    def free(self) -> int:
        """How many addresses can still be dealt without being asked for by number."""
        return self.total - self.in_use - self.withheld


class _Space:
    """The addresses of one family, as integers."""

    def __init__(self, family: Family, freed_limit: int) -> None:
        self.family = family
        self._freed_limit = freed_limit
        self.held: dict[int, str] = {}
        # An OrderedDict, since taking the first item of a plain dict gets slow once many before
        # it were deleted.
        self.freed: OrderedDict[int, int] = OrderedDict()
        self.blocks: dict[IPNetwork, tuple[int, int]] = {}
        self.excluded: frozenset[int] = frozenset()
        self.reserved: list[tuple[int, int]] = []
        self._starts: list[tuple[int, int]] = []
        self._cursors: dict[IPNetwork, int] = {}

    def configure(
        self,
        blocks: Iterable[IPNetwork],
        excluded: Iterable[IPAddress],
        reserved: Iterable[IPNetwork],
    ) -> None:
        self.blocks = {cidr: first_last(cidr) for cidr in blocks}
        self.excluded = frozenset(int(address) for address in excluded)
        self.reserved = merged(first_last(cidr) for cidr in reserved)
        self._starts = sorted(self.blocks.values())
        self._cursors = {cidr: first for cidr, (first, _) in self.blocks.items()}

    def owns(self, number: int) -> bool:
        return _span_end(self._starts, number) is not None

    def reserved_to(self, number: int) -> int | None:
        """Return the end of the reserved span that ``number`` is in, or None."""
        return _span_end(self.reserved, number)

    def choose(self) -> int | None:
        if len(self.freed) >= self._freed_limit:
            oldest = self._oldest()
            return oldest if oldest is not None else self._fresh()
        fresh = self._fresh()
        return fresh if fresh is not None else self._oldest()

    def _fresh(self) -> int | None:
        # A cursor never needs to go back: what lies below it is in use, freed, excluded or
        # reserved, and a change of the latter two starts it anew (configure).
        for cidr, (_, last) in self.blocks.items():
            number = self._cursors[cidr]
            while number <= last:
                end = self.reserved_to(number)
                if end is not None:
                    number = end + 1
                elif number in self.held or number in self.freed or number in self.excluded:
                    number += 1
                else:
                    break
            self._cursors[cidr] = number
            if number <= last:
                return number
        return None

    def _oldest(self) -> int | None:
        for number in self.freed:
            if (
                self.owns(number)
                and number not in self.excluded
                and self.reserved_to(number) is None
            ):
                return number
        return None


class Ledger:
    """The addresses of one network on one host. Not safe for threads: its owner locks."""

    def __init__(self, network: str, freed_limit: int = FREED_LIMIT) -> None:
        self.network = network
        self._spaces = {4: _Space(4, freed_limit), 6: _Space(6, freed_limit)}

    def configure(
        self,
        blocks: Mapping[IPNetwork, Collection[IPAddress]],
        reservations: Collection[IPNetwork],
    ) -> None:
        """Set which blocks are dealt from, in this order, and what of them is never dealt.

        ``blocks`` maps each block to its excluded addresses (network, broadcast, gateway: what the
        attachment and the backend need for themselves). Addresses in use are not affected.
        """
        for family, space in self._spaces.items():
            space.configure(
                [cidr for cidr in blocks if cidr.version == family],
                [a for addresses in blocks.values() for a in addresses if a.version == family],
                [cidr for cidr in reservations if cidr.version == family],
            )

    def hold(self, address: IPAddress, handle: str) -> None:
        """Note that ``handle`` holds ``address``. Raises Conflict when another does."""
        space = self._spaces[address.version]
        holder = space.held.setdefault(int(address), handle)
        if holder != handle:
            raise self._held_by(address, holder)
        space.freed.pop(int(address), None)

    def free(self, address: IPAddress, order: int) -> None:
        """Note that ``address`` was freed; ``order`` grows with every call. Absent is well."""
        space = self._spaces[address.version]
        space.held.pop(int(address), None)
        space.freed[int(address)] = order
        space.freed.move_to_end(int(address))

    def forget(self, address: IPAddress) -> None:
        """Drop the memory that ``address`` was ever used, since its block is no longer ours."""
        self._spaces[address.version].freed.pop(int(address), None)

    def holder(self, address: IPAddress) -> str | None:
        """Return the handle that holds ``address``."""
        return self._spaces[address.version].held.get(int(address))

    def was_freed(self, address: IPAddress) -> bool:
        """Tell whether ``address`` was used before and is free now."""
        return int(address) in self._spaces[address.version].freed

    def owns(self, address: IPAddress) -> bool:
        """Tell whether ``address`` is in a block that is dealt from."""
        return self._spaces[address.version].owns(int(address))

    def choose(self, family: Family) -> IPAddress | None:
        """Return the address of ``family`` to deal next, or None when every block is full.

        Takes about the same time whatever the size of the blocks: each block has a cursor below
        which nothing was left unused.
        """
        number = self._spaces[family].choose()
        return None if number is None else _address(family, number)

    def want(self, address: IPAddress) -> None:
        """Check that ``address``, asked for by number, can be given; reserved ones can.

        Raises Conflict: it is held, or excluded. Whether it is in a block of ours is the caller's
        to find out first (:meth:`owns`), who knows what to do about it.
        """
        holder = self.holder(address)
        if holder is not None:
            raise self._held_by(address, holder)
        if int(address) in self._spaces[address.version].excluded:
            raise Conflict(
                f"{address} of network {self.network} is kept for the network itself "
                "(network address, gateway, tunnel end or broadcast)",
                hint="choose another address of the block",
            )

    def held(self) -> dict[IPAddress, str]:
        """Return every address in use and its holder."""
        return {
            _address(space.family, number): handle
            for space in self._spaces.values()
            for number, handle in space.held.items()
        }

    def freed(self) -> list[IPAddress]:
        """Return the addresses that rest, freed longest ago first."""
        return [
            _address(space.family, number)
            for space in self._spaces.values()
            for number in space.freed
        ]

    def usage(
        self, cidr: IPNetwork, excluded: Collection[IPAddress], reserved: Collection[IPNetwork]
    ) -> Usage:
        """Count the addresses of one block, of which ``excluded`` and ``reserved`` are not dealt.

        Independent of what the ledger deals from.
        """
        first, last = first_last(cidr)
        held = {n for n in self._spaces[cidr.version].held if first <= n <= last}
        spans = merged(first_last(each) for each in reserved if each.version == cidr.version)
        withheld = sum(
            min(last, end) - max(first, start) + 1
            for start, end in spans
            if start <= last and end >= first
        )
        withheld -= sum(_in_spans(spans, number) for number in held)
        withheld += sum(
            address in cidr and int(address) not in held and not _in_spans(spans, int(address))
            for address in excluded
        )
        return Usage(cidr, last - first + 1, len(held), withheld)

    def _held_by(self, address: IPAddress, holder: str) -> Conflict:
        if holder.startswith(_LENT):
            return Conflict(
                f"{address} of network {self.network} is {holder}",
                hint="choose another address: this one comes back when its container there is gone",
            )
        return Conflict(
            f"{address} of network {self.network} is held by {holder}",
            hint=f"choose another address, or free it: netloom ipam release --handle {holder}",
        )

    def holders(self, cidr: IPNetwork, most: int) -> list[str]:
        """Return the handles of at most ``most`` addresses of ``cidr``, lowest address first."""
        first, last = first_last(cidr)
        held = self._spaces[cidr.version].held
        return [held[n] for n in sorted(n for n in held if first <= n <= last)[:most]]


def _span_end(spans: list[tuple[int, int]], number: int) -> int | None:
    """Return the end of the span, of sorted disjoint ones, that ``number`` is in."""
    at = bisect.bisect_right(spans, (number, 1 << 128)) - 1
    return spans[at][1] if at >= 0 and number <= spans[at][1] else None


def _in_spans(spans: list[tuple[int, int]], number: int) -> bool:
    return _span_end(spans, number) is not None


def _address(family: int, number: int) -> IPAddress:
    return ipaddress.IPv4Address(number) if family == 4 else ipaddress.IPv6Address(number)
