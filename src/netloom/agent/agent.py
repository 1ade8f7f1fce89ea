"""The agent of one host: where store, journal, kernel and loop are put together.

``start`` brings the kernel to the state of the first picture of the cluster and then keeps it
true; ``stop`` ends the threads and leaves the data path standing. Nothing here decides anything
about networks: the parts do, each in its own module.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from types import TracebackType

from netloom import __version__
from netloom.agent import api, ipam_api, report
from netloom.agent.addresses import AddressBook
from netloom.agent.attachments import AttachmentService
from netloom.agent.bgp_api import Sessions
from netloom.agent.contracts import Routes
from netloom.agent.engine import Engine
from netloom.agent.inheritance import Inheritance
from netloom.agent.leaving import labels
from netloom.agent.lock import AgentLock
from netloom.agent.mirror import Mirror
from netloom.agent.names import Names
from netloom.agent.outlook import Outlook
from netloom.agent.private_folder import make_private
from netloom.agent.registration import Registration
from netloom.agent.secrets import SecretFiles
from netloom.agent.settings import AgentSettings
from netloom.agent.subnet_file import SubnetFile
from netloom.agent.surroundings import Surroundings
from netloom.agent.upkeep import Upkeep
from netloom.agent.watcher import StoreWatcher
from netloom.core.ipam.excess import excess
from netloom.core.resources.node import method_of
from netloom.core.selection_merge import merged
from netloom.kernel import preflight
from netloom.kernel.compose import HostKernel
from netloom.kernel.devices import Devices
from netloom.kernel.firewalls import OtherFirewalls
from netloom.model.endpoint import Endpoint
from netloom.model.errors import NetloomError
from netloom.model.host import Host
from netloom.model.status import Status
from netloom.model.view import Cluster, Problem
from netloom.reconcile.loop import Turn
from netloom.store.flannel.url import take_format
from netloom.store.opening import open_store
from netloom.store.sqlite import SqliteStore

_log = logging.getLogger(__name__)
#: A turn that runs longer than this means that the agent is not ready.
STALL_S = 60.0


class Agent:
    """One host's agent. ``start`` once, ``stop`` once; a context manager does both."""

    def __init__(self, settings: AgentSettings) -> None:
        self.settings = settings
        self._own = Host(settings.host_id, settings.host_name)
        self._started_s = time.time()
        self._lock = AgentLock(settings.state_dir)
        self._stopping = threading.Event()
        self._connection = report.Connection()
        self._others = OtherFirewalls()
        self._sessions = Sessions(settings.run_dir / "bird")

        #: flannel's layout, where a host that holds no block is not known.
        _, self._flannel = take_format(settings.datastore)
        path = settings.subnet_file
        self._subnet_file = SubnetFile(path, settings.subnet_network) if path else None

    def start(self) -> None:
        """Take the host, read what is known, and begin to keep the kernel true.

        Raises Conflict when another agent runs here, NotPermitted without the rights, and what the
        journal's store raises.
        """
        settings = self.settings
        preflight.require(preflight.missing_rights())
        make_private(settings.state_dir, "stateDir")
        make_private(settings.run_dir, "runDir")
        self._lock.take()
        self.journal = SqliteStore(str(settings.state_dir / "journal.db"))
        self.book = AddressBook(self.journal)
        self.kernel = HostKernel(settings.run_dir)
        self.watcher = StoreWatcher(
            lambda: open_store(settings.datastore),
            settings.state_dir / "cluster.json",
            self._cluster_changed,
        )
        self.registration = Registration(
            settings.host_id,
            settings.host_name,
            time.monotonic,
            lambda: self.kernel.unpacking,
            Devices(),
        )
        self.mirror = Mirror(self.book, settings.host_id)
        secrets = SecretFiles(settings.secrets_dir)
        self.outlook = Outlook(self._own, self.watcher, self.book, self.mirror, secrets.read)
        self.upkeep = Upkeep(self.registration, self.mirror, self.outlook, self.book)
        self.engine = Engine(
            self.kernel,
            self.kernel.events(),
            self.outlook.view,
            wish=lambda: self.names.wish(self._interface()),
            audit_s=settings.audit_s,
            forward_rules=settings.forward_rules,
        )
        self.engine.turned = self._turned
        self.names = Names(settings.state_dir / "names.json", self.engine.wake, settings.audit_s)
        if form := self._flannel:
            inheritance = Inheritance(self.kernel, lambda: self.watcher.cluster, form.network)
            self.engine.prepare = inheritance.take
        self.attachments = AttachmentService(self.book, self.engine, self._surroundings())
        self.book.on_change(self.upkeep.wake)
        self._drop_intents()
        self.watcher.start()
        self.engine.start()
        self.upkeep.start(self.watcher, self.engine)

    def stop(self) -> None:
        """End every thread; what stands in the kernel stays; idempotent."""
        if self._stopping.is_set():
            return
        self._stopping.set()
        self.names.close()
        self.engine.stop()
        self.upkeep.stop()
        with suppress(NetloomError):  # away: the lease ends by itself
            self.registration.leave(self.watcher.require_store())
        self.watcher.stop()
        self.journal.close()
        self.kernel.close()
        self._lock.release()

    def __enter__(self) -> Agent:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: object, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def ready(self) -> bool:
        """Tell whether containers can be attached; it turns false when the loop does not get on.

        That is not before the cluster knows this host, since nobody could answer its containers.
        A network that deals one block per host is ready once the block is there, or where none of
        its pools is open to this host.
        """
        engine = self.engine
        if engine.turn is None or engine.error is not None or engine.stalled_s() > STALL_S:
            return False
        cluster = self.watcher.cluster or Cluster()
        if not (self._flannel or self.settings.host_id in cluster.hosts):
            return False
        known = self._labels() or {}
        return all(
            standing.blocks
            or standing.network.addressing.mode != "host-block"
            or not any(pool.open_to(known) for pool in standing.network.pools)
            for standing in engine.turn.desired.standing.values()
        )

    def _labels(self) -> Mapping[str, str] | None:
        """Return the labels that people gave to this host; None where they cannot be read."""
        return labels(self.watcher.cluster or Cluster(), self._own)

    def _interface(self) -> str:
        """Return what the underlay is chosen by: what the store says of this host comes first."""
        settings = self.settings
        said = method_of(self.watcher.cluster or Cluster(), settings.host_name)
        return merged(said, settings.interface)

    def status(self) -> Status:
        """Return the status as of now."""
        settings, engine, watcher = self.settings, self.engine, self.watcher
        turn = engine.turn
        desired, missing = (turn.desired, turn.open) if turn else (None, ())
        endpoints = self.book.endpoints()
        self._connection.note(watcher.connected, time.time())
        cluster = watcher.cluster
        return Status(
            settings.host_id,
            settings.host_name,
            __version__,
            os.getpid(),
            report.iso(self._started_s),
            self.ready,
            {
                f"ipv{family}": f"{interface.ip} on {link}"
                for family, (link, interface) in engine.facts.underlay.items()
            },
            engine.facts.reason,
            self._connection.status(
                settings.datastore, cluster.revision if cluster else 0, watcher.error
            ),
            report.kernel_status(
                desired,
                engine.revision,
                engine.applied_at_s,
                engine.repaired(),
                tuple(refused.text for refused in engine.failing),
            ),
            report.network_statuses(desired, endpoints, self.book.lent.all()),
            report.peer_statuses(cluster, desired, settings.host_id, missing),
            len(endpoints),
            report.distinct(self._problems()),
            report.candidates(engine.facts, self._interface()),
        )

    def routes(self) -> Routes:
        """Return the agent's own paths of the local API."""
        return {
            **api.routes(
                self.status,
                self.engine.preview,
                self.book.endpoints,
                self.attachments,
                self.engine.resync,
            ),
            **self._sessions.routes(),
            **ipam_api.routes(self.book, self._audit(), self._detach),
        }

    def _audit(self) -> ipam_api.Audit:
        watcher = self.watcher
        return ipam_api.Audit(
            self.settings.host_id,
            self.book,
            lambda: watcher.cluster,
            watcher.require_store,
            copied=self.upkeep.copied,
        )

    def _detach(self, endpoint: Endpoint) -> None:
        self.attachments.detach(endpoint.container_id, endpoint.ifname, endpoint.network)

    def _problems(self) -> list[Problem]:
        engine, turn = self.engine, self.engine.turn
        problems = [engine.error] if engine.error else []
        if turn:
            problems += [*turn.desired.problems, *turn.plan.problems]
            standing = turn.desired.standing.values()
            problems += self._others.problems(one.network for one in standing)
        problems += engine.failing
        problems += [*self._sessions.problems(), *self.names.problems()]
        cluster = self.watcher.cluster
        problems += [*(cluster.problems if cluster else ()), *self.registration.problems]
        beyond = excess(cluster, self.registration.own_blocks) if cluster else ()
        problems += [each.problem(self.settings.host_name) for each in beyond]
        problems += [*self.book.problems(), *self.outlook.problems]
        problems += self._subnet_file.problems if self._subnet_file else ()
        return problems

    def _surroundings(self) -> Surroundings:
        return Surroundings(
            self._own,
            lambda: self.watcher.cluster,
            self.watcher.require_store,
            self.outlook.own_blocks,
            self.outlook.note_claimed,
            self.kernel.check_peer,
        )

    def _cluster_changed(self) -> None:
        self._connection.note(self.watcher.connected, time.time())
        self.engine.wake()  # upkeep is woken by the turn's end, and takes no time from it

    def _turned(self, turn: Turn) -> None:
        self.outlook.admit(turn.desired.standing)
        if self._subnet_file:
            self._subnet_file.update(turn.desired, self._labels())
        self.upkeep.wake()

    def _drop_intents(self) -> None:
        """Take back attaches that an earlier run did not end: their callers were told of a failure.

        Their pairs may be half-made, so the first turn sweeps them; a caller may attach again.
        """
        for endpoint in self.book.endpoints():
            if not endpoint.attached:
                self.book.release(endpoint.handle)
