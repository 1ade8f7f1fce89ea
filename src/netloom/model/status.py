"""The agent's status: one value that the CLI prints, ``/v1/status`` carries and metrics read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from netloom.model.view import Problem


@dataclass(frozen=True, slots=True)
class StoreStatus:
    """``state``: ``connected`` or ``away``; ``since`` is when that began (ISO 8601, UTC)."""

    url: str
    state: str
    since: str
    revision: int = 0
    error: str = ""


@dataclass(frozen=True, slots=True)
class KernelStatus:
    """What is in the kernel: ``revision`` is the store's that was last applied in full.

    ``objects`` counts per kind what is desired; ``repaired`` counts per kind what another hand
    changed and we put right since start; ``failing`` are changes that the kernel refuses now.
    """

    revision: int = 0
    last_apply: str = ""
    objects: Mapping[str, int] = field(default_factory=dict)
    repaired: Mapping[str, int] = field(default_factory=dict)
    failing: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class NetworkStatus:
    """One network as this host has it.

    ``blocks`` are this host's own, loans of others too: each ``{"cidr": text, "used": addresses,
    "size": addresses, "lent": addresses}``, where what is lent is used.
    ``retiring`` are the backends that it moves away from.
    """

    name: str
    backend: str
    attachment: str
    mtu_bytes: int
    blocks: tuple[Mapping[str, Any], ...] = ()
    retiring: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PeerStatus:
    """Another host: where it is, which blocks it holds, how we reach them ("vxlan flannel.1").

    ``paths`` says it for each network by name; ``path`` is all of them in one line.
    """

    id: str
    name: str
    addresses: tuple[str, ...]
    blocks: tuple[str, ...]
    path: str
    problem: str = ""
    paths: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Status:
    """One screen. ``well`` is False when anything needs a person; ``problems`` says what, and more.

    ``candidates`` is what could be the underlay: each ``{"interface", "address", "taken",
    "reason"}``.
    """

    host_id: str
    host_name: str
    version: str
    pid: int
    started: str
    ready: bool
    underlay: Mapping[str, str]
    underlay_reason: str
    store: StoreStatus
    kernel: KernelStatus
    networks: tuple[NetworkStatus, ...] = ()
    peers: tuple[PeerStatus, ...] = ()
    endpoints: int = 0
    problems: tuple[Problem, ...] = ()
    candidates: tuple[Mapping[str, Any], ...] = ()

    @property
    def well(self) -> bool:
        """Tell whether nothing needs a person."""
        wrong = any(problem.needs_a_person for problem in self.problems)
        return self.ready and self.store.state == "connected" and not wrong

    def render(self) -> dict[str, Any]:
        """Return the JSON form of ``netloom status -o json`` and ``GET /v1/status``."""
        return {"well": self.well, **asdict(self)}
