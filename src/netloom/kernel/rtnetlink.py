"""The kinds that rtnetlink holds: links, addresses, neighbours, forwarding entries and routes."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Iterator, Sequence

from netloom.kernel import decode, encode, encode_link, interior, refusals
from netloom.kernel.known import Known
from netloom.kernel.links import Links
from netloom.kernel.lookup import Lookup
from netloom.kernel.namespaces import identity
from netloom.kernel.netlink import Ack, Netlink
from netloom.model.errors import Conflict, NetloomError
from netloom.model.kernel import (
    ALIAS_PREFIX,
    Address,
    Fdb,
    KernelObject,
    Link,
    Neighbour,
    Peer,
    Route,
)
from netloom.reconcile.contracts import Change, Outcome, Verb

RT_KINDS = frozenset({"link", "address", "neighbour", "fdb", "route"})
#: So many changes are made requests at once: those of thousands together would be megabytes.
_AT_ONCE = 1000


class RtKernel:
    """One network namespace over one socket. One thread at a time reads and writes.

    ``known`` and ``port`` tell :class:`~netloom.kernel.events.NetlinkEvents` which notifications
    are the echo of what was written here.
    """

    def __init__(self, netns: str | os.PathLike[str] | None = None) -> None:
        self._netlink = Netlink() if netns is None else Netlink.inside(netns)
        self._lookup = Lookup(self._netlink)
        self.known = Known()
        home = identity() if netns is None else identity(netns)
        self._links = Links(self._netlink, self._lookup, self.known, home)

    @property
    def port(self) -> int:
        """The netlink port under which the kernel reports our writes."""
        return self._netlink.port

    def close(self) -> None:
        """Close the socket; idempotent."""
        self._netlink.close()

    def read(self, kinds: Iterable[str]) -> list[KernelObject]:
        """Read the objects of ``kinds``, as far as they are rtnetlink's (see ``Kernel.read``)."""
        wanted = RT_KINDS.intersection(kinds)
        if not wanted:
            return []
        links = decode.links(self._netlink.dump(encode_link.dump(), "links"))
        if "link" in wanted:
            # Else the caller is not shown them, and what is new about them must stay news.
            with self.known.changing_link:
                self.known.note_links(links)
        self._lookup.learn_all(links)
        found: list[KernelObject] = [*links] if "link" in wanted else []
        names = {link.index: link.name for link in links}
        ours = [link for link in links if link.alias.startswith(ALIAS_PREFIX)]
        if "address" in wanted:
            payloads = self._netlink.dump(encode.dump_addresses(), "addresses")
            found += decode.addresses(payloads, names)
        if "neighbour" in wanted:
            payloads = self._netlink.dump(encode.dump_neighbours(), "neighbours")
            found += decode.neighbours(payloads, {link.index: link.name for link in ours})
        if "fdb" in wanted:
            found += self._read_fdb([link for link in ours if link.kind == "vxlan"])
        if "route" in wanted:
            found += self._read_routes(names)
        return found

    def _read_fdb(self, devices: Sequence[Link]) -> list[Fdb]:
        entries: list[Fdb] = []
        for device in devices:
            payloads = self._netlink.dump(encode.dump_fdb(device.index), "forwarding entries")
            entries += decode.fdb(payloads, {device.index: device.name})
        self.known.note_fdb(entries, {device.name: device.index for device in devices})
        return entries

    def _read_routes(self, names: dict[int, str]) -> list[Route]:
        return decode.routes(self._netlink.dump(encode.dump_routes(), "routes"), names)

    def apply(self, changes: Sequence[Change]) -> list[Outcome]:
        """Try every change in order; what is between two changes of links goes in bulk."""
        self._lookup.forget()
        outcomes: list[Outcome] = []
        for run in _runs(changes):
            if isinstance(run[0].obj, Link):
                outcomes += map(Outcome, run, self._links.apply(run))
            else:
                for start in range(0, len(run), _AT_ONCE):
                    outcomes += self._apply_bulk(run[start : start + _AT_ONCE])
        return outcomes

    def check_peer(self, peer: Peer) -> list[str]:
        """Compare a container's interior with ``peer``; each difference is one sentence."""
        return interior.check(peer)

    def _apply_bulk(self, changes: Sequence[Change]) -> list[Outcome]:
        requests: list[bytes] = []
        sent: list[Change] = []
        missing: dict[int, NetloomError | None] = {}
        for place, change in enumerate(changes):
            obj = change.obj
            assert isinstance(obj, Address | Neighbour | Fdb | Route)
            index = self._lookup.index(obj.link) if obj.link else 0
            if obj.link and not index:
                gone = change.verb is Verb.DELETE
                missing[place] = None if gone else refusals.no_such_link(change, obj.link)
                continue
            if isinstance(obj, Fdb):
                self._note_fdb(change.verb, obj, index)
            requests.append(encode.encode(change.verb, obj, index))
            sent.append(change)
        acks = iter(self._netlink.send(requests))
        return [
            Outcome(
                change, missing[place] if place in missing else self._verdict(change, next(acks))
            )
            for place, change in enumerate(changes)
        ]

    def _note_fdb(self, verb: Verb, entry: Fdb, index: int) -> None:
        if verb is Verb.DELETE:
            self.known.fdb.pop((index, entry.mac), None)
        else:
            self.known.fdb[index, entry.mac] = entry.remote

    def _verdict(self, change: Change, ack: Ack) -> NetloomError | None:
        if not ack.errno or refusals.is_absent(change, ack):
            return None
        if ack.errno == errno.EEXIST and change.verb is Verb.ADD:
            return self._conflict(change)
        return refusals.refusal(change, ack)

    def _conflict(self, change: Change) -> Conflict | None:
        """Say who holds the place; None when what is wanted stands there already."""
        route = change.obj
        if not isinstance(route, Route):
            return refusals.existing(change)
        for holder in self._routes_to(route):
            return None if holder == route else refusals.route_conflict(route, holder)
        return refusals.existing(change)

    def _routes_to(self, route: Route) -> Iterator[Route]:
        links = decode.links(self._netlink.dump(encode_link.dump(), "links"))
        for holder in self._read_routes({link.index: link.name for link in links}):
            if holder.key == route.key:
                yield holder


def _runs(changes: Sequence[Change]) -> Iterator[Sequence[Change]]:
    """Cut ``changes`` where links begin or end: other changes may lean on a link just made."""
    start = 0
    for place in range(1, len(changes) + 1):
        if place == len(changes) or (
            isinstance(changes[place].obj, Link) != isinstance(changes[start].obj, Link)
        ):
            yield changes[start:place]
            start = place
