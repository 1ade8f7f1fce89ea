"""The ways of finding the underlay's interface: each takes a value and what there is.

``core/selection`` says what the methods are called and how they are put together.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from netloom.model.addr import Family, IPAddress, IPInterface, parse_network
from netloom.model.errors import InvalidConfig
from netloom.model.kernel import Address, Link, Route

Chosen = tuple[str, IPInterface]
#: Interfaces that never join hosts: container engines', tunnels', those of other networks.
EXCLUDED = (
    "docker.*",
    "cbr.*",
    "dummy.*",
    "podman.*",
    "virbr.*",
    "lxcbr.*",
    "veth.*",
    "lo",
    "br-.*",
    "cali.*",
    "tunl.*",
    "flannel.*",
    "kube-ipvs.*",
    "cni.*",
    r"vxlan\.calico.*",
    r"vxlan-v6\.calico.*",
    r"wireguard\.cali.*",
    r"wg-v6\.cali.*",
    "nodelocaldns.*",
)
_FAMILIES: tuple[Family, ...] = (4, 6)
#: Routes by which packets leave; of one with several next hops the first counts.
LEADING = ("unicast", "multipath")


@dataclass(frozen=True, slots=True)
class Answer:
    """What is known of a host's name: the addresses that it had when somebody last told them.

    ``trouble`` says why they could not be had anew; ``pending`` that nobody has answered yet, and
    that the time for it is not over.
    """

    addresses: tuple[IPAddress, ...] = ()
    trouble: str = ""
    pending: bool = False


NO_NAMES: Mapping[str, Answer] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What there is to choose from; ``usable`` has the best address per interface and family.

    ``names`` is what is known of the host names that a person chose by.
    """

    links: Mapping[str, Link]
    candidates: tuple[Address, ...]
    usable: Mapping[tuple[str, Family], IPInterface]
    routes: tuple[Route, ...]
    names: Mapping[str, Answer] = field(default_factory=lambda: NO_NAMES)

    def ranked(self) -> list[Link]:
        """Return the links that have an address, those that serve best first."""
        defaults = {
            route.link: route.metric
            for route in sorted(self.routes, key=lambda route: -route.metric)
            if route.destination.prefixlen == 0 and route.type in LEADING
        }
        return sorted(
            (self.links[name] for name in {name for name, _ in self.usable}),
            key=lambda each: (
                not (each.up and each.carrier),
                each.name not in defaults,
                defaults.get(each.name, 0),
                each.index,
            ),
        )


def excluded_by(name: str) -> str:
    """Return the pattern of :data:`EXCLUDED` that a name matches, or ""."""
    return next((text for text in EXCLUDED if re.fullmatch(text, name)), "")


def listed(value: str) -> list[str]:
    """Return the parts of a list that commas part."""
    return [each for each in re.split(r"\s*,\s*", value.strip()) if each]


def pattern_of(text: str) -> re.Pattern[str]:
    """Return a pattern. Raises InvalidConfig when it is none."""
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
    """Take the first of a list: an address, a name, or a pattern that a whole name matches."""
    for each in listed(value):
        try:
            found = addressed([ipaddress.ip_address(each)], there)
        except ValueError:
            pattern = pattern_of(each)
            named = [link for link in there.ranked() if link.name == each]
            named += [link for link in there.ranked() if pattern.fullmatch(link.name)]
            found = _first([link.name for link in named], there)
        if found:
            return found
    return {}


def _by_exclusion(value: str, there: Surroundings) -> dict[Family, Chosen]:
    """Take the best of the interfaces that no pattern matches."""
    patterns = [pattern_of(each) for each in listed(value)]
    left = [
        link.name
        for link in there.ranked()
        if not excluded_by(link.name)
        and not any(pattern.fullmatch(link.name) for pattern in patterns)
    ]
    return _first(left, there)


def _by_range(value: str, there: Surroundings) -> dict[Family, Chosen]:
    """Take the best interface with an address in the first range that has any."""
    ranks = {link.name: place for place, link in enumerate(there.ranked())}
    candidates = sorted(there.candidates, key=lambda each: ranks[each.link])
    found: dict[Family, Chosen] = {}
    for cidr in (parse_network(each, "interface: cidr") for each in listed(value)):
        for address in candidates:
            family = cidr.version
            if address.interface.ip in cidr and family not in found:
                found[family] = (address.link, address.interface)
    return _completed(found, there)


