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
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import TracebackType

from netloom import __version__
from netloom.agent import api, ipam_api, report
from netloom.agent.addresses import AddressBook
from netloom.agent.attachments import AttachmentService, Surroundings
from netloom.agent.contracts import Routes
from netloom.agent.engine import Engine
from netloom.agent.lock import AgentLock
from netloom.agent.mirror import Mirror
from netloom.agent.registration import KEEP_ALIVE_S, Registration
from netloom.agent.settings import AgentSettings
from netloom.agent.watcher import StoreWatcher
from netloom.kernel import preflight
from netloom.kernel.compose import HostKernel
from netloom.kernel.firewalls import OtherFirewalls
from netloom.kernel.namespaces import is_netns
from netloom.model.endpoint import Endpoint
from netloom.model.errors import NetloomError, Unavailable
from netloom.model.host import Block
from netloom.model.kernel import ALIAS_PREFIX, KernelObject, Link
from netloom.model.status import Status
from netloom.model.view import Cluster, HostFacts, Problem, View
from netloom.reconcile.loop import Actual, Turn
from netloom.store.opening import open_store
from netloom.store.sqlite import SqliteStore

_log = logging.getLogger(__name__)
#: A turn that runs longer than this means that the agent is not ready.
STALL_S = 60.0


class Agent:
    """One host's agent. ``start`` once, ``stop`` once; a context manager does both."""

    def __init__(self, settings: AgentSettings) -> None:
        self.settings = settings
        self._started_s = time.time()
        self._lock = AgentLock(settings.state_dir)
        self._stopping = threading.Event()
        self._sync = threading.Event()
        self._connection = report.Connection()
        self._claimed: dict[Block, None] = {}
        self._admitted: frozenset[str] = frozenset()
        self._gone: tuple[Problem, ...] = ()
        self._host_threads: list[threading.Thread] = []
        self._others = OtherFirewalls()

    def start(self) -> None:
        """Take the host, read what is known, and begin to keep the kernel true.

        Raises Conflict when another agent runs here, NotPermitted without the rights, and what the
        journal's store raises.
        """
        settings = self.settings
        preflight.require(preflight.missing_rights())
        _make_private(settings.state_dir)
        _make_private(settings.run_dir)
        self._lock.take()
        self.journal = SqliteStore(str(settings.state_dir / "journal.db"))
        self.book = AddressBook(self.journal)
        self.kernel = HostKernel()
        self.watcher = StoreWatcher(
            lambda: open_store(settings.datastore),
            settings.state_dir / "cluster.json",
            self._cluster_changed,
        )
        self.registration = Registration(settings.host_id, settings.host_name, time.monotonic)
        self.mirror = Mirror(self.book, settings.host_id)
        self.engine = Engine(
            self.kernel,
            self.kernel.events(),
            self._view,
            interface=settings.interface,
            audit_s=settings.audit_s,
        )
        self.engine.turned = self._turned
        self.attachments = AttachmentService(self.book, self.engine, self._surroundings())
        self.book.on_change(self._sync.set)
        self._drop_intents()
        self.watcher.start()
        self.engine.start()
        thread = threading.Thread(target=self._keep_registered, name="registration", daemon=True)
        self._host_threads.append(thread)
        thread.start()

    def stop(self) -> None:
        """End every thread; what stands in the kernel stays; idempotent."""
        if self._stopping.is_set():
            return
        self._stopping.set()
        self._sync.set()
        self.engine.stop()
        for thread in self._host_threads:
            thread.join(5.0)
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

        A network that deals one block per host is ready once the block is there.
        """
        engine = self.engine
        if engine.turn is None or engine.error is not None or engine.stalled_s() > STALL_S:
            return False
        return all(
            standing.blocks or standing.network.addressing.mode != "host-block"
            for standing in engine.turn.desired.standing.values()
        )

    def status(self) -> Status:
        """Return the status as of now."""
        settings, engine, watcher = self.settings, self.engine, self.watcher
        desired = engine.turn.desired if engine.turn else None
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
                desired, engine.revision, engine.applied_at_s, engine.repaired(), engine.failing
            ),
            report.network_statuses(desired, endpoints),
            report.peer_statuses(cluster, desired, settings.host_id),
            len(endpoints),
            report.distinct(self._problems()),
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
            **ipam_api.routes(self.book, self._audit(), self._detach),
        }

    def _audit(self) -> ipam_api.Audit:
        watcher = self.watcher
        return ipam_api.Audit(
            self.settings.host_id, self.book, lambda: watcher.cluster, watcher.require_store
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
        problems += [Problem("error", "kernel", text) for text in engine.failing]
        cluster = self.watcher.cluster
        problems += [*(cluster.problems if cluster else ()), *self.registration.problems]
        problems += [*self.book.problems(), *self._gone]
        return problems

    def _surroundings(self) -> Surroundings:
        return Surroundings(
            self.settings.host_id,
            lambda: self.watcher.cluster,
            self.watcher.require_store,
            self._own_blocks,
            self._note_claimed,
            self.kernel.check_peer,
        )

    def _cluster_changed(self) -> None:
        self._connection.note(self.watcher.connected, time.time())
        self.engine.wake()
        self._sync.set()

    def _note_claimed(self, block: Block) -> None:
        """Deal from a block at once, before the watch brings it."""
        self._claimed[block] = None

    def _own_blocks(self, network: str) -> tuple[Block, ...]:
        cluster = self.watcher.cluster or Cluster()
        view = View(cluster, self.settings.host_id, HostFacts())
        known = view.own_blocks(network)
        fresh = tuple(b for b in self._claimed if b.network == network and b not in known)
        return (*known, *fresh)

    def _view(self, facts: HostFacts, actual: Actual) -> View | None:
        """Return the view for the next turn; None until there is a picture of the cluster."""
        cluster = self.watcher.cluster
        if cluster is None or not self._journal_begun():
            return None
        self._admitted |= _standing_networks(actual.get("link", {}).values())
        self._admitted &= frozenset(cluster.networks)
        for block in [b for b in self._claimed if (b.network, b.cidr) in cluster.blocks]:
            del self._claimed[block]
        if self._claimed:
            cluster = _with_blocks(cluster, self._claimed)
        endpoints = self._present(self.book.endpoints(), actual.get("link", {}))
        return View(cluster, self.settings.host_id, facts, endpoints, self._admitted)

    def _journal_begun(self) -> bool:
        """See that a new journal knows the containers that are there; False while it cannot.

        A journal is new on a new host, or where the state directory was lost while containers ran:
        then the store still shows them, and they must not be swept.
        """
        if self.book.begun:
            return True
        try:
            shown = self.mirror.shown(self.watcher.require_store())
            alive = [endpoint for endpoint in shown if is_netns(endpoint.netns)]
            for endpoint in self.book.begin(self.settings.host_id, alive):
                _log.warning(
                    "the journal was lost: %s goes on as the store shows it", endpoint.handle
                )
        except Unavailable as error:
            _log.warning("the journal is new, and the store cannot say what runs here: %s", error)
            return False
        return True

    def _present(
        self, endpoints: tuple[Endpoint, ...], links: Mapping[str, KernelObject]
    ) -> tuple[Endpoint, ...]:
        """Leave out endpoints whose link and namespace are both gone: nothing can be done there.

        Their addresses stay held until the runtime says so, or a person does.
        """
        gone = [
            endpoint
            for endpoint in endpoints
            if f"link {endpoint.host_ifname}" not in links and not is_netns(endpoint.netns)
        ]
        self._gone = tuple(_gone_problem(endpoint) for endpoint in gone)
        return tuple(e for e in endpoints if e not in gone) if gone else endpoints

    def _turned(self, turn: Turn) -> None:
        self._admitted |= frozenset(turn.desired.standing)
        self._sync.set()

    def _drop_intents(self) -> None:
        """Take back attaches that an earlier run did not end: their callers were told of a failure.

        Their pairs may be half-made, so the first turn sweeps them; a caller may attach again.
        """
        for endpoint in self.book.endpoints():
            if not endpoint.attached:
                self.book.release(endpoint.handle)

    def _keep_registered(self) -> None:
        """Keep record, lease, blocks and mirror in the store, whenever something changed."""
        while not self._stopping.is_set():
            self._sync.wait(KEEP_ALIVE_S)
            self._sync.clear()
            if self._stopping.is_set():
                return
            try:
                self._register()
            except Unavailable as error:
                _log.debug("registration waits: %s", error)
                self._stopping.wait(1.0)
                self._sync.set()
            except NetloomError as error:
                _log.warning("registration: %s", error)
                self._stopping.wait(1.0)
            except Exception:  # noqa: BLE001 - registration must outlive any surprise
                _log.exception("registration failed")
                self._stopping.wait(1.0)

    def _register(self) -> None:
        cluster, turn = self.watcher.cluster, self.engine.turn
        if cluster is None or turn is None or not self.watcher.connected:
            return
        store = self.watcher.require_store()
        applied = None if self.engine.failing else turn.desired
        remembered = self.book.remembered_blocks()
        self.registration.sync(store, cluster, self.engine.facts, remembered, applied)
        own = [block for name in cluster.networks for block in self._own_blocks(name)]
        self.book.remember_blocks(own)
        self.mirror.sync_once(store)


def _make_private(directory: Path) -> None:
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)


def _standing_networks(links: Iterable[KernelObject]) -> frozenset[str]:
    return frozenset(
        link.alias.removeprefix(ALIAS_PREFIX)
        for link in links
        if isinstance(link, Link) and link.alias.startswith(ALIAS_PREFIX)
    )


def _with_blocks(cluster: Cluster, blocks: dict[Block, None]) -> Cluster:
    merged = {**cluster.blocks, **{(b.network, b.cidr): b for b in blocks}}
    return replace(cluster, blocks=merged)


def _gone_problem(endpoint: Endpoint) -> Problem:
    return Problem(
        "warning",
        f"endpoint {endpoint.handle}",
        f"its container's namespace {endpoint.netns} is gone, its address is still held",
        f"netloom ipam release --handle {endpoint.handle}",
    )
