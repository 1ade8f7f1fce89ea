"""Rate limits in the kernel: egress shaped by a tbf qdisc, ingress policed (``kernel/police``).

Nothing is asked of the kernel while no limit is known: most hosts have none.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Collection, Sequence
from typing import Any

from netloom.core.limits import settled
from netloom.kernel import commands
from netloom.kernel.police import Policers
from netloom.model.errors import KernelRejected, NetloomError
from netloom.model.kernel import KernelObject, Qdisc
from netloom.model.wording import describe
from netloom.reconcile.contracts import Change, Outcome, Verb

#: How long a packet may wait to be sent before it is dropped instead.
_LATENCY = "25ms"
#: What tc says, and what the kernel meant by it.
_MEANINGS = {
    "Cannot find device": errno.ENODEV,
    "No such device": errno.ENODEV,
    "Cannot delete qdisc with handle of zero": errno.ENOENT,
    "Invalid handle": errno.ENOENT,
    "No such file or directory": errno.ENOENT,
    "Specified qdisc kind is unknown": errno.EOPNOTSUPP,
}
_GONE = (errno.ENODEV, errno.ENOENT)


class Qdiscs:
    """The rate limits on our links, in the namespace that the calling thread is in."""

    def __init__(self) -> None:
        self._policers = Policers()
        #: Limits that stand, as far as we know. None: nobody has looked yet.
        self._known: set[str] | None = None

    def read(self, links: Collection[str]) -> list[KernelObject]:
        """Return what shapes ``links`` and all that we police; costs nothing where nothing is."""
        if self._known is not None and not self._known:
            return []
        shapers = [qdisc for qdisc in _shapers() if qdisc.link in links]
        found = [*shapers, *self._policers.read()]
        self._known = {qdisc.key for qdisc in found}
        return list(found)

    def apply(self, changes: Sequence[Change]) -> list[Outcome]:
        """Try every change in order; deleting the limit of a link that is gone is well."""
        return [Outcome(change, self._try(change)) for change in changes]

    def _try(self, change: Change) -> NetloomError | None:
        qdisc = change.obj
        assert isinstance(qdisc, Qdisc)
        try:
            if qdisc.direction == "ingress":
                self._policers.apply(change.verb, qdisc)
            else:
                _apply_shaper(change.verb, qdisc)
        except NetloomError as error:
            return error
        if self._known is not None:
            (self._known.discard if change.verb is Verb.DELETE else self._known.add)(qdisc.key)
        return None


def _shapers() -> list[Qdisc]:
    done = commands.run("tc", "-j", "qdisc", "show")
    if done.code:
        raise KernelRejected("read", "qdiscs", _errno_in(done.error), done.complaint)
    listed: list[dict[str, Any]] = json.loads(done.output or "[]")
    return [
        settled(Qdisc(entry["dev"], "egress", options["rate"] * 8, options["burst"]))
        for entry in listed
        if entry.get("kind") == "tbf" and entry.get("root") and (options := entry.get("options"))
    ]


def _apply_shaper(verb: Verb, qdisc: Qdisc) -> None:
    place = ("dev", qdisc.link, "root")
    if verb is Verb.DELETE:
        done = commands.run("tc", "qdisc", "delete", *place)
    else:
        rate = ("rate", f"{qdisc.rate_bps}bit", "burst", f"{qdisc.burst_bytes}b")
        done = commands.run("tc", "qdisc", "replace", *place, "tbf", *rate, "latency", _LATENCY)
    if not done.code:
        return
    number = _errno_in(done.error)
    if verb is Verb.DELETE and number in _GONE:
        return
    hint = "modprobe sch_tbf" if number == errno.EOPNOTSUPP else ""
    raise KernelRejected(verb.value, describe(qdisc), number, done.complaint, hint=hint)


def _errno_in(message: str) -> int:
    for text, number in _MEANINGS.items():
        if text in message:
            return number
    for number in errno.errorcode:
        if os.strerror(number) in message:
            return number
    return errno.EINVAL
