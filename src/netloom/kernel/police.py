"""Ingress rate limits: one nftables chain per link, in a table ``netdev netloom`` of its own.

nft rather than tc's police action, which is a kernel option that not every kernel has, while
nothing of ours works without nftables. The table is ours by its name, so every chain in it is: that
of a device which is gone too, which kernels from 6.16 on keep for the next device of that name. A
chain's name is the device's with a prefix, since a device may have a name that means something to
nft.
"""

from __future__ import annotations

import errno
import json
from typing import Any

from netloom.kernel import commands
from netloom.kernel.nft import errno_in, generation
from netloom.model.errors import KernelRejected
from netloom.model.kernel import NFT_TABLE, Qdisc
from netloom.model.wording import describe
from netloom.reconcile.contracts import Verb

_TABLE = f"netdev {NFT_TABLE}"
_PREFIX = "police-"
_UNITS = {"bytes": 1, "kbytes": 1 << 10, "mbytes": 1 << 20}


class Policers:
    """The ingress limits of the namespace that the calling thread is in."""

    def __init__(self) -> None:
        self._generation: int | None = None
        self._found: list[Qdisc] = []

    def read(self) -> list[Qdisc]:
        """Return every ingress limit; a process is started only when the ruleset has changed."""
        now = generation()
        if now is None or now != self._generation:
            self._found = _list()
            self._generation = now if now == generation() else None
        return self._found

    def apply(self, verb: Verb, qdisc: Qdisc) -> None:
        """Set or remove one limit, in one transaction. Removing an absent one is well."""
        script = _removal(qdisc.link)
        if verb is not Verb.DELETE:
            script += _limit(qdisc)
        done = commands.run("nft", "-f", "-", stdin=f"add table {_TABLE}\n{script}")
        if done.code:
            number = errno_in(done.error)
            raise KernelRejected(verb.value, describe(qdisc), number, done.complaint)


def _removal(link: str) -> str:
    """Return what removes a link's chain; "add" makes "delete" well where there is none."""
    return f"add chain {_chain(link)}\ndelete chain {_chain(link)}\n"


def _limit(qdisc: Qdisc) -> str:
    chain = _chain(qdisc.link)
    hook = f'type filter hook ingress device "{qdisc.link}" priority filter; policy accept;'
    rate = f"{qdisc.rate_bps // 8} bytes/second burst {qdisc.burst_bytes} bytes"
    return f"add chain {chain} {{ {hook} }}\nadd rule {chain} limit rate over {rate} drop\n"


def _chain(link: str) -> str:
    return f"{_TABLE} {_PREFIX}{link}"


def _list() -> list[Qdisc]:
    done = commands.run("nft", "-j", "list", "table", *_TABLE.split())
    if done.code:
        number = errno_in(done.error)
        if number == errno.ENOENT:
            return []
        raise KernelRejected("read", f"nft table {_TABLE}", number, done.complaint)
    rules = (item["rule"] for item in json.loads(done.output)["nftables"] if "rule" in item)
    return [qdisc for rule in rules if (qdisc := _qdisc(rule))]


def _qdisc(rule: dict[str, Any]) -> Qdisc | None:
    """Return the limit that a rule stands for; None for a rule that we would not write."""
    chain, expressions = rule["chain"], rule["expr"]
    limit = expressions[0].get("limit") if expressions else None
    if not chain.startswith(_PREFIX) or not limit or limit.get("per") != "second":
        return None
    rate = limit["rate"] * _UNITS.get(limit.get("rate_unit", ""), 0)
    burst = limit.get("burst", 0) * _UNITS.get(limit.get("burst_unit", ""), 0)
    return Qdisc(chain.removeprefix(_PREFIX), "ingress", rate * 8, burst)
