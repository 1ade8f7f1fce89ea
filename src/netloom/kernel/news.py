"""What one notification means: which kinds of object somebody has to look at again."""

from __future__ import annotations

from collections.abc import Callable

from netloom.kernel import decode, wire
from netloom.kernel.known import Known
from netloom.kernel.lookup import Lookup
from netloom.kernel.wire import attributes
from netloom.model.kernel import ALIAS_PREFIX, KINDS, Link

NOTHING: frozenset[str] = frozenset()
EVERYTHING = frozenset(KINDS)
_LINK, _ADDRESS, _ROUTE = frozenset({"link"}), frozenset({"address"}), frozenset({"route"})
_NEIGHBOUR, _FDB = frozenset({"neighbour"}), frozenset({"fdb"})
_WITH_ADDRESS = frozenset({"address", "route", "neighbour"})
_SYSCTL, _QDISC = frozenset({"sysctl"}), frozenset({"qdisc"})

_NETCONF_IFINDEX = 1  # NETCONFA_IFINDEX
_TRAFFIC_CONTROL = range(wire.RTM_NEWQDISC, wire.RTM_DELTFILTER + 1)


class News:
    """Judges notifications of rtnetlink by what is known already."""

    def __init__(self, known: Known, lookup: Lookup) -> None:
        self._known = known
        self._lookup = lookup
        self._judges: dict[int, Callable[[bytes], frozenset[str]]] = {
            wire.RTM_NEWLINK: self._link,
            wire.RTM_DELLINK: self._lost_link,
            wire.RTM_NEWNEIGH: self._neighbour,
            wire.RTM_DELNEIGH: self._lost_neighbour,
            wire.RTM_NEWROUTE: lambda _: _ROUTE,
            wire.RTM_DELROUTE: lambda _: _ROUTE,
            wire.RTM_NEWADDR: _address,
            wire.RTM_DELADDR: _lost_address,
            wire.RTM_NEWNETCONF: _setting,
            **{kind: lambda _: _QDISC for kind in _TRAFFIC_CONTROL},
        }

    def kinds(self, kind: int, payload: bytes) -> frozenset[str]:
        """Return the kinds to look at because of a message of type ``kind``."""
        judge = self._judges.get(kind)
        return judge(payload) if judge else NOTHING

    def _link(self, payload: bytes) -> frozenset[str]:
        """Judge a link that is new or changed: most messages tell of nothing that we look at."""
        (link,) = decode.links([payload], self._lookup.name)
        self._lookup.learn(link.name, link.index)
        believed = self._known.links.get(link.name)
        if payload[0] != wire.AF_BRIDGE:  # a message from the bridge shows but a part of the link
            # Before it has its alias a link of ours is half-made: down, perhaps with another MAC.
            if believed and believed.alias == link.alias and _loses(believed, link):
                return EVERYTHING
            if believed and _plugged(believed, link):
                return _LINK
            if self._known.stands(link):
                return NOTHING
        # It may be a link of ours, half-made when the message was written. Look at it now.
        with self._known.changing_link:
            now = self._lookup.find(link.name)
            if now is None or self._known.stands(now):
                return NOTHING  # when it is gone, another message says so
            believed = self._known.links.get(link.name)
        return EVERYTHING if believed is not None and _loses(believed, now) else _LINK

    def _lost_link(self, payload: bytes) -> frozenset[str]:
        """Judge the end of a link: IPv4 routes and addresses go with it without a word."""
        if payload[0] == wire.AF_BRIDGE:  # it only left its bridge
            return self._link(payload)
        (link,) = decode.links([payload])
        self._lookup.learn(link.name, 0)
        return EVERYTHING if link.name in self._known.links else NOTHING

    def _neighbour(self, payload: bytes) -> frozenset[str]:
        family, index, state, _, _ = wire.NEIGHBOUR_HEADER.unpack_from(payload)
        if family != wire.AF_BRIDGE:
            return _NEIGHBOUR if self._is_ours(index) else NOTHING
        entry = decode.mac_and_address(payload)
        if entry is None:
            return NOTHING  # what a bridge has learned
        mac, remote = entry
        as_written = state & wire.NUD_PERMANENT and self._known.fdb.get((index, mac)) == remote
        return NOTHING if as_written or not self._is_ours(index) else _FDB

    def _lost_neighbour(self, payload: bytes) -> frozenset[str]:
        family, index, _, _, _ = wire.NEIGHBOUR_HEADER.unpack_from(payload)
        if family != wire.AF_BRIDGE:
            return _NEIGHBOUR if self._is_ours(index) else NOTHING
        entry = decode.mac_and_address(payload)
        return _FDB if entry and (index, entry[0]) in self._known.fdb else NOTHING

    def _is_ours(self, index: int) -> bool:
        believed = self._known.links.get(self._lookup.name(index))
        return believed is not None and believed.alias.startswith(ALIAS_PREFIX)


def _loses(believed: Link, link: Link) -> bool:
    """Tell whether what leans on ``believed`` may be lost, even if all is as before by now.

    A link that goes down loses its IPv4 routes, one whose MAC changes its neighbours.
    """
    return bool(
        (believed.index and believed.index != link.index)
        or (believed.up and not link.up)
        or (believed.mac and believed.mac != link.mac)
    )


def _plugged(believed: Link, link: Link) -> bool:
    """Tell whether a cable was pulled or plugged in; our own links' carriers follow from others."""
    return believed.carrier != link.carrier and not believed.alias.startswith(ALIAS_PREFIX)


def _address(payload: bytes) -> frozenset[str]:
    fields = dict(attributes(payload, wire.ADDRESS_HEADER.size))
    made_by_kernel = fields.get(wire.IFA_PROTO) == bytes((wire.IFAPROT_KERNEL_LL,))
    return NOTHING if made_by_kernel else _ADDRESS


def _lost_address(payload: bytes) -> frozenset[str]:
    """Judge an address's end: with a device's last IPv4 one its routes go without a word."""
    return _WITH_ADDRESS if _address(payload) else NOTHING


def _setting(payload: bytes) -> frozenset[str]:
    """Judge forwarding and the like; a new device's message brings all its settings at once."""
    named = {kind for kind, _ in attributes(payload, 4)} - {_NETCONF_IFINDEX}
    return _SYSCTL if len(named) == 1 else NOTHING
