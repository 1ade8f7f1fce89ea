"""What in the host's other firewalls drops our containers' traffic."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from netloom.core.ruleset import FAMILIES, IP, Chain, Chains, Rule, Step, Traffic, chains, way
from netloom.core.ruleset import addresses as addresses_of
from netloom.model.addr import IPNetwork
from netloom.model.kernel import NFT_TABLE
from netloom.model.network import Network
from netloom.model.view import Problem

#: Docker's chain for rules of other people; it is asked first and never emptied by Docker.
_DOCKER_USER = "DOCKER-USER"


def forward_drops(ruleset: Mapping[str, Any], networks: Iterable[Network]) -> list[Problem]:
    """Find chains of others that drop what is forwarded, unless they accept our pools before.

    ``ruleset`` is the JSON of ``nft -j list ruleset``. A base chain at the forward hook counts when
    its policy, or a rule on the way there, drops packets from or to a pool whatever else is true of
    them. Each such chain is one problem that names the pools that suffer, the rule, and the
    commands that help. Where only a part of a pool suffers, somebody may have meant it so: that is
    a warning.
    """
    pools = sorted(
        (pool.cidr for network in networks for pool in network.pools),
        key=lambda cidr: (cidr.version, cidr),
    )
    among = {
        place: chain for place, chain in chains(ruleset).items() if place[:2] != ("inet", NFT_TABLE)
    }
    problems = []
    for chain in among.values():
        if chain.hook != "forward":
            continue
        blocked = {
            cidr: steps
            for cidr in pools
            if cidr.version in FAMILIES.get(chain.family, ())
            and (steps := list(_blocking(chain, among, cidr)))
        }
        if blocked:
            problems.append(_problem(chain, among, blocked))
    return problems


def _blocking(chain: Chain, among: Chains, cidr: IPNetwork) -> Iterator[Step]:
    """Yield the steps at which packets from or to ``cidr`` are dropped."""
    for end in ("saddr", "daddr"):
        for step in way(chain, among, Traffic(cidr, end)):
            if step.verdict in ("drop", "reject"):
                yield step


def _problem(chain: Chain, among: Chains, blocked: Mapping[IPNetwork, list[Step]]) -> Problem:
    steps = [step for many in blocked.values() for step in many]
    wholly = any(not step.partly for step in steps)
    by = ", ".join(dict.fromkeys(_named(step) for step in steps))
    names = ", ".join(str(cidr) for cidr in blocked)
    return Problem(
        "error" if wholly else "warning",
        f"firewall {chain.family} {chain.table} {chain.name}",
        f"chain {chain.name} of table {chain.family} {chain.table} drops what is forwarded ({by}) "
        f"and does not accept {names}: "
        + ("" if wholly else "some ")
        + "containers cannot be reached through this host, and no rule in another table can "
        "change that",
        _remedy(chain, among, list(blocked)),
    )


def _named(step: Step) -> str:
    """Return the words for what drops: a policy, or a rule as nft would print it."""
    if step.rule is None:
        return f"policy {step.verdict}"
    return f"rule of chain {step.chain.name}: {_text(step.rule)}"


def _text(rule: Rule) -> str:
    """Return a rule whose conditions are about addresses alone, as `nft list ruleset` has it."""
    words = []
    for condition in rule.conditions:
        match = condition["match"]
        payload = match["left"]["payload"]
        there = ", ".join(
            str(cidr.network_address if cidr.num_addresses == 1 else cidr)
            for cidr in addresses_of(match["right"])
        )
        words.append(f"{payload['protocol']} {payload['field']} {there}")
    return " ".join([*words, rule.verdict])


def _remedy(chain: Chain, among: Chains, pools: list[IPNetwork]) -> str:
    """Return the commands that let the pools through: iptables' own where the chain is its."""
    commands = []
    by_iptables = chain.family in ("ip", "ip6") and chain.table == "filter"
    docker = (chain.family, chain.table, _DOCKER_USER) in among
    for cidr in pools:
        for flag, end in (("-s", "saddr"), ("-d", "daddr")):
            if by_iptables:
                tool = "iptables" if cidr.version == 4 else "ip6tables"
                target = _DOCKER_USER if docker else chain.name
                commands.append(f"{tool} -I {target} {flag} {cidr} -j ACCEPT")
            else:
                place = f"{chain.family} {chain.table} {chain.name}"
                match = f"{IP[cidr.version]} {end} {cidr}"
                commands.append(f"nft insert rule {place} {match} accept")
    return "; ".join(commands)
