"""The store watcher: a thread that keeps this host's picture of the cluster.

It lists, folds what the watch brings, and says so to whoever listens. A store that is away changes
nothing in the picture; it is tried again until it is back, and then listed anew and compared. The
last picture is also kept on the host's disk (``cluster.json``), so that an agent that starts while
the store is away still knows its networks and peers and withdraws nothing.
"""

from __future__ import annotations

import base64
import json
import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from netloom.model.datastore import Batch, Entry, Event, Listing, Store, Watch
from netloom.model.errors import NetloomError, Unavailable
from netloom.model.keys import CLUSTER
from netloom.model.surprise import told
from netloom.model.view import Cluster
from netloom.reconcile.cluster import fold, from_listing, unreadable
from netloom.store.whole_file import write_whole

_log = logging.getLogger(__name__)
FIRST_RETRY_S = 0.2
LAST_RETRY_S = 2.0
#: How long changes may gather before the picture is written to the disk again.
SAVE_AFTER_S = 5.0
_LOOK_S = 60.0


class StoreWatcher:
    """Keeps ``cluster`` current. ``opened`` makes the store; it may raise until the store is there.

    ``changed`` is called, from the watcher's thread, after every change of the picture or of the
    connection.
    """

    def __init__(
        self, opened: Callable[[], Store], cache: Path, changed: Callable[[], None]
    ) -> None:
        self._opened = opened
        self._cache = cache
        self._changed = changed
        self._stopping = threading.Event()
        self._watch: Watch | None = None
        self._entries: dict[str, Entry] = {}
        self._thread = threading.Thread(target=self._run, name="store-watch", daemon=True)
        self.store: Store | None = None
        self.cluster: Cluster | None = None
        self.error: str = "not connected yet"

    @property
    def connected(self) -> bool:
        """Tell whether the store answered last time."""
        return not self.error

    def start(self) -> None:
        """Take the picture kept on disk, if any, and begin to watch."""
        self._thread.start()

    def stop(self) -> None:
        """Stop watching and close the store; idempotent."""
        self._stopping.set()
        watch, store = self._watch, self.store
        if watch:
            watch.close()
        if self._thread.is_alive():
            self._thread.join(5.0)
        if store:
            store.close()

    def require_store(self) -> Store:
        """Return the store for a write. Raises Unavailable while it is away."""
        if self.store is None or self.error:
            raise Unavailable(
                f"the datastore is away: {self.error}", hint="see netloom status; it is retried"
            )
        return self.store

    def load_cache(self) -> None:
        """Take the picture of an earlier run, so that nothing waits for a store that is away."""
        try:
            data = json.loads(self._cache.read_bytes())
            entries = tuple(
                Entry(key, base64.b64decode(value), created, modified)
                for key, value, created, modified in data["entries"]
            )
            listing = Listing(int(data["revision"]), entries)
        except FileNotFoundError:
            return
        except (OSError, ValueError, KeyError, TypeError) as error:
            _log.warning("the kept picture %s is not readable: %s", self._cache, error)
            return
        self.cluster = from_listing(listing, str(data["storeId"]), Cluster())
        self._entries = {entry.key: entry for entry in entries}

    def _run(self) -> None:
        pause_s = FIRST_RETRY_S
        while not self._stopping.is_set():
            try:
                self._follow()
                pause_s = FIRST_RETRY_S
            except NetloomError as error:
                self._lost(f"{error}" + (f" ({error.hint})" if error.hint else ""))
            except Exception as error:  # noqa: BLE001 - the watch must outlive any surprise
                _log.exception("store watch failed")
                self._lost(f"internal error: {told(error)}")
            if self._stopping.wait(pause_s):
                return
            pause_s = min(LAST_RETRY_S, pause_s * 2)

    def _follow(self) -> None:
        """List, then fold what the watch brings, until the store is lost or another one."""
        if self.cluster is None:
            self.load_cache()
        if self.store is None:
            store = self._opened()
            store.recall(self._entries.values())
            self.store = store
        store = self.store
        listing = store.list(CLUSTER)
        previous = self.cluster or Cluster()
        fresh = from_listing(listing, store.store_id, previous)
        if fresh.standing and not previous.standing:
            self._save()  # what stands shall stand over a restart, too
        self.cluster = fresh
        before, self._entries = self._entries, {entry.key: entry for entry in listing.entries}
        for key in unreadable(fresh):
            self._keep_good(key, before.get(key))
        if self.error:
            _log.info("datastore connected at revision %d", listing.revision)
        self.error = ""
        self._changed()
        self._watch = watch = store.watch(CLUSTER, listing.revision)
        try:
            self._fold(watch)
        finally:
            watch.close()

    def _fold(self, watch: Watch) -> None:
        due_s: float | None = time.monotonic() + SAVE_AFTER_S  # None: the disk has what is known
        try:
            while not self._stopping.is_set():
                batch = watch.next(_LOOK_S if due_s is None else max(0.0, due_s - time.monotonic()))
                if batch is not None and batch.compacted:
                    _log.warning("the store's history is gone or it was replaced: listing again")
                    return
                if batch is not None:
                    self._take(batch)
                    if batch.events and due_s is None:
                        due_s = time.monotonic() + SAVE_AFTER_S
                if due_s is not None and time.monotonic() >= due_s:
                    self._save()
                    due_s = None
        finally:
            if due_s is not None:
                self._save()  # what was seen last is what the next run begins with

    def _take(self, batch: Batch) -> None:
        before = self.cluster
        assert before is not None
        self.cluster = fold(before, batch)
        self._note(batch.events, unreadable(self.cluster))
        if self.cluster is not before:
            self._changed()

    def _note(self, events: Iterable[Event], broken: frozenset[str]) -> None:
        """Keep what is to be kept on disk: of what cannot be read, the last good form."""
        for event in events:
            before = self._entries.pop(event.key, None)
            if event.key in broken:
                self._keep_good(event.key, before)
            elif event.entry is not None:
                self._entries[event.key] = event.entry

    def _keep_good(self, key: str, good: Entry | None) -> None:
        self._entries.pop(key, None)
        if good is not None:
            self._entries[key] = good

    def _lost(self, error: str) -> None:
        if error != self.error:
            _log.warning("datastore away: %s", error)
            self.error = error
            if self.cluster is None:
                self.load_cache()
            self._changed()

    def _save(self) -> None:
        cluster = self.cluster
        if cluster is None or cluster.standing:
            return  # what a former store said stands: its picture is the one to keep, see _follow
        head = {"revision": cluster.revision, "storeId": cluster.store_id}
        try:
            write_whole(self._cache, _kept(head, list(self._entries.values())), 0o600)
        except NetloomError as error:
            _log.warning("cannot keep the picture of the cluster: %s", error)


def _kept(head: dict[str, object], entries: Iterable[Entry]) -> Iterator[str]:
    """Yield the text of ``cluster.json`` in parts: thousands of entries at once are megabytes."""
    yield json.dumps(head, separators=(",", ":"))[:-1] + ',"entries":['
    comma = ""
    for each in entries:
        value = base64.b64encode(each.value).decode()
        entry = (each.key, value, each.create_revision, each.mod_revision)
        yield comma + json.dumps(entry, separators=(",", ":"))
        comma = ","
    yield "]}"
