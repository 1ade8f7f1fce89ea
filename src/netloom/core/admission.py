"""Accept rules of ours where another's chain would drop what our containers forward.

netfilter asks every table's chain at a hook in turn: "accept" ends one chain, "drop" ends the
packet. So a FORWARD chain of iptables that drops (Docker sets its policy so) can only be passed by
a rule inside of it. Ours is one jump, in front, to a chain of our own in the same table,
``NETLOOM-FORWARD``, which accepts what comes from and goes to the pools. The chain's name is the
mark that all of it is ours: unlike a comment it is seen by nft and by iptables alike, whoever wrote
the rule last, and outlives ``iptables-save`` and ``iptables-restore``.

The jump goes into ``DOCKER-USER`` where packets come through it: Docker asks that chain first and
never empties it. Tables that are not iptables' are left alone: they belong to a program that writes
them whole (firewalld) or to a person; ``core/obstacles`` names what blocks there and the remedy.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from netloom.core.ruleset import IP, Chain, Chains, Rule, addresses, chains, way
from netloom.model.addr import Family, IPNetwork
from netloom.model.kernel import FORWARD_CHAIN, Admission, ForwardDrop
from netloom.model.network import Network

TABLE = "filter"
FORWARD = "FORWARD"
_DOCKER_USER = "DOCKER-USER"
_DIRECTIONS = ("saddr", "daddr")


def admissions(networks: Iterable[Network], drops: Iterable[ForwardDrop]) -> list[Admission]:
    """Return what lets the networks' pools through each chain of ``drops``."""
    pools = {pool.cidr for network in networks for pool in network.pools}
    wanted = []
    for drop in drops:
        cidrs = tuple(sorted(cidr for cidr in pools if cidr.version == drop.family))
        if cidrs:
            wanted.append(Admission(drop.family, drop.chain, cidrs, legacy=drop.legacy))
    return wanted


def found(
    family: Family, ruleset: Mapping[str, Any], legacy: bool = False
) -> Iterator[ForwardDrop | Admission]:
    """Yield what iptables' table ``filter`` of one family drops, and what we have in it.

    ``ruleset`` is nft's JSON of the whole table or of what matters here: our chain, FORWARD, and
    the chains that every packet is led to.
    """
    among = chains(ruleset)
    base = among.get((IP[family], TABLE, FORWARD))
    if base is None or base.hook != "forward":
        base = Chain(IP[family], TABLE, FORWARD)
    steps = list(way(base, among))
    met = [step.rule.target for step in steps if step.rule]
    if steps[-1].verdict in ("drop", "reject"):
        yield ForwardDrop(family, _DOCKER_USER if _DOCKER_USER in met else FORWARD, legacy)
    own = among.get((IP[family], TABLE, FORWARD_CHAIN))
    into = [chain.name for chain, _ in jumps(among)]
    if own is not None or into:
        admitted = [_admitted(rule) for rule in own.rules] if own else []
        pools = tuple(sorted({cidr for _, cidr in admitted if cidr is not None}))
        # More than what we write, or less, or where no packet comes: not whole.
        whole = admitted == list(rules_of(pools)) and len(into) == 1 and FORWARD_CHAIN in met
        yield Admission(family, into[0] if len(into) == 1 else "", pools, whole, legacy)


def rules_of(pools: Iterable[IPNetwork]) -> Iterator[tuple[str, IPNetwork]]:
    """Yield our chain's rules in order: which end of a packet is accepted, and its addresses."""
    for cidr in pools:
        for end in _DIRECTIONS:
            yield end, cidr


def jumps(among: Chains) -> Iterator[tuple[Chain, Rule]]:
    """Yield every rule that leads to our chain, with the chain that it is in."""
    for chain in among.values():
        for rule in chain.rules:
            if rule.target == FORWARD_CHAIN:
                yield chain, rule


def _admitted(rule: Rule) -> tuple[str, IPNetwork | None]:
    """Return what a rule of our chain accepts; no addresses for a rule that we do not write."""
    conditions = rule.conditions
    if rule.verdict == "accept" and len(conditions) == 1 and "match" in conditions[0]:
        match = conditions[0]["match"]
        end = match["left"].get("payload", {}).get("field", "")
        cidrs = list(addresses(match["right"]))
        if match["op"] == "==" and end in _DIRECTIONS and len(cidrs) == 1:
            return end, cidrs[0]
    return rule.verdict, None
