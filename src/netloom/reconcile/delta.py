"""The ordered difference between desired and actual.

Additions come kind by kind in the order of ``KINDS`` (links first, routes after what they lean
on), deletions after all additions in the opposite order. What stands in a place that we want but
is not ours is never touched: it becomes a ``Conflict`` and everything that leans on it waits.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from netloom.core.ownership import our_links, owns
from netloom.model.kernel import KINDS, KernelObject, Link, NftTable, Sysctl, describe
from netloom.model.view import Problem
from netloom.reconcile.contracts import Change, Verb

_ORDER = {kind: index for index, kind in enumerate(KINDS)}


@dataclass(frozen=True, slots=True)
class Plan:
    """What would be done, in order, and what cannot be since another owns the place."""

    changes: tuple[Change, ...] = ()
    problems: tuple[Problem, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.changes)


def delta(
    desired: Mapping[str, KernelObject],
    actual: Mapping[str, Mapping[str, KernelObject]],
    *,
    hold: bool = False,
) -> Plan:
    """Return the plan that turns ``actual`` (by kind, then by key) into ``desired``.

    ``hold``: sweep nothing. Objects that are the same instance on both sides are equal at once,
    so a caller that keeps applied instances pays little for what did not change.
    """
    links = our_links(actual.get("link", {}).values())
    rebuilt = _rebuilt_links(desired, actual.get("link", {}), links)
    adds: list[Change] = []
    problems: list[Problem] = []
    blocked: set[str] = set()
    for key, want in _links_first(desired):
        have = actual[want.kind_name].get(key) if want.kind_name in actual else None
        if have is want:
            if not rebuilt or getattr(want, "link", None) not in rebuilt:
                continue
            have = None
        elif have is not None and rebuilt and getattr(want, "link", None) in rebuilt:
            have = None
        if blocked and _leans_on(want) in blocked:
            continue
        if have is None:
            adds.append(Change(Verb.ADD, want, reason="missing"))
        elif matches(want, have):
            continue
        elif owns(have, links) or isinstance(want, Sysctl | NftTable):
            adds.append(Change(Verb.REPLACE, want, have, difference(want, have)))
        else:
            problems.append(_taken(want, have))
            if isinstance(want, Link):
                blocked.add(want.name)
    adds.sort(key=_add_order)
    sweep = [] if hold else _sweep(desired, actual, links)
    return Plan((*adds, *sweep), tuple(problems))


def matches(want: KernelObject, have: KernelObject) -> bool:
    """Tell whether ``have`` is all that ``want`` asks; a link's fields that are None ask nothing."""
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
        and want.vxlan == have.vxlan
    )


def difference(want: KernelObject, have: KernelObject) -> str:
    """Return in a few words what differs, for plans: ``mtu 1400 → 1450, up``."""
    if isinstance(want, NftTable) and isinstance(have, NftTable):
        return "text differs"
    words = []
    for name in want.__dataclass_fields__:
        field = want.__dataclass_fields__[name]
        mine, theirs = getattr(want, name), getattr(have, name, None)
        if not field.compare or mine == theirs or (mine is None and isinstance(want, Link)):
            continue
        words.append(f"{name.removesuffix('_bytes')} {theirs} → {mine}")
    return ", ".join(words)


def _links_first(
    desired: Mapping[str, KernelObject],
) -> Iterable[tuple[str, KernelObject]]:
    """Yield links before all else, so that what leans on a link taken by another can wait."""
    rest = []
    for item in desired.items():
        if item[1].kind_name == "link":
            yield item
        else:
            rest.append(item)
    yield from rest


def _rebuilt_links(
    desired: Mapping[str, KernelObject], actual: Mapping[str, KernelObject], links: frozenset[str]
) -> frozenset[str]:
    """Return links that will be made anew: all that stood on them goes with the old one."""
    rebuilt = set()
    for key, have in actual.items():
        want = desired.get(key)
        if (
            isinstance(want, Link)
            and isinstance(have, Link)
            and have.name in links
            and (want.kind != have.kind or want.vxlan != have.vxlan)
        ):
            rebuilt.add(have.name)
    return frozenset(rebuilt)


def _leans_on(obj: KernelObject) -> str | None:
    if isinstance(obj, Link):
        return obj.master
    link: str | None = getattr(obj, "link", None)
    return link


def _add_order(change: Change) -> tuple[int, int]:
    obj = change.obj
    ports_later = 1 if isinstance(obj, Link) and obj.master else 0
    return _ORDER[obj.kind_name], ports_later


def _sweep(
    desired: Mapping[str, KernelObject],
    actual: Mapping[str, Mapping[str, KernelObject]],
    links: frozenset[str],
) -> list[Change]:
    going = {
        obj.name
        for key, obj in actual.get("link", {}).items()
        if isinstance(obj, Link) and key not in desired and owns(obj, links)
    }
    changes = []
    for kind in reversed(KINDS):
        for key, obj in actual.get(kind, {}).items():
            if key in desired or not owns(obj, links):
                continue
            if kind != "link" and getattr(obj, "link", None) in going:
                continue  # goes with its link
            changes.append(Change(Verb.DELETE, obj, reason="no longer wanted"))
    return changes


def _taken(want: KernelObject, have: KernelObject) -> Problem:
    if isinstance(want, Link):
        return Problem(
            "error",
            f"link {want.name}",
            f"a link of this name is there and is not ours: {describe(have)}",
            f"remove it (ip link del {want.name}) or give the network another device name",
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