def _by_nothing(value: str, there: Surroundings) -> dict[Family, Chosen]:
    return {}


def _first(names: Iterable[str], there: Surroundings) -> dict[Family, Chosen]:
    """Return, per family, the first of the interfaces that has an address of it.

    A family follows the other's interface where that has an address of it.
    """
    for name in names:
        if found := whole(name, there):
            return found
    return {}


def _by_pattern(value: str, there: Surroundings) -> dict[Family, Chosen]:
    """Match addresses before names, in the order of the interfaces' numbers."""
    pattern = pattern_of(value)
    for address in sorted(there.candidates, key=lambda a: there.links[a.link].index):
        if pattern.search(str(address.interface.ip)):
            return addressed([address.interface.ip], there)
    for link in sorted(there.links.values(), key=lambda each: each.index):
        if pattern.search(link.name) and (found := whole(link.name, there)):
            return found
    return {}


def _by_reach(value: str, there: Surroundings) -> dict[Family, Chosen]:
    """Take the interface over which packets to an address leave; per family, if it is a name's.

    Of a name's addresses the least counts to which there is a way: names are told in any order.
    """
    found: dict[Family, Chosen] = {}
    for target in targets(value, there):
        link = _way(target, there)
        if link and target.version not in found:
            found[target.version] = (link, there.usable[link, target.version])
    return _completed(found, there)


def targets(value: str, there: Surroundings) -> list[IPAddress]:
    """Return the address that ``value`` is, or those that it has as a name, sorted."""
    try:
        return [ipaddress.ip_address(value)]
    except ValueError:
        known = there.names.get(value, Answer()).addresses
        return sorted(known, key=lambda address: (address.version, int(address)))


def _way(target: IPAddress, there: Surroundings) -> str:
    """Return the interface to an address: longest prefix, least metric; "" where there is none.

    There is none past a route that ends there: one that is unreachable, prohibited or a blackhole.
    """
    ways = [
        (address.interface.network.prefixlen, 0, address.link)
        for address in there.candidates
        if target in address.interface.network
    ]
    ways += [
        (route.destination.prefixlen, -route.metric, route.link if route.type in LEADING else "")
        for route in there.routes
        if target in route.destination and route.type != "throw"
    ]
    ranks = {link.name: place for place, link in enumerate(there.ranked())}
    for _, _, link in sorted(ways, key=lambda way: (-way[0], -way[1], ranks.get(way[2], 0))):
        if not link:
            break
        if (link, target.version) in there.usable:
            return link
    return ""


def _completed(found: dict[Family, Chosen], there: Surroundings) -> dict[Family, Chosen]:
    """Give a family for which nothing was found what the other's interface has."""
    for family in tuple(found):
        for other, each in whole(found[family][0], there).items():
            found.setdefault(other, each)
    return found


def addressed(addresses: Iterable[IPAddress], there: Surroundings) -> dict[Family, Chosen]:
    """Return the interface that has one of the addresses, with that address."""
    found: dict[Family, Chosen] = {}
    for wanted in addresses:
        for address in there.candidates:
            if address.interface.ip == wanted:
                found = {**whole(address.link, there), **found}
                found[wanted.version] = (address.link, address.interface)
                break
    return found


def addresses_of(link: str, there: Surroundings) -> str:
    """Return an interface's addresses as people read them."""
    return " ".join(str(interface.ip) for _, interface in whole(link, there).values())


def whole(link: str, there: Surroundings) -> dict[Family, Chosen]:
    """Return what one interface has, per family."""
    return {f: (link, there.usable[link, f]) for f in _FAMILIES if (link, f) in there.usable}


FIND: dict[str, Callable[[str, Surroundings], dict[Family, Chosen]]] = {
    "interface": _by_name,
    "regex": _by_pattern,
    "skip-interface": _by_exclusion,
    "first-found": _by_exclusion,
    "cidr": _by_range,
    "can-reach": _by_reach,
    "none": _by_nothing,
}
