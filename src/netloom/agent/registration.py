"""What this host tells the others: its record, that it is alive, and the blocks it holds.

Level-triggered like everything else: ``sync`` compares what the store says of this host with what
is true and writes the difference. It is called when the picture, the facts or the time changed.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType

from netloom.agent.own_part import OwnPart
from netloom.core.backends.table import BACKENDS
from netloom.core.desired import Desired
from netloom.core.moving import finished
from netloom.core.resources.node import labels_of
from netloom.model.datastore import Compare, Put, Store, Transaction
from netloom.model.errors import Conflict
from netloom.model.host import UNPACKS, Block, Host
from netloom.model.kernel import UdpProxy
from netloom.model.keys import alive_key, block_key, host_key, joins_key, network_key
from netloom.model.network import Network
from netloom.model.view import Cluster, HostFacts, Problem
from netloom.reconcile import claims
from netloom.reconcile.claim_refusals import FormerSize

_log = logging.getLogger(__name__)
ALIVE_TTL_S = 30.0
KEEP_ALIVE_S = 10.0
#: For how long the status tells of what happened and was put right.
INCIDENT_S = 600.0


class Registration:
    """Registers one host. Used by one thread; ``problems`` is replaced as a whole.

    ``unpacking`` tells the UDP proxies' devices for whose peers this host's kernel unpacks.
    """

    def __init__(
        self,
        host_id: str,
        host_name: str,
        clock: Callable[[], float],
        unpacking: Callable[[], frozenset[str]] = frozenset,
    ) -> None:
        self.host_id = host_id
        self.host_name = host_name
        self.problems: tuple[Problem, ...] = ()
        self._clock = clock
        self._unpacking = unpacking
        self._own = OwnPart(host_id)
        self._claimed: set[Block] = set()
        self._incidents: dict[Problem, float] = {}
        self._lease = 0
        self._kept_s = float("-inf")
        self._place = _place()

    def sync(
        self,
        store: Store,
        cluster: Cluster,
        facts: HostFacts,
        remembered: tuple[Block, ...],
        applied: Desired | None = None,
    ) -> None:
        """Write what is missing or wrong; ``remembered`` are blocks this host held before.

        ``applied`` is what the kernel holds without a refusal; None says nothing new about it.

        Raises Unavailable when the store goes away meanwhile; call again.
        """
        problems = list(self._keep_alive(store))
        if not problems:
            problems += self._register(store, cluster, facts, applied)
            problems += self._claim(store, cluster, remembered)
            end_moves(store, cluster)
        for incident in store.take_incidents():
            self._note(incident)
        self.problems = (*problems, *self._recent())

    def record(
        self,
        cluster: Cluster,
        facts: HostFacts,
        applied: Desired | None,
        unpacking: frozenset[str] = frozenset(),
    ) -> Host:
        """Return this host's record as it should stand in the store.

        ``unpacking`` are the UDP proxies' devices for whose peers this host's kernel unpacks.
        """
        macs = {
            name: mac
            for name, network in sorted(cluster.networks.items())
            for choice in (network.backend, *network.retiring)
            if (mac := _published(replace(network, backend=choice), self.host_id))
        }
        before = cluster.hosts.get(self.host_id)
        serves, sends = (before.serves, before.sends) if before else ({}, {})
        if applied is not None:
            serves, sends = _reached(cluster, applied, serves, sends)
            serves |= _unpacked(applied, serves, unpacking)
        return Host(
            self.host_id,
            self.host_name,
            facts.underlay_address(4),
            facts.underlay_address(6),
            MappingProxyType(macs),
            MappingProxyType(dict(serves)),
            MappingProxyType(dict(sends)),
            tuple(interface.network for _, interface in facts.underlay.values()),
        )

    def leave(self, store: Store) -> None:
        """Say that the agent ends; blocks and record stay, since containers go on."""
        if self._lease:
            store.revoke(self._lease)
            self._lease = 0

    def _note(self, incident: str) -> None:
        """Tell of something that is over, for a while."""
        remedy = "nothing to do; if it comes again, see who revokes leases or stops the store"
        problem = Problem("warning", f"host {self.host_name}", incident, remedy)
        self._incidents[problem] = self._clock()

    def _recent(self) -> tuple[Problem, ...]:
        """Return what happened lately; forget what is older."""
        oldest = self._clock() - INCIDENT_S
        self._incidents = {p: at for p, at in self._incidents.items() if at > oldest}
        return tuple(self._incidents)

    def _keep_alive(self, store: Store) -> list[Problem]:
        """Hold the leased key that says who runs under this host id. Two at once is refused."""
        now = self._clock()
        if self._lease and now - self._kept_s < KEEP_ALIVE_S:
            return []
        if self._lease and store.keep_alive(self._lease):
            self._kept_s = now
            return []
        if self._lease:
            self._note(
                "the lease of this host's liveness was gone (revoked, or the store was out of "
                f"reach for longer than {ALIVE_TTL_S:g} s) and is granted anew"
            )
            self._lease = 0
        key = alive_key(self.host_id)
        entry = store.get(key)
        if entry is not None and not _same_place(entry.value, self._place):
            return [
                Problem(
                    "error",
                    f"host {self.host_id}",
                    f"another running agent uses this host id: {entry.value.decode()}",
                    "give each host its own --host-id (cloned machines share a machine-id)",
                )
            ]
        self._lease = store.grant(ALIVE_TTL_S)
        compare = Compare(key, entry.mod_revision if entry else 0)
        put = Put(key, json.dumps(self._place).encode(), self._lease)
        if store.commit(Transaction((put,), (compare,))).succeeded:
            self._kept_s = now
        return []

    def _register(
        self, store: Store, cluster: Cluster, facts: HostFacts, applied: Desired | None
    ) -> list[Problem]:
        # In a shared layout a record outlives its agent's lease, which another's daemon may take.
        unpacking = frozenset() if store.shared else self._unpacking()
        wanted = self.record(cluster, facts, applied, unpacking)
        self._own.look(cluster, wanted)
        key = host_key(self.host_id)
        if key in cluster.standing or cluster.hosts.get(self.host_id) != wanted:
            entry = store.get(key)
            put = Put(key, json.dumps(wanted.render()).encode())
            compare = Compare(put.key, entry.mod_revision if entry else 0)
            if entry is None or entry.value != put.value:
                store.commit(Transaction((put,), (compare,)))
        return [
            Problem(
                "error",
                f"host {self.host_name}",
                f"underlay address {address} is also host {other.name}'s ({other.id})",
                "give each host its own address, or name the right interface (--interface)",
            )
            for other in self._own.twins
            for address in (wanted.underlay4, wanted.underlay6)
            if address is not None and address in (other.underlay4, other.underlay6)
        ]

    def _claim(
        self, store: Store, cluster: Cluster, remembered: tuple[Block, ...]
    ) -> list[Problem]:
        """Hold the blocks that this host needs, or says that it holds."""
        problems = []
        own_host = cluster.hosts.get(self.host_id) or Host(self.host_id, self.host_name)
        labels = labels_of(cluster, own_host)
        for network in cluster.networks.values():
            own = [block for block in self._own.blocks if block.network == network.name]
            held = claims.Held(
                own,
                {b.cidr for b in own if block_key(network.name, b.cidr) in cluster.standing},
                tuple(block.cidr for block in remembered if block.network == network.name),
                labels,
                resized=not store.shared,
            )
            try:
                got = claims.hold_blocks(store, network, self.host_id, held)
            except (Conflict, claims.Unsettled, FormerSize) as error:
                severity = "error" if isinstance(error, Conflict) else "warning"
                problem = Problem(severity, f"network {network.name}", str(error), error.hint)
                problems.append(problem)
                continue
            for block in set(got) - self._claimed:  # else the watch has yet to bring it
                back = "put back" if block.cidr in held.forgotten else "claimed"
                _log.info("%s block %s of network %s", back, block.cidr, network.name)
            self._claimed.update(got)
        return problems


def _published(network: Network, host_id: str) -> str:
    """Return what peers need to know of this host for a network's backend; "" for nothing."""
    backend = BACKENDS.get(network.backend.type)
    return backend.publish(network, host_id) if backend else ""


