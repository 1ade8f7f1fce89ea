"""The ordered difference between desired and actual.

Additions come kind by kind in the order of ``KINDS`` (links first, routes after what they lean
on), deletions after all additions in the opposite order. What stands in a place that we want but
is not ours is never touched: it becomes a ``Conflict`` and everything that leans on it waits.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from netloom.core.ownership import is_lasting, is_vacant, our_links, outlives_link, owns
from netloom.model.kernel import KINDS, Bird, KernelObject, Link, NftTable, Sysctl, Vxlan
from netloom.model.view import Problem
from netloom.model.wording import describe
from netloom.reconcile.contracts import Change, Verb

_ORDER = {kind: index for index, kind in enumerate(KINDS)}


@dataclass(frozen=True, slots=True)
class Plan:
    """What would be done, in order, and what cannot be since another owns the place.

    ``waiting`` has the keys of all that is wanted and cannot be tried for that reason.
    """

    changes: tuple[Change, ...] = ()
    problems: tuple[Problem, ...] = ()
    waiting: frozenset[str] = frozenset()

    def __bool__(self) -> bool:
        return bool(self.changes)


def delta(
    desired: Mapping[str, KernelObject],
    actual: Mapping[str, Mapping[str, KernelObject]],
    *,
    hold: bool = False,
    among: Collection[str] | None = None,
) -> Plan:
    """Return the plan that turns ``actual`` (by kind, then by key) into ``desired``.

    ``hold``: sweep nothing. ``among``: the keys to look at, by a caller who knows that all others
    are as they should be; None for all. Objects that are the same instance on both sides are equal
    at once, so a caller that keeps applied instances pays little for what did not change.
    """
    held = {kind: actual.get(kind, {}) for kind in KINDS}
    links = our_links(held["link"].values())
    blocked = _blocked(desired, held["link"], links)
    obstacles = [] if hold else _obstacles(desired, held["link"], links)
    #: Links that go and come again, or just go, before anything else: what is on them is lost.
    lost = {link.name for link in obstacles} | _rebuilt(desired, held["link"], links)
    shaky = bool(blocked or lost)
    adds: list[Change] = []
    problems: list[Problem] = []
    waiting: set[str] = set()
    for key, want in (desired if among is None else _part(desired, among)).items():
        have = held[want.kind_name].get(key)
        if have is want and not shaky:
            continue
        if have is not None and lost and not isinstance(have, Link) and leans_on(have) in lost:
            have = None
        if blocked and leans_on(want) in blocked:
            waiting.add(key)
        elif have is None:
            adds.append(Change(Verb.ADD, want, reason="missing"))
        elif have is want or matches(want, have):
            continue
        elif owns(have, links) or isinstance(want, Sysctl | NftTable) or is_vacant(have):
            adds.append(Change(Verb.REPLACE, want, have, difference(want, have)))
        else:
            problems.append(_taken(want, have))
            waiting.add(key)
    adds.sort(key=_add_order)
    first = [Change(Verb.DELETE, link, reason="in the way of a new one") for link in obstacles]
    seen = held if among is None else {kind: _part(held[kind], among) for kind in KINDS}
    sweep = [] if hold else _sweep(desired, seen, links, lost)
    return Plan((*first, *adds, *sweep), tuple(problems), frozenset(waiting))


def _part(state: Mapping[str, KernelObject], keys: Collection[str]) -> dict[str, KernelObject]:
    return {key: state[key] for key in keys if key in state}


def matches(want: KernelObject, have: KernelObject) -> bool:
    """Tell whether ``have`` is all that ``want`` asks; a link's None asks nothing."""
    if not isinstance(want, Link) or not isinstance(have, Link):
        return want == have
    return (
        want.kind == have.kind
        and want.alias == have.alias
        and want.mtu_bytes in (None, have.mtu_bytes)
        and want.mac in (None, have.mac)
        and want.up in (None, have.up)
        and want.master == have.master
        and want.hairpin in (None, have.hairpin)
        and want.group in (None, have.group)
        and want.vxlan == have.vxlan
        and want.ipip == have.ipip
    )


def difference(want: KernelObject, have: KernelObject) -> str:
    """Return in a few words what differs, for plans: ``mtu 1400 → 1450, up``."""
    if isinstance(want, NftTable) and isinstance(have, NftTable):
        return "text differs"
    if isinstance(have, Bird):  # its text may hold passwords
        return "configuration differs" if have.running else "it does not run"
    words = []
    for name in want.__dataclass_fields__:
        field = want.__dataclass_fields__[name]
        mine, theirs = getattr(want, name), getattr(have, name, None)
        if not field.compare or mine == theirs or (mine is None and isinstance(want, Link)):
            continue
        words.append(f"{name.removesuffix('_bytes')} {theirs} → {mine}")
    return ", ".join(words)


