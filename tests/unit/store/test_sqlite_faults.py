"""Processes die, hang and come in crowds: nothing that was committed is lost, nothing is torn."""

from __future__ import annotations

import random
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from tests.store_contract.sharing import WORKER, worker

from netloom.model.datastore import Batch, Put, Transaction
from netloom.store import sqlite_history as history
from netloom.store.sqlite import SqliteStore

PATIENCE_S = 60.0
CROWD = str(Path(__file__).with_name("crowd.py"))
WIDTH = 4  # keys in each transaction of a writer


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "cluster.db"


@pytest.fixture
def store(path: Path) -> Iterator[SqliteStore]:
    store = SqliteStore(str(path))
    yield store
    store.close()


def quick_check(path: Path) -> str:
    database = sqlite3.connect(path)
    try:
        return str(database.execute("PRAGMA quick_check").fetchone()[0])
    finally:
        database.close()


def killed_at_a_random_moment(path: Path, names: list[str], chance: random.Random) -> list[int]:
    """Run a writer per name, kill all with SIGKILL; return the last commit each one reported."""
    writers = [worker("write", f"sqlite://{path}", name, WIDTH) for name in names]
    reported = []
    try:
        for writer in writers:
            assert writer.stdout is not None
            for _ in range(chance.randint(1, 60)):
                last = writer.stdout.readline()
                assert last, "a writer ended by itself"
            reported.append(last)
    finally:
        for writer in writers:
            writer.send_signal(signal.SIGKILL)
    for number, writer in enumerate(writers):
        with writer:
            assert writer.stdout is not None
            reported[number] = (writer.stdout.read().split() or [reported[number]])[-1]
    return list(map(int, reported))


class Follower:
    """A watch in a thread that checks every revision and keeps what it saw."""

    def __init__(self, store: SqliteStore) -> None:
        self.revisions: list[int] = []
        self.torn: list[int] = []
        self._store = store
        self._watch = store.watch("/", store.list("/").revision)
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._thread.start()

    def finish(self, revision: int) -> None:
        """Wait until ``revision`` was seen."""
        self._last = revision
        self._store.commit(Transaction([Put(f"/{n}", b"") for n in range(WIDTH)]))  # wakes it
        self._thread.join(PATIENCE_S)
        assert not self._thread.is_alive(), f"revision {revision} was never seen"

    _last = sys.maxsize

    def _follow(self) -> None:
        seen = 0
        while seen < self._last:
            batch = self._watch.next(PATIENCE_S)
            if batch is None:
                return  # the store was closed
            seen = batch.revision
            self._check(batch)

    def _check(self, batch: Batch) -> None:
        sizes: dict[int, int] = {}
        for event in batch.events:
            assert event.entry is not None
            revision = event.entry.mod_revision
            sizes[revision] = sizes.get(revision, 0) + 1
        self.revisions.extend(sizes)
        self.torn.extend(revision for revision, size in sizes.items() if size != WIDTH)


def test_killed_writers_lose_no_commit_and_tear_no_transaction(path: Path, store: SqliteStore):
    """All that was reported is there, every transaction is whole, no watch missed anything."""
    chance = random.Random(20260101)
    start = store.list("/").revision
    follower = Follower(store)
    for _ in range(12):
        names = [f"w{number}" for number in range(3)]
        reported = killed_at_a_random_moment(path, names, chance)
        assert quick_check(path) == "ok"
        for name, last in zip(names, reported, strict=True):
            values = {entry.value for entry in store.list(f"/{name}/").entries}
            assert len(values) == 1, f"a half transaction of {name}: {values}"
            # it may have died between its commit and its report
            assert int(values.pop()) in (last, last + 1)
    end = store.list("/").revision
    follower.finish(end)
    assert follower.torn == []
    assert follower.revisions[: end - start] == list(range(start + 1, end + 1))


