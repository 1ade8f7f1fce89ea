"""BGPFilters as BIRD's functions, and what sessions let in and out.

The only texts of users in here are names of interfaces, written by :func:`quoted`; the rest is
numbers and networks. A filter's function is named after a digest of the filter's name, and exists
once, however many sessions use it. Source: BIRD 2.0 User's Guide, chapter 5.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator

from netloom.core.bgp.passwords import misread
from netloom.core.bgp.session import Session
from netloom.core.resources.bgp_filter import BgpFilter, FilterRule
from netloom.model.addr import Family, IPNetwork
from netloom.model.errors import InvalidConfig

#: Where packets of containers never go by BGP: loopback, link-local (our gateway is), multicast.
_NOWHERE: dict[Family, tuple[str, ...]] = {
    4: ("127.0.0.0/8+", "169.254.0.0/16+", "224.0.0.0/3+"),
    6: ("::1/128", "fe80::/10+", "ff00::/8+"),
}
IMPORT, EXPORT = "import", "export"


def quoted(text: str, field: str) -> str:
    """Return ``text`` between quotes. The value is in no error: it may be a secret.

    Raises InvalidConfig for one that BIRD would misread.
    """
    if text and (complaint := misread(text)):
        raise InvalidConfig(f"{field}: it {complaint[0]}", field=field, hint=complaint[1])
    return f'"{text}"'


def functions(sessions: Iterable[Session]) -> Iterator[str]:
    """Yield the functions that the sessions' filters need, each once. Raises InvalidConfig."""
    needed = {
        function_name(each, direction, session.family): (each, direction, session.family)
        for session in sessions
        for each in session.filters
        if each is not None
        for direction in (IMPORT, EXPORT)
    }
    for name, (each, direction, family) in sorted(needed.items()):
        lines = "".join(f"  {_rule(rule)}\n" for rule in rules(each, direction, family))
        yield f"# BGPFilter({each.name})\nfunction {name}() {{\n{lines}}}\n"


def rules(each: BgpFilter, direction: str, family: Family) -> tuple[FilterRule, ...]:
    """Return the rules of one direction and family."""
    if direction == IMPORT:
        return each.import4 if family == 4 else each.import6
    return each.export4 if family == 4 else each.export6


def function_name(each: BgpFilter, direction: str, family: Family) -> str:
    """Return the function's name: BIRD's symbols are short, and know neither '.' nor '-'."""
    digest = hashlib.sha256(each.name.encode()).hexdigest()[:16]
    return f"filter_{digest}_{direction}{family}"


def taken(
    session: Session,
    protected: Iterable[IPNetwork],
    too_fine: Iterable[tuple[IPNetwork, int, int]],
    loans: Iterable[IPNetwork] = (),
) -> str:
    """Return the import filter of a session.

    From another host routes inside the ranges are taken. From a router all are, save those inside
    ``protected`` or ``too_fine`` (network, least length, largest): they would lead us astray.
    ``loans`` are there as they should be.
    """
    family, calls = session.family, _calls(session, IMPORT)
    if not session.router:
        return f"{calls}{_accept_inside(session.accepts)}reject;"
    closed = [f"{cidr}+" for cidr in protected if cidr.version == family]
    closed += [f"{cidr}{{{low},{high}}}" for cidr, low, high in too_fine if cidr.version == family]
    lent = ", ".join(str(cidr) for cidr in loans if cidr.version == family)
    but = f"if !(net ~ [ {lent} ]) then " if lent else ""
    never = ", ".join([*closed, *_NOWHERE[family]])
    return f"if net ~ [ {never} ] then {but}reject; {calls}accept;"


