"""A ruleset of nftables as values, and the way that a packet takes through one of its chains.

Read from nft's JSON (``nft -j list …``), so iptables counts when it is the nft kind (the default
since Debian 10 and RHEL 8); rules of ``iptables-legacy`` are not seen there.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from typing import Any

from netloom.model.addr import Family, IPNetwork

#: The families whose packets a table's chains see.
FAMILIES: Mapping[str, tuple[Family, ...]] = {"ip": (4,), "ip6": (6,), "inet": (4, 6)}
#: What nft calls a family, as a table's and as a protocol.
IP: Mapping[int, str] = {4: "ip", 6: "ip6"}
_ENDS = ("accept", "drop", "reject")
_VERDICTS = (*_ENDS, "return", "jump", "goto")
#: Statements that neither ask nor decide anything.
_IDLE = ("counter", "log")

Expr = Mapping[str, Any]
Place = tuple[str, str, str]


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule: its number in the kernel and its expressions as nft's JSON has them."""

    handle: int
    expressions: tuple[Expr, ...]

    @property
    def verdict(self) -> str:
        """accept, drop, reject, return, jump, goto, or "" for a rule that decides nothing."""
        for item in self.expressions:
            xt = item.get("xt")
            if isinstance(xt, dict) and xt.get("type") == "target":
                return "reject" if xt.get("name") == "REJECT" else ""
            for word in _VERDICTS:
                if word in item:
                    return word
        return ""

    @property
    def target(self) -> str:
        """The chain that a jump or goto leads to."""
        for item in self.expressions:
            if leads := item.get("jump") or item.get("goto"):
                return str(leads["target"])
        return ""

    @property
    def conditions(self) -> tuple[Expr, ...]:
        """All that must hold before the verdict counts; what we do not know is a condition."""
        return tuple(
            item
            for item in self.expressions
            if not any(word in item for word in (*_VERDICTS, *_IDLE)) and not _unasking(item)
        )


@dataclass(frozen=True, slots=True)
class Chain:
    """One chain; ``hook`` and ``policy`` are those of a base chain."""

    family: str
    table: str
    name: str
    hook: str = ""
    policy: str = ""
    rules: list[Rule] = field(default_factory=list)

    @property
    def place(self) -> Place:
        """Family, table and name."""
        return self.family, self.table, self.name


Chains = Mapping[Place, Chain]


@dataclass(frozen=True, slots=True)
class Traffic:
    """Packets with an address of ``cidr`` as ``end``: ``saddr`` or ``daddr``."""

    cidr: IPNetwork
    end: str


@dataclass(frozen=True, slots=True)
class Step:
    """A verdict on the way: ``rule`` None is the base chain's policy.

    ``partly``: it is met by some of the packets only.
    """

    chain: Chain
    rule: Rule | None
    verdict: str
    partly: bool = False


def chains(ruleset: Mapping[str, Any]) -> dict[Place, Chain]:
    """Return the chains of nft's JSON by family, table and name."""
    found: dict[Place, Chain] = {}
    for item in ruleset.get("nftables", ()):
        if made := item.get("chain"):
            key = (made["family"], made["table"], made["name"])
            found[key] = Chain(*key, made.get("hook", ""), made.get("policy", ""))
        elif rule := item.get("rule"):
            chain = found.get((rule["family"], rule["table"], rule["chain"]))
            if chain:
                chain.rules.append(Rule(rule.get("handle", 0), tuple(rule.get("expr", ()))))
    return found


def way(base: Chain, among: Chains, traffic: Traffic | None = None) -> Generator[Step]:
    """Yield the verdicts that packets meet in a base chain, in order, up to the one that ends it.

    ``traffic`` None is any packet: only rules without a condition count. A rule with a condition
    that says nothing about ``traffic`` is passed over, since what it does depends on the packet.
    """
    ended = yield from _through(base, among, traffic, frozenset())
    if not ended:
        yield Step(base, None, base.policy or "accept")


def _through(
    chain: Chain, among: Chains, traffic: Traffic | None, seen: frozenset[Place]
) -> Generator[Step, None, bool]:
    """Yield the steps of one chain; return whether the way ended there."""
    for rule in chain.rules:
        verdict = rule.verdict
        cover = _coverage(rule, traffic)
        if not verdict or cover == "none" or (cover == "part" and verdict not in _ENDS):
            continue
        yield Step(chain, rule, verdict, partly=cover == "part")
        if cover == "part":
            continue
        if verdict in _ENDS:
            return True
        if verdict == "return":
            return False
        inner = among.get((chain.family, chain.table, rule.target))
        if inner is not None and inner.place not in seen:
            if (yield from _through(inner, among, traffic, seen | {chain.place})):
                return True
            if verdict == "goto":
                return False
    return False


def _unasking(item: Expr) -> bool:
    """Tell whether an extension of iptables asks nothing: its targets and comments."""
    xt = item.get("xt")
    return isinstance(xt, dict) and (xt.get("type") == "target" or xt.get("name") == "comment")


def _coverage(rule: Rule, traffic: Traffic | None) -> str:
    """Tell how much of ``traffic`` a rule is sure to be met by: "all", "part" or "none"."""
    covered = [_covers(condition, traffic) for condition in rule.conditions]
    return next((word for word in ("none", "part") if word in covered), "all")


def _covers(condition: Expr, traffic: Traffic | None) -> str:
    match = condition.get("match")
    if traffic is None or match is None or match.get("op") not in ("==", "in"):
        return "none"
    payload = {"protocol": IP[traffic.cidr.version], "field": traffic.end}
    if match.get("left") != {"payload": payload}:
        return "none"
    ranges = list(addresses(match.get("right")))
    same = [outer for outer in ranges if outer.version == traffic.cidr.version]
    if any(traffic.cidr.subnet_of(outer) for outer in same):  # type: ignore[arg-type]
        return "all"
    return "part" if any(traffic.cidr.overlaps(outer) for outer in same) else "none"


def addresses(right: object) -> Generator[IPNetwork]:
    """Yield the addresses of a match's right side: one, a prefix, or a set of them.

    A range or the name of a set yields nothing: not what anyone writes for a pool.
    """
    values = right.get("set", [right]) if isinstance(right, dict) else [right]
    for value in values if isinstance(values, list) else ():
        try:
            if isinstance(value, dict):
                prefix = value["prefix"]
                yield ipaddress.ip_network(f"{prefix['addr']}/{prefix['len']}")
            else:
                yield ipaddress.ip_network(str(value))
        except (KeyError, TypeError, ValueError):
            continue