def test_processes_killed_while_they_begin_a_store_leave_one_that_opens(tmp_path: Path):
    chance = random.Random(7)
    for number in range(10):
        path = tmp_path / str(number) / "cluster.db"
        crowd = [worker("write", f"sqlite://{path}", f"w{n}", 1) for n in range(3)]
        victim, *others = crowd
        while not path.exists() and victim.poll() is None:
            pass  # the moments after this one are what is tested
        for _ in range(chance.randint(0, 20_000)):
            pass
        victim.send_signal(signal.SIGKILL)
        for other in others:
            assert other.stdout is not None
            assert other.stdout.readline() == "1\n"
        for process in crowd:
            process.kill()
            process.communicate()
        assert quick_check(path) == "ok"


def test_fifty_processes_that_begin_a_store_at_once_share_one(path: Path):
    done = subprocess.run(
        [sys.executable, CROWD, f"sqlite://{path}", "50"],
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_S * 3,
    )
    assert done.returncode == 0, done.stderr
    ids = done.stdout.split()
    assert len(ids) == 50
    assert len(set(ids)) == 1
    store = SqliteStore(str(path))
    listing = store.list("/")
    assert {e.key for e in listing.entries} == {f"/{n}/{k}" for n in range(50) for k in "abc"}
    assert sorted(e.mod_revision for e in listing.entries) == list(range(1, 151))
    store.close()


def test_a_commit_whose_writer_died_before_it_could_ring_is_seen_all_the_same(
    path: Path, store: SqliteStore
):
    watch = store.watch("/", store.list("/").revision)
    silent = SqliteStore(str(path))
    assert watch.next(0.01) is None, "the watch waits by now"
    with silent.connections.writing() as database:
        history.write(database, 0, [Put("/a", b"unheard")])
    batch = watch.next(PATIENCE_S)
    assert batch is not None
    assert [event.key for event in batch.events] == ["/a"]
    silent.close()


def test_a_bell_that_was_removed_is_made_again(path: Path, store: SqliteStore):
    store.commit(Transaction([Put("/a", b"")]))
    bell = path.with_name("cluster.db-bell")
    bell.unlink()
    watch = store.watch("/", store.list("/").revision)
    last = store.commit(Transaction([Put("/b", b"")])).revision
    assert bell.exists()
    batch = watch.next(PATIENCE_S)
    assert batch is not None
    assert batch.revision == last


@pytest.mark.skipif(
    subprocess.run(["unshare", "-Ur", "true"], capture_output=True, check=False).returncode != 0,
    reason="user namespaces are switched off",
)
def test_watching_works_where_inotify_is_used_up(path: Path, store: SqliteStore):
    """In a user namespace of its own the follower may have no inotify instance at all."""
    url, start = f"sqlite://{path}", store.list("/").revision
    follow = [sys.executable, WORKER, "follow", url, "/", str(start), "3"]
    process = subprocess.Popen(
        [
            "unshare", "-Ur", "sh", "-c",
            'echo 0 > /proc/sys/user/max_inotify_instances; exec "$@"', "sh", *follow,
        ],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    for key in "abc":
        store.commit(Transaction([Put(f"/{key}", b"x")]))
    output, _ = process.communicate(timeout=PATIENCE_S)
    assert output.splitlines() == ["/a x", "/b x", "/c x"]


def test_a_writer_that_hangs_stops_nobody_from_reading(path: Path, store: SqliteStore):
    writer = worker("write", f"sqlite://{path}", "w", WIDTH)
    try:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "1\n"
        writer.send_signal(signal.SIGSTOP)
        assert store.list("/w/").entries
        other = SqliteStore(str(path))
        assert other.list("/w/").entries
        other.close()
    finally:
        writer.kill()
        writer.communicate()


def test_who_opens_a_store_waits_while_the_last_one_to_close_it_clears_its_log_away(
    tmp_path: Path,
) -> None:
    """SQLite gives him the file alone for that long; on a busy machine that is a while."""
    path = tmp_path / "cluster.db"
    SqliteStore(str(path)).close()
    alone = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    alone.execute("PRAGMA locking_mode = EXCLUSIVE")
    alone.execute("BEGIN IMMEDIATE")
    alone.execute("COMMIT")
    with closing(sqlite3.connect(path, timeout=0)) as other, pytest.raises(sqlite3.Error):
        other.execute("SELECT 1 FROM state")
    leaving = threading.Timer(0.5, alone.close)
    leaving.start()
    try:
        SqliteStore(str(path), busy_s=PATIENCE_S).close()
    finally:
        leaving.join()
