"""A reader of a store as an agent is one: lists, watches, lists again when told to."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TypeVar

from netloom.model.datastore import Compare, Put, Store, Transaction
from netloom.model.errors import Unavailable

T = TypeVar("T")
PATIENCE_S = 90.0


class Follower:
    """Keeps ``picture`` as the store's keys below ``prefix``, in a thread of its own.

    ``listings`` counts how often it had to list; ``away`` how often it was told that the store is
    away, ``why`` the last time; ``seen`` are the revisions of the events, in their order.
    """

    def __init__(self, store: Store, prefix: str = "/f/") -> None:
        self.picture: dict[str, bytes] = {}
        self.seen: list[int] = []
        self.sizes: list[int] = []
        self.listings = self.away = self.revision = 0
        self.why = ""
        self.failure = ""
        self._store = store
        self._prefix = prefix
        self._changed = threading.Condition()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def until(self, condition: Callable[[Follower], object], what: str) -> None:
        """Wait until ``condition`` holds of this follower."""
        with self._changed:
            done = self._changed.wait_for(lambda: self.failure or condition(self), PATIENCE_S)
        assert done, f"{what}: not within {PATIENCE_S} s; last told: {self.why}"
        assert not self.failure, self.failure

    def finish(self) -> None:
        """Stop, and hold the picture against what the store says."""
        revision = surely(lambda: self._store.list(self._prefix)).revision
        self.until(lambda f: f.revision >= revision, f"revision {revision} is seen")
        self._stop.set()
        self._thread.join(PATIENCE_S)
        listing = surely(lambda: self._store.list(self._prefix))
        there = {entry.key: entry.value for entry in listing.entries}
        assert self.picture == there
        assert self.seen == sorted(self.seen), "events came out of order"
        assert len(set(self.seen)) == len(self.seen), "an event came twice"

    def _run(self) -> None:
        try:
            while not self._stop.is_set():
                try:
                    listing = self._store.list(self._prefix)
                except Unavailable as error:
                    self._note_away(error)
                    continue
                self.picture = {entry.key: entry.value for entry in listing.entries}
                with self._changed:
                    self.listings += 1
                    self.revision = listing.revision
                    self.sizes.append(len(self.picture))
                    self._changed.notify_all()
                self._follow(listing.revision)
        except BaseException as error:  # noqa: BLE001 - the test shows it
            self.failure = repr(error)
            with self._changed:
                self._changed.notify_all()

    def _follow(self, revision: int) -> None:
        watch = self._store.watch(self._prefix, revision)
        while not self._stop.is_set():
            try:
                batch = watch.next(0.2)
            except Unavailable as error:
                self._note_away(error)
                continue  # the same watch goes on from where it was
            if batch is None:
                self._stop.wait(0.01)  # nothing came, or the test has closed the store
                continue
            if batch.compacted:
                return
            with self._changed:
                for event in batch.events:
                    if event.entry is None:
                        self.picture.pop(event.key, None)
                    else:
                        self.picture[event.key] = event.entry.value
                        self.seen.append(event.entry.mod_revision)
                self.revision = batch.revision
                self._changed.notify_all()
        watch.close()

    def _note_away(self, error: Unavailable) -> None:
        with self._changed:
            self.away += 1
            self.why = str(error)
            self._changed.notify_all()
        self._stop.wait(0.1)


def following(store: Store, prefix: str = "/f/") -> Follower:
    """Return a follower that has listed: each later commit comes to it as an event."""
    follower = Follower(store, prefix)
    follower.until(lambda f: f.listings, "a first listing")
    return follower


def surely(call: Callable[[], T]) -> T:
    """Return what a call returns that may be repeated, once the store answers."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            return call()
        except Unavailable:
            if time.monotonic() > deadline:
                raise


def put_surely(store: Store, key: str, value: bytes) -> int:
    """Write until the store says that it is written, as an agent would; return the revision."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            entry = store.get(key)
            if entry is not None and entry.value == value:
                return entry.mod_revision  # an attempt of unknown outcome was done
            compare = Compare(key, entry.mod_revision if entry else 0)
            done = store.commit(Transaction([Put(key, value)], [compare]))
            if done.succeeded:
                return done.revision
        except Unavailable:
            assert time.monotonic() < deadline, f"{key} cannot be written"
