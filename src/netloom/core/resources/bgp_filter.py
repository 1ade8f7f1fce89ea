"""BGPFilter: rules on the routes that sessions bring and send. Source: reference/calico.md §1.1."""

from __future__ import annotations

import re
from dataclasses import dataclass

from netloom.core.resources.values import parse_community, take_as_path, take_word
from netloom.model.addr import IPNetwork, parse_network
from netloom.model.errors import InvalidConfig
from netloom.model.fields import Fields
from netloom.model.resource import Resource
from netloom.model.surprise import foreseen

#: In a rule, '*' and '?' stand for any text and any sign.
_INTERFACE = re.compile(r"[A-Za-z0-9_.:@*?-]{1,15}")


@dataclass(frozen=True, slots=True)
class FilterRule:
    """One rule: a route that it matches is accepted or rejected; what it does not say matches all.

    ``operator`` compares the route's network with ``cidr``: Equal, NotEqual, In, NotIn;
    ``lengths`` are the least and the largest prefix length. ``remote`` asks for routes learned from
    peers. ``add_communities`` and ``prepend_as`` are done to a route that is accepted.
    """

    accept: bool
    cidr: IPNetwork | None = None
    operator: str = "In"
    lengths: tuple[int, int] | None = None
    remote: bool = False
    interface: str = ""
    communities: tuple[tuple[int, ...], ...] = ()
    as_path_prefix: tuple[int, ...] = ()
    add_communities: tuple[tuple[int, ...], ...] = ()
    prepend_as: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class BgpFilter:
    """Rules in order, per direction and family; what none matches is accepted."""

    name: str
    export4: tuple[FilterRule, ...] = ()
    import4: tuple[FilterRule, ...] = ()
    export6: tuple[FilterRule, ...] = ()
    import6: tuple[FilterRule, ...] = ()


@foreseen
def parse_filter(resource: Resource) -> BgpFilter:
    """Read a BGPFilter. Raises InvalidConfig."""
    fields = Fields(resource.spec, "spec")
    rules = {
        name: tuple(
            _rule(item, fields.path(f"{name}[{i}]"), 4 if name.endswith("4") else 6)
            for i, item in enumerate(fields.take_list(name))
        )
        for name in ("exportV4", "importV4", "exportV6", "importV6")
    }
    fields.done()
    return BgpFilter(resource.name, *rules.values())


def check_filter(resource: Resource) -> tuple[str, ...]:
    """Check a BGPFilter; all of it has effect."""
    parse_filter(resource)
    return ()


def _rule(item: object, where: str, version: int) -> FilterRule:
    fields = Fields(item, where)
    action = take_word(fields, "action", ("Accept", "Reject"))
    if action is None:
        raise fields.missing("action", "write Accept or Reject")
    text = fields.take("cidr")
    cidr = parse_network(text, fields.path("cidr")) if text else None
    if cidr is not None and cidr.version != version:
        raise InvalidConfig(
            f"{fields.path('cidr')}: {cidr} is not an IPv{version} network",
            field=fields.path("cidr"),
            value=str(cidr),
            hint=f"put it under the rules for IPv{cidr.version}",
        )
    operator = take_word(fields, "matchOperator", ("Equal", "NotEqual", "In", "NotIn"))
    if (cidr is None) != (operator is None):
        missing = "matchOperator" if operator is None else "cidr"
        raise fields.missing(missing, "cidr and matchOperator belong together")
    lengths = _lengths(fields, cidr, version)
    source = take_word(fields, "source", ("RemotePeers",))
    interface = _interface(fields)
    communities = _communities(fields, "communities")
    path = take_as_path(fields, "asPathPrefix")
    added, prepended = _operations(fields)
    fields.done()
    return FilterRule(
        action == "Accept",
        cidr,
        operator or "In",
        lengths,
        source is not None,
        interface,
        communities,
        path,
        added,
        prepended,
    )


def _interface(fields: Fields) -> str:
    name = fields.take_str("interface")
    if name and not _INTERFACE.fullmatch(name):
        raise InvalidConfig(
            f"{fields.path('interface')}: {name!r} is not the name of an interface",
            field=fields.path("interface"),
            value=name,
            hint="e.g. ens32, or cali* for all that begin so",
        )
    return name


def _lengths(fields: Fields, cidr: IPNetwork | None, version: int) -> tuple[int, int] | None:
    data = fields.take("prefixLength")
    if data is None:
        return None
    inner = Fields(data, fields.path("prefixLength"))
    most = 32 if version == 4 else 128
    low = inner.take_int("min", cidr.prefixlen if cidr else 0, 0, most)
    high = inner.take_int("max", most, low, most)
    inner.done()
    return low, high


def _communities(fields: Fields, name: str) -> tuple[tuple[int, ...], ...]:
    data = fields.take(name)
    if data is None:
        return ()
    inner = Fields(data, fields.path(name))
    values = tuple(
        parse_community(item, inner.path(f"values[{i}]"))
        for i, item in enumerate(inner.take_list("values"))
    )
    inner.done()
    return values


def _operations(fields: Fields) -> tuple[tuple[tuple[int, ...], ...], tuple[int, ...]]:
    """Read what is done to accepted routes: (communities to add, AS numbers to prepend)."""
    added: list[tuple[int, ...]] = []
    prepended: list[int] = []
    for i, item in enumerate(fields.take_list("operations")):
        each = Fields(item, fields.path(f"operations[{i}]"))
        if (data := each.take("addCommunity")) is not None:
            inner = Fields(data, each.path("addCommunity"))
            added.append(parse_community(inner.take_required("value"), inner.path("value")))
            inner.done()
        if (data := each.take("prependASPath")) is not None:
            inner = Fields(data, each.path("prependASPath"))
            prepended += take_as_path(inner, "prefix")
            inner.done()
        each.done()
    return tuple(added), tuple(prepended)
