"""Accept rules of ours in iptables' filter tables (``core/admission`` says why and which).

They are written with ``nft``: one transaction each, which packets see wholly or not at all, and no
xtables lock to wait for, since iptables of the nft kind has none. What stands there is for
``iptables -S``, ``-C`` and ``-D`` the same as if iptables had written it. Where tables of
``iptables-legacy`` are in use these are served as well, by its own program.
"""

from __future__ import annotations

import errno
import json
from collections.abc import Container, Iterator, Sequence
from typing import Any

from netloom.core.admission import FORWARD, TABLE, found, jumps, rules_of
from netloom.core.ruleset import IP, Chains, chains
from netloom.kernel import commands, iptables_legacy, nft
from netloom.model.addr import Family
from netloom.model.errors import KernelRejected, NetloomError, Unavailable
from netloom.model.kernel import FORWARD_CHAIN, Admission, ForwardDrop, KernelObject
from netloom.reconcile.contracts import Change, Outcome, Verb

_FAMILIES: tuple[Family, ...] = (4, 6)


class Admissions:
    """iptables' filter tables of the namespace that the calling thread is in, for one thread.

    Reading costs a process per chain that every forwarded packet comes through, and only when the
    ruleset has changed; how many other rules there are does not matter.
    """

    def __init__(self) -> None:
        self._generation: int | None = None
        self._found: list[ForwardDrop | Admission] = []
        self._legacy: list[ForwardDrop | Admission] = []

    def read(self) -> list[KernelObject]:
        """Return what drops there, and what of ours is there.

        A table that nft cannot show counts as it was: nothing is known to have changed.
        """
        now = nft.generation()
        if now is None or now != self._generation:
            self._found = list(self._look())
            # Another hand may have changed it meanwhile: then the next read must look again.
            self._generation = now if now == nft.generation() else None
        self._legacy = list(self._look_at_legacy())
        return [*self._found, *self._legacy]

    def apply(self, changes: Sequence[Change]) -> list[Outcome]:
        """Try each change; each is one transaction that happens wholly or not at all."""
        return [Outcome(change, self._try(change)) for change in changes]

    def _look(self) -> Iterator[ForwardDrop | Admission]:
        there = nft.chains()
        for family in _FAMILIES:
            names = {place[2] for place in there if place[:2] == _table(family)}
            try:
                yield from found(family, _list_way(family, names))
            except KernelRejected:
                yield from (before for before in self._found if before.family == family)

    def _look_at_legacy(self) -> Iterator[ForwardDrop | Admission]:
        for family in _FAMILIES:
            if not iptables_legacy.stands(family):
                continue
            try:
                yield from found(family, iptables_legacy.listed(family), legacy=True)
            except (KernelRejected, Unavailable):  # who set it up has the program, not this host
                yield from (one for one in self._legacy if one.family == family)

    def _try(self, change: Change) -> NetloomError | None:
        assert isinstance(change.obj, Admission)
        try:
            write = _write_legacy if change.obj.legacy else _write
            write(change.verb, change.obj)
        except NetloomError as error:
            return error
        return None


def _write(verb: Verb, admission: Admission) -> None:
    among = chains(_list("table", *_table(admission.family)))
    lines = list(_without(admission.family, among))
    if verb is not Verb.DELETE:
        lines += _with(admission)
    if not lines:
        return
    done = commands.run("nft", "-f", "-", stdin="\n".join(lines) + "\n")
    if done.code:
        number = nft.errno_in(done.error)
        raise KernelRejected(verb.value, admission.key, number, done.complaint)


def _write_legacy(verb: Verb, admission: Admission) -> None:
    family = admission.family
    if verb is Verb.DELETE and not iptables_legacy.stands(family):
        return
    among = chains(iptables_legacy.listed(family))
    lines = [f"-D {chain.name} -j {FORWARD_CHAIN}" for chain, _ in jumps(among)]
    if (*_table(family), FORWARD_CHAIN) in among:
        lines += [f"-F {FORWARD_CHAIN}", f"-X {FORWARD_CHAIN}"]
    if verb is not Verb.DELETE:
        flags = {"saddr": "-s", "daddr": "-d"}
        lines.append(f":{FORWARD_CHAIN} -")
        lines += [
            f"-A {FORWARD_CHAIN} {flags[end]} {cidr} -j ACCEPT"
            for end, cidr in rules_of(admission.pools)
        ]
        lines.append(f"-I {admission.chain} -j {FORWARD_CHAIN}")
    if lines:
        iptables_legacy.commit(family, verb.value, lines)


def _without(family: Family, among: Chains) -> Iterator[str]:
    """Yield the commands that take out all that is ours."""
    table = f"{IP[family]} {TABLE}"
    for chain, rule in jumps(among):
        yield f"delete rule {table} {chain.name} handle {rule.handle}"
    if (IP[family], TABLE, FORWARD_CHAIN) in among:
        yield f"flush chain {table} {FORWARD_CHAIN}"
        yield f"delete chain {table} {FORWARD_CHAIN}"


def _with(admission: Admission) -> Iterator[str]:
    """Yield the commands that put it there, in front of all that its chain has."""
    ip = IP[admission.family]
    table = f"{ip} {TABLE}"
    yield f"add chain {table} {FORWARD_CHAIN}"
    for end, cidr in rules_of(admission.pools):
        yield f"add rule {table} {FORWARD_CHAIN} {ip} {end} {cidr} counter accept"
    yield f"insert rule {table} {admission.chain} counter jump {FORWARD_CHAIN}"


def _table(family: Family) -> tuple[str, str]:
    return IP[family], TABLE


def _list_way(family: Family, there: Container[str]) -> dict[str, Any]:
    """Return as nft's JSON our chain, FORWARD, and the chains that every packet is led to.

    ``there``: the names of those that exist. Raises KernelRejected.
    """
    items: list[Any] = []
    seen: set[str] = set()
    waiting = [FORWARD, FORWARD_CHAIN]
    while waiting:
        name = waiting.pop()
        if name in seen or name not in there:
            continue
        seen.add(name)
        listed = _list("chain", *_table(family), name)
        items += listed.get("nftables", ())
        for chain in chains(listed).values():
            waiting += [rule.target for rule in chain.rules if rule.target and not rule.conditions]
    return {"nftables": items}


def _list(*what: str) -> dict[str, Any]:
    """Return a table or chain as nft's JSON, empty when it is not there. Raises KernelRejected."""
    done = commands.run("nft", "-j", "list", *what)
    number = nft.errno_in(done.error) if done.code else errno.EINVAL
    if done.code and number == errno.ENOENT:
        return {}
    try:
        listed: dict[str, Any] = json.loads(done.output)
    except ValueError:  # some versions of nft cannot put every rule of iptables into JSON
        raise KernelRejected("read", f"nft {' '.join(what)}", number, done.complaint) from None
    return listed
