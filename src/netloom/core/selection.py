"""Choosing the underlay's interface by what a person said: name, address, pattern, reachability.

A choice is a text of methods, tried in order until one finds something::

    ens33
    interface=ens33;interface=192.168.31.62;regex=^eth[01]$;can-reach=192.168.30.1
    interface=ens33;public=203.0.113.7

``public`` says at which address peers reach this host, where it is none of its own (NAT). These are
flannel's ways (-iface, -iface-regex, -iface-can-reach, -public-ip) with flannel's order; unlike
there, one kernel state always gives one choice, and the reason is told.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from types import MappingProxyType

from netloom.model.addr import Family, IPAddress, IPInterface, parse_address
from netloom.model.errors import InvalidConfig
from netloom.model.fields import nearest
from netloom.model.kernel import ALIAS_PREFIX, Address, Link, Route

Chosen = tuple[str, IPInterface]
METHODS = ("interface", "regex", "can-reach", "public")


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What there is to choose from; ``usable`` has the best address per interface and family."""

    links: Mapping[str, Link]
    candidates: tuple[Address, ...]
    usable: Mapping[tuple[str, Family], IPInterface]
    routes: tuple[Route, ...]


@dataclass(frozen=True, slots=True)
class Selection:
    """A parsed text: (method, value) in order, and the public addresses by family."""

    steps: tuple[tuple[str, str], ...] = ()
    public: Mapping[Family, IPAddress] = field(default_factory=lambda: MappingProxyType({}))

    def choose(self, there: Surroundings) -> tuple[dict[Family, Chosen], str]:
        """Return the interface's address per family and why; nothing when there are no methods.

        Raises InvalidConfig when none of the methods finds an interface with an address.
        """
        for method, value in self.steps:
            found = _FIND[method](value, there)
            if found:
                chosen: dict[Family, Chosen] = dict(sorted(found.items()))
                return chosen, "; ".join(
                    f"IPv{family}: {each.ip} on {link}, "
                    f"by {'setting' if value == link else f'{method} {value}'}"
                    f"{self._known_as(family)}"
                    for family, (link, each) in chosen.items()
                )
        if self.steps:
            raise self._nothing(there)
        own = _addressed(self.public.values(), there)
        return own, "; ".join(
            f"IPv{family}: {each.ip} on {link}, by its public address"
            for family, (link, each) in own.items()
        )

    def _known_as(self, family: Family) -> str:
        return f", known to peers as {self.public[family]}" if family in self.public else ""

    def _nothing(self, there: Surroundings) -> InvalidConfig:
        tried = ", ".join(f"{method} {value!r}" for method, value in self.steps)
        names = sorted({name for name, _ in there.usable})
        listed = ", ".join(f"{name} {_addresses(name, there)}" for name in names)
        if len(self.steps) == 1 and self.steps[0][0] == "interface":
            name = self.steps[0][1]
            if name in there.links:
                text = f"interface: {name!r} has no global address"
                hint = "give it an address, or name another interface"
            else:
                text = f"interface: {name!r} is not an interface of this host"
                own = (each.alias.startswith(ALIAS_PREFIX) for each in there.links.values())
                others = [name for name, ours in zip(there.links, own, strict=True) if not ours]
                hint = "there are: " + ", ".join(sorted(others))
            return InvalidConfig(text, field="interface", value=name, hint=hint)
        return InvalidConfig(
            f"interface: none of this host's interfaces is found by {tried}",
            field="interface",
            value=tried,
            hint=f"there are: {listed or 'none with a global address'}",
        )


@lru_cache(maxsize=16)
def parse(text: str) -> Selection:
    """Parse a choice; a text without '=' is a name or an address. Raises InvalidConfig."""
    if "=" not in text:
        return Selection((("interface", text),)) if text else Selection()
    steps: list[tuple[str, str]] = []
    public: dict[Family, IPAddress] = {}
    for part in filter(None, text.split(";")):
        method, _, value = part.partition("=")
        if method not in METHODS or not value:
            raise InvalidConfig(
                f"interface: {part!r} is no way to choose one",
                field="interface",
                value=text,
                hint=nearest(method, METHODS) if value else f"write {method}=VALUE",
            )
        if method == "public":
            address = parse_address(value, "interface: public")
            public[address.version] = address
            continue
        if method == "can-reach":
            parse_address(value, "interface: can-reach")
        if method == "regex":
            _pattern(value)
        steps.append((method, value))
    return Selection(tuple(steps), MappingProxyType(public))


def _pattern(text: str) -> re.Pattern[str]:
    try:
        return re.compile(text)
    except re.error as error:
        raise InvalidConfig(
            f"interface: regex {text!r}: {error}",
            field="interface",
            value=text,
            hint="e.g. regex=^eth[01]$",
        ) from None


def _by_name(value: str, there: Surroundings) -> dict[Family, Chosen]:
    try:
        return _addressed([ipaddress.ip_address(value)], there)
    except ValueError:
        return _whole(value, there)


def _by_pattern(value: str, there: Surroundings) -> dict[Family, Chosen]:
    """Match addresses before names, in the order of the interfaces' numbers."""
    pattern = _pattern(value)
    for address in sorted(there.candidates, key=lambda a: there.links[a.link].index):
        if pattern.search(str(address.interface.ip)):
            return _addressed([address.interface.ip], there)
    for link in sorted(there.links.values(), key=lambda each: each.index):
        if pattern.search(link.name) and (found := _whole(link.name, there)):
            return found
    return {}


def _by_reach(value: str, there: Surroundings) -> dict[Family, Chosen]:
    """Take the interface over which packets to an address leave: longest prefix, least metric."""
    target = ipaddress.ip_address(value)
    ways = [
        (address.interface.network.prefixlen, 0, address.link)
        for address in there.candidates
        if target in address.interface.network
    ]
    ways += [
        (route.destination.prefixlen, -route.metric, route.link)
        for route in there.routes
        if route.type == "unicast" and target in route.destination
    ]
    for _, _, link in sorted(ways, key=lambda way: (-way[0], -way[1], way[2])):
        if (link, target.version) in there.usable:
            return _whole(link, there)
    return {}


def _addressed(addresses: Iterable[IPAddress], there: Surroundings) -> dict[Family, Chosen]:
    """Return the interface that has one of the addresses, with that address."""
    found: dict[Family, Chosen] = {}
    for wanted in addresses:
        for address in there.candidates:
            if address.interface.ip == wanted:
                found = {**_whole(address.link, there), **found}
                found[wanted.version] = (address.link, address.interface)
                break
    return found


def _addresses(link: str, there: Surroundings) -> str:
    return " ".join(str(interface.ip) for _, interface in _whole(link, there).values())


def _whole(link: str, there: Surroundings) -> dict[Family, Chosen]:
    families: tuple[Family, ...] = (4, 6)
    return {f: (link, there.usable[link, f]) for f in families if (link, f) in there.usable}


_FIND = {"interface": _by_name, "regex": _by_pattern, "can-reach": _by_reach}
