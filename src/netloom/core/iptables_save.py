"""What ``iptables-legacy-save`` prints, as nft's JSON would have it: both are then read alike.

Of a rule's conditions only addresses are told; everything else is a condition that nobody knows.
Source: iptables-save(8), iptables(8).
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from typing import Any

from netloom.core.ruleset import IP
from netloom.model.addr import Family

TABLE = "filter"
_HOOKS = {"INPUT": "input", "FORWARD": "forward", "OUTPUT": "output"}
_VERDICTS = {"ACCEPT": "accept", "DROP": "drop", "RETURN": "return"}
_ENDS = {"-s": "saddr", "-d": "daddr"}
_UNKNOWN: dict[str, Any] = {"xt": {"type": "match", "name": "unknown"}}


def as_ruleset(text: str, family: Family) -> dict[str, Any]:
    """Return the table ``filter`` in the form of ``nft -j list table``; rules have no handles."""
    place = {"family": IP[family], "table": TABLE}
    items: list[dict[str, Any]] = []
    names: set[str] = set()
    for line in text.splitlines():
        if line.startswith(":"):
            name, policy, *_ = line[1:].split()
            names.add(name)
            base = {"hook": _HOOKS[name], "policy": policy.lower()} if name in _HOOKS else {}
            items.append({"chain": {**place, "name": name, **base}})
        elif line.startswith("-A "):
            chain, *words = shlex.split(line)[1:]
            rule = {**place, "chain": chain, "expr": list(_expressions(words, names, family))}
            items.append({"rule": rule})
    return {"nftables": items}


def _expressions(words: list[str], names: set[str], family: Family) -> Iterator[dict[str, Any]]:
    """Yield a rule's conditions, then its verdict; what follows the target is the target's own."""
    left = list(words)
    while left:
        word = left.pop(0)
        if word in ("-j", "-g") and left:
            yield _verdict(left[0], names, "jump" if word == "-j" else "goto")
            return
        if word in _ENDS and left:
            payload = {"protocol": IP[family], "field": _ENDS[word]}
            yield {
                "match": {"op": "==", "left": {"payload": payload}, "right": _range(left.pop(0))}
            }
        elif [word, *left[:2]][:3] == ["-m", "comment", "--comment"]:
            del left[:3]
        else:
            yield _UNKNOWN
            if word == "!":  # it turns round what follows
                del left[:2]


def _verdict(target: str, names: set[str], how: str) -> dict[str, Any]:
    if target in names:
        return {how: {"target": target}}
    if target in _VERDICTS:
        return {_VERDICTS[target]: None}
    return {"xt": {"type": "target", "name": target}}


def _range(text: str) -> object:
    address, _, length = text.partition("/")
    return {"prefix": {"addr": address, "len": int(length)}} if length.isdecimal() else address
