"""What this host tells the others: its record, that it is alive, and the blocks it holds.

Level-triggered like everything else: ``sync`` compares what the store says of this host with what
is true and writes the difference. It is called when the picture, the facts or the time changed.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Mapping
from types import MappingProxyType

from netloom.agent import own_record
from netloom.agent.own_part import OwnPart
from netloom.core.desired import Desired
from netloom.core.moving import finished
from netloom.core.resources.node import labels_of
from netloom.model.datastore import Compare, Put, Store, Transaction
from netloom.model.errors import Conflict
from netloom.model.host import Block, Host
from netloom.model.keys import alive_key, block_key, host_key, joins_key, network_key
from netloom.model.view import Cluster, HostFacts, Problem
from netloom.reconcile import claims
from netloom.reconcile.claim_refusals import FormerSize
from netloom.reconcile.cluster import unreadable
from netloom.reconcile.holding import Held, hold_blocks

_log = logging.getLogger(__name__)
ALIVE_TTL_S = 30.0
KEEP_ALIVE_S = 10.0
#: For how long the status tells of what happened and was put right.
INCIDENT_S = 600.0


class Registration:
    """Registers one host. Used by one thread; ``problems`` is replaced as a whole.

    ``unpacking`` tells the UDP proxies' devices for whose peers this host's kernel unpacks,
    ``devices`` by kind whether it can make such links.
    """

    def __init__(
        self,
        host_id: str,
        host_name: str,
        clock: Callable[[], float],
        unpacking: Callable[[], frozenset[str]] = frozenset,
        devices: Callable[[], Mapping[str, bool]] = dict,
    ) -> None:
        self.host_id = host_id
        self.host_name = host_name
        self.problems: tuple[Problem, ...] = ()
        self._clock = clock
        self._unpacking, self._devices = unpacking, devices
        self._own = OwnPart(host_id)
        self._claimed: set[Block] = set()
        #: The record was compared byte by byte: one of a newer agent may say more than is read.
        self._compared = False
        self._incidents: dict[Problem, float] = {}
        self._lease = 0
        self._kept_s = float("-inf")
        #: When the agents of hosts with an address of ours were first seen not to run.
        self._ended: dict[str, float] = {}
        self._place = _place()

    @property
    def own_blocks(self) -> tuple[Block, ...]:
        """The host's blocks of all networks, pending ones too, in the picture of the last sync."""
        return self._own.blocks

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
        own = Host(self.host_id, self.host_name, devices=MappingProxyType(self._devices()))
        return own_record.told(own, cluster, facts, applied, unpacking)

    def leave(self, store: Store) -> None:
        """Say that the agent ends; blocks and record stay, since containers go on."""
        if self._lease:
            store.revoke(self._lease)
            self._lease = 0

    def _note(self, incident: str) -> None:
        """Tell of something that is over, for a while."""
        remedy = "nothing to do; if it comes again, see who revokes leases or stops the store"
        problem = Problem("note", f"host {self.host_name}", incident, remedy)
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
        doubtful: list[Problem] = []
        before = cluster.hosts.get(self.host_id)
        if not store.shared:  # the other layout knows no host without an address
            contested = self._own.contested(
                before, facts.lost, lambda *asked: self._runs(store, *asked)
            )
            wanted = own_record.yielding(wanted, contested)
            doubtful = self._own.doubtful(lambda *asked: self._runs(store, *asked))
        key = host_key(self.host_id)
        # What the picture has of a record that cannot be read is its last good form.
        lost = key in cluster.standing or key in unreadable(cluster)
        if lost or before != wanted or not self._compared:
            entry = store.get(key)
            put = Put(key, json.dumps(wanted.render()).encode())
            compare = Compare(put.key, entry.mod_revision if entry else 0)
            if entry is None or entry.value != put.value:
                store.commit(Transaction((put,), (compare,)))
            self._compared = True
        return [*self._own.problems(self.host_name, wanted.contested), *doubtful]

    def _runs(self, store: Store, twin: Host, patience_s: float) -> bool:
        """Tell whether another host's agent runs, or was first seen not to so lately."""
        if store.get(alive_key(twin.id)) is not None:
            self._ended.pop(twin.id, None)
            return True
        now_s = self._clock()  # once: of two looks the later one would make it look ahead
        return now_s - self._ended.setdefault(twin.id, now_s) < patience_s

    def _claim(
        self, store: Store, cluster: Cluster, remembered: tuple[Block, ...]
    ) -> list[Problem]:
        """Hold the blocks that this host needs, or says that it holds."""
        problems = []
        labels = labels_of(cluster, cluster.host(Host(self.host_id, self.host_name)))
        for network in cluster.networks.values():
            own = [block for block in self._own.blocks if block.network == network.name]
            held = Held(
                own,
                {b.cidr for b in own if block_key(network.name, b.cidr) in cluster.standing},
                tuple(b.cidr for b in remembered if b.network == network.name and not b.lender),
                labels,
                resized=not store.shared,
            )
            try:
                got = hold_blocks(store, network, self.host_id, held)
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