def _reached(
    cluster: Cluster,
    applied: Desired,
    serves: Mapping[str, tuple[str, ...]],
    sends: Mapping[str, str],
) -> tuple[dict[str, tuple[str, ...]], dict[str, str]]:
    """Return by what this host is reached and reaches, per network, from what it said before.

    A network that cannot stand, or stands in part, leaves in the kernel what was there: what was
    said of that stays too.
    """
    well = {n: s for n, s in applied.standing.items() if not s.backend.problems}
    still = [name for name in cluster.networks if name not in well]
    serves = {name: serves[name] for name in still if name in serves}
    sends = {name: sends[name] for name in still if name in sends}
    serves |= {name: standing.serves for name, standing in well.items()}
    sends |= {n: standing.network.course for n, standing in well.items() if n not in applied.late}
    return dict(sorted(serves.items())), dict(sorted(sends.items()))


def _unpacked(
    applied: Desired, serves: Mapping[str, tuple[str, ...]], unpacking: frozenset[str]
) -> dict[str, tuple[str, ...]]:
    """Return ``serves`` of the networks in which the kernel unpacks what came by UDP."""
    return {
        name: (*serves[name], UNPACKS)
        for name, standing in applied.standing.items()
        if name in serves
        and UNPACKS not in serves[name]
        and any(
            isinstance(obj, UdpProxy) and obj.link in unpacking
            for obj in standing.backend.objects.values()
        )
    }


def end_moves(store: Store, cluster: Cluster) -> None:
    """Take the retiring backends out of networks in which no host needs them any more.

    Not while somebody joined of whom ``cluster`` knows nothing: the next picture has it.
    """
    for network in cluster.networks.values():
        ended = finished(cluster, network)
        if ended is None:
            continue
        key = network_key(network.name)
        entry = store.get(key)
        if entry is None or json.loads(entry.value) != network.render():
            continue  # changed since: the next picture tells
        guard = store.get(joins_key(network.name))
        joined_at = guard.mod_revision if guard else 0
        if joined_at > cluster.revision:
            continue
        put = Put(key, json.dumps(ended.render()).encode())
        compares = (Compare(key, entry.mod_revision), Compare(joins_key(network.name), joined_at))
        if store.commit(Transaction((put,), compares)).succeeded:
            _log.info("network %s has moved to %s", network.name, network.backend.label)


def _place() -> dict[str, str | int]:
    """Name the running kernel and network namespace: what one agent can be alive in."""
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as source:
        boot = source.read().strip()
    return {"boot": boot, "netns": os.stat("/proc/self/ns/net").st_ino, "host": os.uname().nodename}


def _same_place(value: bytes, place: dict[str, str | int]) -> bool:
    try:
        other = json.loads(value)
        return bool(other["boot"] == place["boot"] and other["netns"] == place["netns"])
    except (ValueError, KeyError, TypeError):
        return True  # unreadable: ours to overwrite
