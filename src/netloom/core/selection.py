"""Choosing the underlay's interface by what a person said: name, address, pattern, reachability.

A choice is a text of methods, tried in order until one finds something::

    ens33
    interface=ens33,eth.*;interface=192.168.31.62;can-reach=192.168.30.1
    can-reach=gateway.example.org
    skip-interface=eth1,ens32
    4:cidr=192.168.26.0/24,10.0.0.0/8;6:first-found
    interface=ens33;public=203.0.113.7

``4:`` and ``6:`` before a method make it speak of that family alone; ``none`` there means that the
host shall have no underlay address of it. ``public`` says at which address peers reach this host,
where it is none of its own (NAT).

The methods are flannel's (-iface, -iface-regex, -iface-can-reach, -public-ip) and Calico's
(IP_AUTODETECTION_METHOD), with what was wrong there put right: one kernel state always gives one
choice, and the reason is told. Patterns of ``interface`` and ``skip-interface`` have to match a
whole name and are tried in the order in which they stand. Among interfaces that serve equally, one
with a carrier comes before one without, the default route's before others, then the one with the
least index. ``first-found`` and ``skip-interface`` leave out what container engines and tunnels
make (``EXCLUDED``).

``can-reach`` takes a host's name, too. What its addresses are is asked elsewhere, and handed in
(``Surroundings.names``): a name server that is away is no reason to choose otherwise.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from types import MappingProxyType

from netloom.core.interface_methods import (
    FIND,
    NO_NAMES,
    Answer,
    Chosen,
    Surroundings,
    addressed,
    addresses_of,
    listed,
    pattern_of,
    targets,
)
from netloom.model.addr import Family, IPAddress, parse_address, parse_network
from netloom.model.errors import InvalidConfig
from netloom.model.fields import nearest
from netloom.model.kernel import ALIAS_PREFIX

METHODS = (
    "interface",
    "regex",
    "skip-interface",
    "cidr",
    "can-reach",
    "first-found",
    "none",
    "public",
    "kubernetes-internal-ip",
)
#: Methods that stand without a value.
_BARE = ("first-found", "none", "kubernetes-internal-ip")
_FAMILIES: tuple[Family, ...] = (4, 6)
#: RFC 1123 §2.1, and '_', which some have; the last part is no number, as in an address.
_LABEL = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_HOST_NAME = re.compile(rf"(?=.{{1,253}}\Z)(?:{_LABEL}\.)*(?!\d+\.?\Z){_LABEL}\.?")


@dataclass(frozen=True, slots=True)
class Wish:
    """What a host's underlay is to be chosen by: a text, and what is known of the names in it."""

    text: str = ""
    names: Mapping[str, Answer] = field(default_factory=lambda: NO_NAMES)


@dataclass(frozen=True, slots=True)
class Step:
    """One method with its value; ``family`` None means both."""

    method: str
    value: str = ""
    family: Family | None = None

    def __str__(self) -> str:
        said = f"{self.method} {self.value}".rstrip()
        return f"IPv{self.family}: {said}" if self.family else said

    def find(self, there: Surroundings) -> dict[Family, Chosen]:
        """Return what the method finds, of its family."""
        found = FIND[self.method](self.value, there)
        return {family: each for family, each in found.items() if self.family in (None, family)}

    @property
    def host_name(self) -> str:
        """The name whose addresses have to be known; "" for none."""
        is_name = self.method == "can-reach" and _HOST_NAME.fullmatch(self.value)
        return self.value if is_name else ""

    def because(self, link: str, there: Surroundings) -> str:
        """Return the reason why this step found ``link``."""
        said = "setting" if self.value == link else f"{self.method} {self.value}".rstrip()
        if not self.host_name:
            return said
        addresses = " ".join(map(str, targets(self.host_name, there)))
        trouble = there.names[self.host_name].trouble
        return f"{said} ({addresses}{f' as last known: {trouble}' if trouble else ''})"


