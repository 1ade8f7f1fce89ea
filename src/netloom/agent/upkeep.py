"""The thread that keeps what this host owes the store: record, lease, blocks, mirrored endpoints.

Woken by anything that may have changed one of them, and often enough to keep the lease alive. A
store that is away only makes it wait.
"""

from __future__ import annotations

import logging
import threading
import time

from netloom.agent.addresses import AddressBook
from netloom.agent.borrowing import Borrowing
from netloom.agent.engine import Engine
from netloom.agent.leaving import Leaving, give_back
from netloom.agent.lending import Lending
from netloom.agent.mirror import Mirror
from netloom.agent.outlook import Outlook
from netloom.agent.registration import KEEP_ALIVE_S, Registration
from netloom.agent.watcher import StoreWatcher
from netloom.core.moving import in_kernel
from netloom.model.datastore import Store
from netloom.model.errors import NetloomError, Unavailable
from netloom.model.host import Host

_log = logging.getLogger(__name__)
_RETRY_S = 1.0
#: An audit waits so long for the mirror; what it still lacks then is worth being told.
COPY_LIMIT_S = 10.0
_COPY_LOOK_S = 0.01


class Upkeep:
    """Calls registration and mirror from a thread of its own; ``wake`` may come from any."""

    def __init__(
        self, registration: Registration, mirror: Mirror, outlook: Outlook, book: AddressBook
    ) -> None:
        self._registration = registration
        self._mirror = mirror
        self._outlook = outlook
        self._book = book
        self._leaving = Leaving(Host(registration.host_id, registration.host_name))
        self._lending = Lending(registration.host_id, book)
        self._borrowing = Borrowing(registration.host_id, book)
        self._shown: object = None
        self._shown_s = 0.0
        self._stopping = threading.Event()
        self._due = threading.Event()
        self._thread = threading.Thread(target=self._run, name="upkeep", daemon=True)

    def start(self, watcher: StoreWatcher, engine: Engine) -> None:
        """Begin; the first work is due with the first turn."""
        self._watcher = watcher
        self._engine = engine
        self._thread.start()

    def wake(self) -> None:
        """Say that something may have changed."""
        self._due.set()

    def copied(self) -> None:
        """Wait until the store shows the endpoints as they are now, ``COPY_LIMIT_S`` at most.

        A store that is away is not waited for.
        """
        version, end_s = self._book.version, time.monotonic() + COPY_LIMIT_S
        while (
            self._mirror.version < version
            and self._watcher.connected
            and time.monotonic() < end_s
            and not self._stopping.wait(_COPY_LOOK_S)
        ):
            pass

    def stop(self) -> None:
        """End the thread; idempotent."""
        self._stopping.set()
        self._due.set()
        if self._thread.is_alive():
            self._thread.join(5.0)

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._due.wait(KEEP_ALIVE_S)
            self._due.clear()
            if self._stopping.is_set():
                return
            try:
                self._sync()
            except Unavailable as error:
                _log.debug("upkeep waits: %s", error)
                self._again()
            except NetloomError as error:
                _log.warning("upkeep: %s", error)
                self._again()
            except Exception:  # noqa: BLE001 - upkeep must outlive any surprise
                _log.exception("upkeep failed")
                self._again()

    def _again(self) -> None:
        self._stopping.wait(_RETRY_S)
        self._due.set()

    def _sync(self) -> None:
        cluster, turn = self._watcher.cluster, self._engine.turn
        if cluster is None or turn is None or not self._watcher.connected:
            return
        store = self._watcher.require_store()
        applied = in_kernel(turn.desired, turn.open)
        remembered = self._book.remembered_blocks()
        facts = self._engine.facts
        self._registration.sync(store, cluster, facts, remembered, applied)
        held = {name: self._outlook.own_blocks(name) for name in cluster.networks}
        self._book.remember_blocks(block for own in held.values() for block in own)
        # First: no block is given back while the store still shows a container of this host in it.
        self._show(store, (self._book.version, cluster.store_id, not cluster.standing))
        if not store.shared:
            own = self._registration.own_blocks
            for block in give_back(store, self._book, self._leaving.due(cluster, own, facts), own):
                self._outlook.note_given_back(block)
            self._lending.sync(store, cluster, turn.desired.standing)
            self._borrowing.tidy(store, cluster, own)

    def _show(self, store: Store, seen: object) -> None:
        """Mirror the endpoints when they or the store are others, else now and then.

        Each host is woken by what others do, and the store need not be asked for that.
        """
        now_s = time.monotonic()
        if seen != self._shown or now_s - self._shown_s >= KEEP_ALIVE_S:
            self._mirror.sync_once(store)
            self._shown, self._shown_s = seen, now_s