def sent(session: Session, unexported: Iterable[IPNetwork], marks: str) -> str:
    """Return the export filter of a session: own blocks, and where it is transit learned ones.

    Filters that accept everything send all that was learned by BGP, too; no filter sends the way by
    which this host itself reaches others. ``marks`` are commands that give own blocks their
    communities.
    """
    family, own = session.family, f'proto = "blocks{session.family}"'
    hidden = ", ".join(f"{cidr}+" for cidr in unexported if cidr.version == family)
    parts = [f"if net ~ [ {hidden} ] then reject;"] if hidden else []
    if marks:
        parts.append(f"if {own} then {{ {marks} }}")
    if session.filters and None not in session.filters:
        parts.append(f"if !({own} || source = RTS_BGP) then reject;")
    parts.append(f"{_calls(session, EXPORT)}if {own} then accept;")
    if session.transit and session.accepts:
        if session.direct:
            hosts = ", ".join(map(str, session.direct))
            parts.append(f"if source = RTS_BGP then if bgp_next_hop ~ [ {hosts} ] then reject;")
        parts.append(f"if source = RTS_BGP then {{ {_accept_inside(session.accepts)}}}")
    return " ".join([*parts, "reject;"])


def marks(advertised: Iterable[tuple[IPNetwork, Iterable[tuple[int, ...]]]], family: Family) -> str:
    """Return the commands that add communities to blocks inside the networks they are for."""
    return " ".join(
        f"if net ~ [ {cidr}+ ] then {{ {' '.join(map(_add, communities))} }}"
        for cidr, communities in advertised
        if cidr.version == family and communities
    )


def _accept_inside(ranges: Iterable[IPNetwork]) -> str:
    inside = ", ".join(f"{cidr}{{{cidr.prefixlen},{cidr.max_prefixlen}}}" for cidr in ranges)
    return f"if net ~ [ {inside} ] then accept; " if inside else ""


def _calls(session: Session, direction: str) -> str:
    """Return the calls of a session's filters; one that cannot be had lets nothing pass."""
    if None in session.filters:
        return "reject; "
    return "".join(
        f"{function_name(each, direction, session.family)}(); "
        for each in session.filters
        if each is not None
    )


def _rule(rule: FilterRule) -> str:
    tests = " && ".join(f"({test})" for test in _tests(rule))
    changes = [_add(community) for community in rule.add_communities]
    changes += [f"bgp_path.prepend({number});" for number in reversed(rule.prepend_as)]
    end = "accept;" if rule.accept else "reject;"
    action = f"{{ {' '.join([*(changes if rule.accept else ()), end])} }}"
    return f"if {tests} then {action}" if tests else action


def _tests(rule: FilterRule) -> Iterator[str]:
    cidr, lengths = rule.cidr, rule.lengths
    if cidr is not None and rule.operator in ("In", "NotIn"):
        pattern = f"{cidr}{{{lengths[0]},{lengths[1]}}}" if lengths else f"{cidr}+"
        yield f"net ~ [ {pattern} ]" if rule.operator == "In" else f"!(net ~ [ {pattern} ])"
    elif cidr is not None:
        yield f"net {'=' if rule.operator == 'Equal' else '!='} {cidr}"
    if lengths and (cidr is None or rule.operator not in ("In", "NotIn")):
        yield f"net.len >= {lengths[0]} && net.len <= {lengths[1]}"
    if rule.remote:
        yield "source = RTS_BGP"
    if rule.interface:
        yield f"ifname ~ {quoted(rule.interface, 'interface')}"
    for community in rule.communities:
        yield f"{_list_of(community)} ~ [ {_written(community)} ]"
    if rule.as_path_prefix:
        yield f"bgp_path ~ [= {' '.join(map(str, rule.as_path_prefix))} * =]"


def _add(community: tuple[int, ...]) -> str:
    return f"{_list_of(community)}.add({_written(community)});"


def _list_of(community: tuple[int, ...]) -> str:
    return "bgp_community" if len(community) == 2 else "bgp_large_community"


def _written(community: tuple[int, ...]) -> str:
    return f"({', '.join(map(str, community))})"