@dataclass(frozen=True, slots=True)
class Selection:
    """A parsed text: the methods in order, and the public addresses by family."""

    steps: tuple[Step, ...] = ()
    public: Mapping[Family, IPAddress] = field(default_factory=lambda: MappingProxyType({}))

    def choose(self, there: Surroundings) -> tuple[dict[Family, Chosen], str]:
        """Return the interface's address per family and why; nothing when there are no methods.

        A family that no method speaks of has the address that the other's interface has.
        Raises InvalidConfig when none of the methods finds an interface with an address.
        """
        chosen: dict[Family, Chosen] = {}
        by: dict[Family, Step] = {}
        for step in self.steps:
            if step.family is None and chosen:
                continue  # the first of these that finds something decides for both families
            _await(step, there)
            for family, found in step.find(there).items():
                if family not in by:
                    chosen[family], by[family] = found, step
        if any(step.method != "none" for step in self.steps):
            if not chosen:
                raise self._nothing(there)
            self._complete(chosen, by, there)
            ordered: dict[Family, Chosen] = dict(sorted(chosen.items()))
            return ordered, "; ".join(
                f"IPv{family}: {each.ip} on {link}, by {by[family].because(link, there)}"
                f"{self._known_as(family)}"
                for family, (link, each) in ordered.items()
            )
        own = addressed(self.public.values(), there)
        return own, "; ".join(
            f"IPv{family}: {each.ip} on {link}, by its public address"
            for family, (link, each) in own.items()
        )

    @property
    def without(self) -> frozenset[Family]:
        """The families of which the host shall have no underlay address."""
        every: frozenset[Family] = frozenset(_FAMILIES)
        none = [step for step in self.steps if step.method == "none"]
        return frozenset(f for f in every for step in none if step.family in (None, f))

    @property
    def host_names(self) -> frozenset[str]:
        """The names whose addresses have to be known."""
        return frozenset(step.host_name for step in self.steps if step.host_name)

    @property
    def excludes(self) -> bool:
        """Tell whether a method leaves out what container engines and tunnels make."""
        return any(step.method in ("first-found", "skip-interface") for step in self.steps)

    def _complete(
        self, chosen: dict[Family, Chosen], by: dict[Family, Step], there: Surroundings
    ) -> None:
        """Give a family that no method spoke of what the other's interface has."""
        spoken = {step.family for step in self.steps} - {None}
        pairs: tuple[tuple[Family, Family], ...] = ((4, 6), (6, 4))
        for family, other in pairs:
            if family in chosen or family in spoken or other not in chosen:
                continue
            link = chosen[other][0]
            if (link, family) in there.usable:
                chosen[family] = (link, there.usable[link, family])
                by[family] = by[other]

    def _known_as(self, family: Family) -> str:
        return f", known to peers as {self.public[family]}" if family in self.public else ""

    def _nothing(self, there: Surroundings) -> InvalidConfig:
        tried = ", ".join(
            f"{step.method} {step.value!r}{_nowhere(step, there)}" if step.value else step.method
            for step in self.steps
        )
        names = sorted({name for name, _ in there.usable})
        known = ", ".join(f"{name} {addresses_of(name, there)}" for name in names)
        if len(self.steps) == 1 and self.steps[0].method == "interface":
            name = self.steps[0].value
            if name in there.links:
                text = f"interface: {name!r} has no global address"
                hint = "give it an address, or name another interface"
            else:
                text = f"interface: {name!r} is not an interface of this host"
                own = (each.alias.startswith(ALIAS_PREFIX) for each in there.links.values())
                others = [name for name, ours in zip(there.links, own, strict=True) if not ours]
                hint = "there are: " + ", ".join(sorted(others))
                if any(pattern_of(each).search(link) for each in listed(name) for link in others):
                    hint = f"a pattern has to match a whole name, e.g. ens.*; {hint}"
            return InvalidConfig(text, field="interface", value=name, hint=hint)
        return InvalidConfig(
            f"interface: none of this host's interfaces is found by {tried}",
            field="interface",
            value=tried,
            hint=f"there are: {known or 'none with a global address'}",
        )


def _await(step: Step, there: Surroundings) -> None:
    """Refuse to choose before a name is known: what comes next is for names that have no address.

    Raises InvalidConfig.
    """
    if step.host_name and there.names.get(step.host_name, Answer(pending=True)).pending:
        raise InvalidConfig(
            f"interface: can-reach={step.host_name}: its address is being asked for",
            field="interface",
            value=step.value,
            hint="nothing to do, if it is gone in a few seconds",
        )


def _nowhere(step: Step, there: Surroundings) -> str:
    """Return why a name leads nowhere; "" when it has addresses, or is none."""
    known = there.names.get(step.host_name, Answer())
    return f" ({known.trouble})" if known.trouble and not known.addresses else ""


@lru_cache(maxsize=16)
def parse(text: str) -> Selection:
    """Parse a choice; a text without '=' is a name or an address. Raises InvalidConfig."""
    parts = [part.strip() for part in text.split(";") if part.strip()]
    if len(parts) == 1 and "=" not in text and _unfamiliar(parts[0])[1] not in _BARE:
        return Selection((Step("interface", text.strip()),))
    steps: list[Step] = []
    public: dict[Family, IPAddress] = {}
    for part in parts:
        family, said = _unfamiliar(part)
        method, _, value = said.partition("=")
        if method not in METHODS or bool(value) == (method in _BARE):
            raise InvalidConfig(
                f"interface: {part!r} is no way to choose one",
                field="interface",
                value=text,
                hint=nearest(method, METHODS) if method not in METHODS else _form(method),
            )
        if method == "public":
            address = parse_address(value, "interface: public")
            public[address.version] = address
            continue
        _check(method, value, text)
        steps.append(Step(method, value, family))
    return Selection(tuple(steps), MappingProxyType(public))


def host_names(text: str) -> frozenset[str]:
    """Return the names whose addresses a choice hangs on; none where it does not parse."""
    try:
        return parse(text).host_names
    except InvalidConfig:
        return frozenset()


def _unfamiliar(part: str) -> tuple[Family | None, str]:
    """Part a method from the family before it."""
    for family in _FAMILIES:
        if part.startswith(f"{family}:"):
            return family, part[2:]
    return None, part


def _form(method: str) -> str:
    return f"write {method} alone" if method in _BARE else f"write {method}=VALUE"


def _check(method: str, value: str, text: str) -> None:
    """Refuse a value that its method cannot read. Raises InvalidConfig."""
    if method == "can-reach":
        if not _HOST_NAME.fullmatch(value):
            parse_address(value, "interface: can-reach")
    elif method == "regex":
        pattern_of(value)
    elif method == "cidr":
        for each in listed(value):
            parse_network(each, "interface: cidr")
    elif method in ("interface", "skip-interface"):
        for each in listed(value):
            pattern_of(each)
    elif method == "kubernetes-internal-ip":
        raise InvalidConfig(
            "interface: kubernetes-internal-ip needs the Kubernetes datastore",
            field="interface",
            value=text,
            hint="choose by interface=, cidr= or can-reach= with this datastore",
        )
