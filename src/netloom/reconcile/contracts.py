"""What the loop needs of the kernel: a protocol that ``kernel/`` implements and tests may fake."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from netloom.model.errors import NetloomError
from netloom.model.kernel import KernelObject, Peer
from netloom.model.wording import describe


class Verb(Enum):
    """What a change does. ADD must find the place free; REPLACE and DELETE must find ours."""

    ADD = "add"
    REPLACE = "replace"
    DELETE = "delete"


@dataclass(frozen=True, slots=True)
class Change:
    """One step of a plan. ``obj`` is what shall stand there (for DELETE: what goes).

    ``was`` is what stood there for REPLACE. ``reason`` is a few words for people.
    """

    verb: Verb
    obj: KernelObject
    was: KernelObject | None = None
    reason: str = ""

    def __str__(self) -> str:
        return f"{self.verb.value} {describe(self.obj)}"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one change: ``error`` None means the kernel acknowledged it.

    A DELETE of what is absent has no error.
    """

    change: Change
    error: NetloomError | None = None


class Kernel(Protocol):
    """One host's kernel (one network namespace). Calls block; one writer at a time."""

    def read(self, kinds: Iterable[str]) -> list[KernelObject]:
        """Read the objects of the wanted ``kinds`` (see ``model.kernel.KINDS``).

        Links, addresses and routes (main table, unicast and blackhole): all of them, whoever
        they belong to. Neighbours and FDB entries: the permanent ones of links whose alias is
        ours. Sysctls: those ever written or asked for through :meth:`want_sysctls`. nft: our
        table if it exists. Admissions: ours, and which tables of iptables drop. Qdiscs: of links
        that are ours, and all that police ingress.
        """
        ...

    def apply(self, changes: Sequence[Change]) -> list[Outcome]:
        """Try every change in order and return one outcome for each, in the same order.

        Bulk kinds are sent hundreds to a message; one failure does not stop the rest.
        """
        ...

    def want_sysctls(self, names: Iterable[str]) -> None:
        """Name the sysctls that :meth:`read` shall report; absent ones are left out."""
        ...

    def check_peer(self, peer: Peer) -> list[str]:
        """Compare a container's interior with ``peer``; each difference is one sentence."""
        ...


class KernelEvents(Protocol):
    """Kernel notifications (rtnetlink groups, nft monitor) cut down to "which kinds to look at"."""

    def wait(self, timeout_s: float | None) -> frozenset[str]:
        """Block until another hand changed something; return the kinds to read again.

        Our own writes (by netlink port id) do not count. An overrun returns every kind. Empty when
        ``timeout_s`` passed or :meth:`close` was called.
        """
        ...

    def close(self) -> None:
        """End; wakes a blocked :meth:`wait`."""
        ...
