"""What the agent offers to its edges: a service for drivers, and routes of the local API."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Protocol

from netloom.model.attachment import Attached, AttachRequest
from netloom.model.endpoint import Endpoint
from netloom.model.view import Problem

NO_LABELS: Mapping[str, str] = MappingProxyType({})


class Attachments(Protocol):
    """Attach and detach containers on this host. Safe to call from many threads at once."""

    def attach(self, request: AttachRequest) -> Attached:
        """Attach and return once the kernel holds it; on any error nothing of it remains.

        Raises Conflict (name or address taken, attached already), Exhausted (no address left),
        InvalidConfig (unknown network, address outside the pools, namespace path that is none),
        Unavailable (a block is needed and the store is away), KernelRejected.
        """
        ...

    def detach(self, container_id: str, ifname: str, network: str) -> None:
        """Remove the interface and free its addresses; absent parts are well, repeats are safe.

        ``network`` "" means whichever network the interface is in.
        """
        ...

    def find(self, container_id: str, ifname: str, network: str) -> Attached | None:
        """Return what is attached under that name, or None."""
        ...

    def check(self, container_id: str, ifname: str, network: str) -> list[str]:
        """Compare what was attached with what stands; each difference is one sentence.

        Looks at both ends of the link, the addresses, routes and neighbours inside, the host's
        routes or bridge port, the firewall, published ports, rate limits and the address's record.
        """
        ...

    def collect(
        self,
        network: str,
        keep: Collection[tuple[str, str]],
        labels: Mapping[str, str] = NO_LABELS,
    ) -> list[Endpoint]:
        """Detach every endpoint of ``network`` whose (container id, ifname) is not in ``keep``.

        Only endpoints that carry all of ``labels`` are looked at: several runtimes (or several
        CNI configurations) may share one network, and each knows its own containers alone.
        Goes on after a failure and raises the first at the end.
        """
        ...

    def readiness(self, network: str) -> list[Problem]:
        """Return what stands in the way of a next attach; empty means ready."""
        ...


@dataclass(frozen=True, slots=True)
class Request:
    """One call of the local API. Header names are lower case; ``uid`` is the caller's user id.

    ``pid`` is the caller's process as the agent's own /proc names it (SO_PEERCRED), 0 if unknown:
    a path that the caller means is at ``/proc/<pid>/root/<path>`` while the call lasts.
    """

    method: str
    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    uid: int = 0
    pid: int = 0


@dataclass(frozen=True, slots=True)
class Response:
    """The answer: a status and either JSON data or a ready body."""

    status: int = 200
    data: Any = None
    body: bytes | None = None
    content_type: str = "application/json"


#: What serves one path of the local API, e.g. ``("POST", "/cni/ADD")``.
Handler = Callable[[Request], Response]
Routes = Mapping[tuple[str, str], Handler]