def leans_on(obj: KernelObject) -> str | None:
    """Return the link without which ``obj`` cannot stand: a port's bridge, a setting's device."""
    if isinstance(obj, Link):
        return obj.master or (obj.vxlan.device if obj.vxlan else None)
    if isinstance(obj, Sysctl):
        _, _, place = obj.name.partition("/conf/")
        device = place.partition("/")[0]
        return None if device in ("", "all", "default") else device
    link: str | None = getattr(obj, "link", None)
    return link or None


def _blocked(
    desired: Mapping[str, KernelObject], actual: Mapping[str, KernelObject], links: frozenset[str]
) -> set[str]:
    """Return wanted links whose name another's link has, and those that lean on one of them."""
    blocked = {
        have.name
        for key, have in actual.items()
        if isinstance(have, Link)
        and have.name not in links
        and key in desired
        and not is_vacant(have)
    }
    if not blocked:
        return blocked
    ports = [want for want in desired.values() if isinstance(want, Link) and want.master in blocked]
    return blocked | {port.name for port in ports}


def _rebuilt(
    desired: Mapping[str, KernelObject], actual: Mapping[str, KernelObject], links: frozenset[str]
) -> set[str]:
    """Return links that will be made anew: all that stood on them goes with the old one."""
    return {
        have.name
        for key, have in actual.items()
        if isinstance(have, Link)
        and have.name in links
        and isinstance(want := desired.get(key), Link)
        and (want.kind, want.vxlan, want.ipip) != (have.kind, have.vxlan, have.ipip)
    }


def _obstacles(
    desired: Mapping[str, KernelObject], actual: Mapping[str, KernelObject], links: frozenset[str]
) -> list[Link]:
    """Return vxlan devices of ours, no longer wanted, that hold what a wanted one needs.

    The kernel has one device per VNI, port and family: a renamed one cannot come before the old one
    is gone.
    """
    going = [
        have
        for key, have in actual.items()
        if isinstance(have, Link) and have.vxlan and have.name in links and key not in desired
    ]
    if not going:
        return []
    wanted = {
        _tunnel(want.vxlan)
        for want in desired.values()
        if isinstance(want, Link) and want.vxlan is not None
    }
    return [have for have in going if have.vxlan and _tunnel(have.vxlan) in wanted]


def _tunnel(vxlan: Vxlan) -> tuple[int, int, int]:
    return vxlan.vni, vxlan.port, vxlan.local.version


def _add_order(change: Change) -> tuple[int, int]:
    obj = change.obj
    ports_later = 1 if isinstance(obj, Link) and obj.master else 0
    return _ORDER[obj.kind_name], ports_later


def _sweep(
    desired: Mapping[str, KernelObject],
    held: Mapping[str, Mapping[str, KernelObject]],
    links: frozenset[str],
    lost: set[str],
) -> list[Change]:
    gone = lost | {
        obj.name
        for key, obj in held["link"].items()
        if isinstance(obj, Link)
        and key not in desired
        and obj.name in links
        and not is_lasting(obj)
    }
    changes = []
    for kind in reversed(KINDS):
        for key in [key for key in held[kind] if key not in desired]:
            obj = held[kind][key]
            if not _goes_along(obj, lost, gone) and owns(obj, links):
                changes.append(Change(Verb.DELETE, obj, reason="no longer wanted"))
    return changes


def _goes_along(obj: KernelObject, lost: set[str], gone: set[str]) -> bool:
    """Tell whether ``obj`` is gone with its link, or is a link that went first."""
    if isinstance(obj, Link):
        return obj.name in lost
    return leans_on(obj) in gone and not outlives_link(obj)


def _taken(want: KernelObject, have: KernelObject) -> Problem:
    if is_lasting(have):
        return Problem(
            "error",
            have.key,
            f"{have.key} is in use, and not by us: {describe(have)}",
            f"if nobody needs it, set it down (ip {have.key.replace(' ', ' set ', 1)} down); "
            "two that make tunnels with ipip cannot share a host: use backend vxlan",
        )
    if isinstance(want, Link):
        return Problem(
            "error",
            f"link {want.name}",
            f"a link of this name is there and is not ours: {describe(have)}",
            "give the network another device name, or, if nobody needs that link, "
            f"remove it (ip link del {want.name})",
        )
    return Problem(
        "error",
        want.key,
        f"held by another: {describe(have)}" + _protocol(have),
        "remove it, or choose another pool",
    )


def _protocol(obj: KernelObject) -> str:
    number = getattr(obj, "protocol", None)
    return "" if number is None else f" (route protocol {number})"
