"""Accept rules of ours in iptables' filter tables (``core/admission`` says why and which).

They are written with ``nft``: one transaction each, which packets see wholly or not at all, and no
xtables lock to wait for, since iptables of the nft kind has none. What stands there is for
``iptables -S``, ``-C`` and ``-D`` the same as if iptables had written it.
"""

from __future__ import annotations

import errno
import json
from collections.abc import Iterator, Sequence
from typing import Any

from netloom.core.admission import TABLE, found, jumps, rules_of
from netloom.core.ruleset import IP, Chains, chains
from netloom.kernel import commands, nft
from netloom.model.addr import Family
from netloom.model.errors import KernelRejected, NetloomError
from netloom.model.kernel import FORWARD_CHAIN, Admission, ForwardDrop, KernelObject
from netloom.reconcile.contracts import Change, Outcome, Verb

_FAMILIES: tuple[Family, ...] = (4, 6)


class Admissions:
    """iptables' filter tables of the namespace that the calling thread is in, for one thread.

    Reading costs a process per table that is there, and only when the ruleset has changed.
    """

    def __init__(self) -> None:
        self._generation: int | None = None
        self._found: list[KernelObject] = []

    def read(self) -> list[KernelObject]:
        """Return what drops there, and what of ours is there.

        A table that nft cannot show counts as it was: nothing is known to have changed.
        """
        now = nft.generation()
        if now is None or now != self._generation:
            self._found = list(self._look())
            # Another hand may have changed it meanwhile: then the next read must look again.
            self._generation = now if now == nft.generation() else None
        return list(self._found)

    def apply(self, changes: Sequence[Change]) -> list[Outcome]:
        """Try each change; each is one transaction that happens wholly or not at all."""
        return [Outcome(change, self._try(change)) for change in changes]

    def _look(self) -> Iterator[ForwardDrop | Admission]:
        there = nft.tables()
        for family in _FAMILIES:
            if (IP[family], TABLE) not in there:
                continue
            listed = _list(family)
            if listed is not None:
                yield from found(family, listed)
                continue
            for before in self._found:
                if isinstance(before, ForwardDrop | Admission) and before.family == family:
                    yield before

    def _try(self, change: Change) -> NetloomError | None:
        assert isinstance(change.obj, Admission)
        try:
            self._write(change.verb, change.obj)
        except NetloomError as error:
            return error
        return None

    def _write(self, verb: Verb, admission: Admission) -> None:
        there = (IP[admission.family], TABLE) in nft.tables()
        among = chains(_list(admission.family) or {}) if there else {}
        lines = list(_without(admission.family, among))
        if verb is not Verb.DELETE:
            lines += _with(admission)
        if not lines:
            return
        done = commands.run("nft", "-f", "-", stdin="\n".join(lines) + "\n")
        if done.code:
            number = nft.errno_in(done.error)
            raise KernelRejected(verb.value, admission.key, number, done.complaint)


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


def _list(family: Family) -> dict[str, Any] | None:
    """Return the table as nft's JSON; None when it cannot be had."""
    done = commands.run("nft", "-j", "list", "table", IP[family], TABLE)
    if done.code:
        return {} if nft.errno_in(done.error) == errno.ENOENT else None
    try:
        listed: dict[str, Any] = json.loads(done.output)
    except ValueError:  # some versions of nft cannot put every rule of iptables into JSON
        return None
    return listed
