"""A watch wakes because somebody rang, not because it looked."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from tests.store_contract.sharing import finish, worker

from netloom.model.datastore import Batch, Put, Transaction
from netloom.model.errors import InvalidConfig, Unavailable
from netloom.store import sqlite_watch
from netloom.store.sqlite import SqliteStore

PATIENCE_S = 60.0  # no test waits this long unless it fails


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "cluster.db"


@pytest.fixture
def store(path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SqliteStore]:
    """A store whose watches never look by themselves: what wakes them is the bell."""
    monkeypatch.setattr(sqlite_watch, "LOOK_S", 3600.0)
    store = SqliteStore(str(path), busy_s=PATIENCE_S)
    yield store
    store.close()


class Reader(threading.Thread):
    """One call of ``next`` without time limit, in a thread."""

    def __init__(self, store: SqliteStore) -> None:
        super().__init__(daemon=True)
        self.watch = store.watch("/", store.list("/").revision)
        self.batch: Batch | None = None
        self.error: Exception | None = None
        self.fresh = self.watch.next(0) is None
        self.start()
        self._wait_until_asleep()

    def run(self) -> None:
        try:
            self.batch = self.watch.next(None)
        except Unavailable as error:
            self.error = error

    def _wait_until_asleep(self) -> None:
        """Return when the thread sleeps in poll(2): what wakes it from here on is an event."""
        deadline = time.monotonic() + PATIENCE_S
        sleeping_in = Path(f"/proc/self/task/{self.native_id}/wchan")
        with suppress(OSError):  # it has returned already
            while "poll" not in sleeping_in.read_text():
                assert time.monotonic() < deadline
                os.sched_yield()

    def returned(self) -> bool:
        self.join(PATIENCE_S)
        return self.fresh and not self.is_alive()


def test_a_commit_of_the_same_store_rings(store: SqliteStore):
    reader = Reader(store)
    store.commit(Transaction([Put("/a", b"")]))
    assert reader.returned()
    assert reader.batch is not None


def test_a_commit_of_another_process_rings(store: SqliteStore, path: Path):
    reader = Reader(store)
    finish(worker("write", f"sqlite://{path}", "w", 1, 1))
    assert reader.returned()
    assert reader.batch is not None


def test_a_revoked_lease_rings(store: SqliteStore):
    lease = store.grant(3600)
    store.commit(Transaction([Put("/a", b"", lease)]))
    reader = Reader(store)
    store.revoke(lease)
    assert reader.returned()
    assert reader.batch is not None
    assert reader.batch.events[0].entry is None


def test_the_end_of_a_lease_wakes_by_itself(store: SqliteStore):
    ttl_s, slept = 1.0, False
    while not slept:  # on a busy machine it may be over before the reader sleeps
        assert ttl_s < PATIENCE_S
        ttl_s, began = 2 * ttl_s, time.monotonic()
        with suppress(InvalidConfig):
            store.commit(Transaction([Put("/a", b"", store.grant(ttl_s))]))
            reader = Reader(store)
            slept = time.monotonic() < began + ttl_s
            if not slept:
                reader.watch.close()
    assert reader.returned()
    assert reader.batch is not None


@pytest.mark.parametrize("what", ["watch", "store"])
def test_closing_wakes(store: SqliteStore, what: str):
    reader = Reader(store)
    (reader.watch if what == "watch" else store).close()
    assert reader.returned()
    assert reader.batch is None


def test_taking_the_file_away_wakes(store: SqliteStore, path: Path):
    reader = Reader(store)
    path.rename(path.with_name("elsewhere.db"))
    assert reader.returned()
    assert isinstance(reader.error, Unavailable)


def test_closed_watches_give_their_descriptors_back(store: SqliteStore):
    def descriptors() -> int:
        return len(os.listdir("/proc/self/fd"))

    before = descriptors()
    for _ in range(50):
        store.watch("/", 0).close()
    assert descriptors() <= before


def test_changes_elsewhere_do_not_wake_the_reader_one_by_one(store: SqliteStore):
    """A container that starts on one host must not wake the agents of all others."""
    watch = store.watch("/cluster/", store.list("/cluster/").revision)
    batches, began = 0, time.monotonic()
    for number in range(300):
        store.commit(Transaction([Put(f"/endpoints/{number}", b"")]))
        batches += watch.next(0) is not None
    seconds = time.monotonic() - began
    assert batches <= seconds / sqlite_watch.PROGRESS_S + 1, "a sign of progress a second is enough"
    assert batches < 300
