"""etcd members for a lab: how one is started, and what a cluster of them is called.

::

    members = plan_members(["10.99.0.11", "10.99.0.12", "10.99.0.13"], Path("/tmp/x"))
    for member in members:
        place.popen(member.command(members))
    url = datastore_url(members)

Data that a lab throws away is never waited for on the disk (``--unsafe-no-fsync``); heartbeats come
fast, so that a new leader is elected within a second.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

CLIENT_PORT, PEER_PORT = 2379, 2380
HEARTBEAT_MS, ELECTION_MS = 50, 500


@dataclass(frozen=True, slots=True)
class Member:
    """One etcd member: its name, the address it listens on, the directory of its data."""

    name: str
    address: str
    data: Path

    @property
    def endpoint(self) -> str:
        """Return where clients reach it."""
        return f"{self.address}:{CLIENT_PORT}"

    @property
    def peer_url(self) -> str:
        """Return where the other members reach it."""
        return f"http://{self.address}:{PEER_PORT}"

    def command(self, members: Sequence[Member], *, tls: Sequence[str] = ()) -> list[str]:
        """Return the command that starts it as one of ``members``.

        ``tls`` are etcd's flags for its clients' side, whose presence makes that side speak TLS.
        """
        client = f"{'https' if tls else 'http'}://{self.endpoint}"
        return [
            "etcd",
            *("--name", self.name, "--data-dir", str(self.data), "--unsafe-no-fsync"),
            *("--listen-client-urls", client, "--advertise-client-urls", client),
            *("--listen-peer-urls", self.peer_url, "--initial-advertise-peer-urls", self.peer_url),
            *("--initial-cluster", initial_cluster(members), "--initial-cluster-token", "netloom"),
            *("--heartbeat-interval", str(HEARTBEAT_MS), "--election-timeout", str(ELECTION_MS)),
            *("--log-level", "warn", "--logger", "zap", "--log-outputs", "stderr"),
            *tls,
        ]


def plan_members(addresses: Sequence[str], directory: Path) -> tuple[Member, ...]:
    """Return a member ``etcd1``, ``etcd2``, … for each address, its data below ``directory``."""
    return tuple(
        Member(f"etcd{number}", address, directory / f"etcd{number}")
        for number, address in enumerate(addresses, 1)
    )


def initial_cluster(members: Sequence[Member]) -> str:
    """Return the value of ``--initial-cluster``, for etcd and for a restored snapshot."""
    return ",".join(f"{member.name}={member.peer_url}" for member in members)


def datastore_url(members: Sequence[Member]) -> str:
    """Return the URL that agents are given."""
    return "etcd://" + ",".join(member.endpoint for member in members)
