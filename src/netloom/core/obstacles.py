"""What in the host's other firewalls drops the traffic that ours accepts.

Read from ``nft -j list ruleset``, so iptables counts when it is the nft kind (the default since
Debian 10 and RHEL 8); rules of ``iptables-legacy`` are not seen there.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from netloom.model.addr import Family, IPNetwork
from netloom.model.kernel import NFT_TABLE
from netloom.model.network import Network
from netloom.model.view import Problem

_FAMILIES: dict[str, tuple[Family, ...]] = {"ip": (4,), "ip6": (6,), "inet": (4, 6)}
_PROTOCOL = {4: "ip", 6: "ip6"}
#: Docker's chain for rules of other people; it is asked first and never emptied by Docker.
_DOCKER_USER = "DOCKER-USER"


@dataclass(frozen=True, slots=True)
class _Chain:
    """One chain of another's table and its rules, each a list of nft's JSON expressions."""

    family: str
    table: str
    name: str
    hook: str = ""
    policy: str = ""
    rules: list[list[Mapping[str, Any]]] = field(default_factory=list)


def forward_drops(ruleset: Mapping[str, Any], networks: Iterable[Network]) -> list[Problem]:
    """Find chains of others that drop what is forwarded, unless they accept our pools.

    ``ruleset`` is the JSON of ``nft -j list ruleset``. A chain counts when it is a base chain at
    the forward hook whose policy is drop, and no rule in it, or in a chain that it jumps to,
    accepts a pool as source and as destination without any other condition. Each such chain is one
    problem, naming the pools that suffer and the commands that help.
    """
    pools = sorted(
        (pool.cidr for network in networks for pool in network.pools),
        key=lambda cidr: (cidr.version, cidr),
    )
    chains = _chains(ruleset)
    problems = []
    for chain in chains.values():
        if chain.hook != "forward" or chain.policy != "drop":
            continue
        suffering = [
            cidr
            for cidr in pools
            if cidr.version in _FAMILIES.get(chain.family, ())
            and not all(_accepts(chain, chains, cidr, end) for end in ("saddr", "daddr"))
        ]
        if suffering:
            problems.append(_problem(chain, chains, suffering))
    return problems


def _chains(ruleset: Mapping[str, Any]) -> dict[tuple[str, str, str], _Chain]:
    chains: dict[tuple[str, str, str], _Chain] = {}
    for item in ruleset.get("nftables", ()):
        if made := item.get("chain"):
            key = (made["family"], made["table"], made["name"])
            if key[:2] != ("inet", NFT_TABLE):
                chains[key] = _Chain(*key, made.get("hook", ""), made.get("policy", ""))
        elif rule := item.get("rule"):
            chain = chains.get((rule["family"], rule["table"], rule["chain"]))
            if chain:
                chain.rules.append(rule.get("expr", []))
    return chains


def _accepts(
    chain: _Chain, chains: Mapping[tuple[str, str, str], _Chain], cidr: IPNetwork, end: str
) -> bool:
    """Tell whether a rule of ``chain`` or of one it leads to accepts all of ``cidr`` at ``end``."""
    seen: set[str] = set()
    waiting = [chain.name]
    while waiting:
        name = waiting.pop()
        here = chains.get((chain.family, chain.table, name))
        if name in seen or here is None:
            continue
        seen.add(name)
        for rule in here.rules:
            conditions = [item["match"] for item in rule if "match" in item]
            if not all(_covers(condition, cidr, end) for condition in conditions):
                continue
            if any("accept" in item for item in rule):
                return True
            for item in rule:
                target = item.get("jump") or item.get("goto")
                if target:
                    waiting.append(target["target"])
    return False


def _covers(condition: Mapping[str, Any], cidr: IPNetwork, end: str) -> bool:
    """Tell whether a condition holds for every packet whose ``end`` is in ``cidr``."""
    wanted = {"payload": {"protocol": _PROTOCOL[cidr.version], "field": end}}
    if condition.get("op") not in ("==", "in") or condition.get("left") != wanted:
        return False
    right = condition.get("right")
    values = right.get("set", [right]) if isinstance(right, dict) else [right]
    return any(_contains(value, cidr) for value in values)


def _contains(value: object, cidr: IPNetwork) -> bool:
    try:
        if isinstance(value, dict):
            prefix = value["prefix"]
            outer: Any = ipaddress.ip_network(f"{prefix['addr']}/{prefix['len']}")
        else:
            outer = ipaddress.ip_network(str(value))
    except (KeyError, TypeError, ValueError):
        return False  # a range, a set's name: not what anyone writes for a pool
    return bool(outer.version == cidr.version and cidr.subnet_of(outer))


def _problem(
    chain: _Chain, chains: Mapping[tuple[str, str, str], _Chain], pools: list[IPNetwork]
) -> Problem:
    names = ", ".join(str(cidr) for cidr in pools)
    return Problem(
        "error",
        f"firewall {chain.family} {chain.table} {chain.name}",
        f"chain {chain.name} of table {chain.family} {chain.table} drops what is forwarded "
        f"(policy drop) and does not accept {names}: containers cannot be reached through this "
        "host, and no rule in another table can change that",
        _remedy(chain, chains, pools),
    )


def _remedy(
    chain: _Chain, chains: Mapping[tuple[str, str, str], _Chain], pools: list[IPNetwork]
) -> str:
    """Return the commands that let the pools through: iptables' own where the chain is its."""
    commands = []
    by_iptables = chain.family in ("ip", "ip6") and chain.table == "filter"
    docker = (chain.family, chain.table, _DOCKER_USER) in chains
    for cidr in pools:
        for flag, end in (("-s", "saddr"), ("-d", "daddr")):
            if by_iptables:
                tool = "iptables" if cidr.version == 4 else "ip6tables"
                target = _DOCKER_USER if docker else chain.name
                commands.append(f"{tool} -I {target} {flag} {cidr} -j ACCEPT")
            else:
                place = f"{chain.family} {chain.table} {chain.name}"
                match = f"{_PROTOCOL[cidr.version]} {end} {cidr}"
                commands.append(f"nft insert rule {place} {match} accept")
    return "; ".join(commands)
