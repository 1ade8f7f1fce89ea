"""The files of a store: their rights, their removal and replacement while in use."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.store_contract.sharing import finish, worker

from netloom.model.datastore import Put, Transaction
from netloom.model.errors import Unavailable
from netloom.store.sqlite import SqliteStore

PATIENCE_S = 60.0


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "cluster.db"


@pytest.fixture
def store(path: Path) -> Iterator[SqliteStore]:
    store = SqliteStore(str(path))
    yield store
    store.close()


def put(store: SqliteStore, key: str, value: bytes = b"") -> int:
    return store.commit(Transaction([Put(key, value)])).revision


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def new_store_at(path: Path, keys: int = 0) -> str:
    """Begin another store at ``path``, as the start of an agent would; return its id."""
    other = SqliteStore(str(path))
    for number in range(keys):
        put(other, f"/new/{number}")
    other.close()
    return other.store_id


@pytest.mark.parametrize("mask", [0o022, 0o000, 0o077])
def test_only_the_owner_may_read_any_of_the_files(path: Path, mask: int):
    before = os.umask(mask)
    try:
        store = SqliteStore(str(path))
        put(store, "/a")
        modes = {file.name: mode(file) for file in path.parent.iterdir()}
        store.close()
    finally:
        os.umask(before)
    assert modes == {
        "cluster.db": 0o600,
        "cluster.db-wal": 0o600,
        "cluster.db-shm": 0o600,
        "cluster.db-bell": 0o600,
    }
    assert mode(path.parent) == 0o700


def test_rights_that_are_too_wide_are_narrowed_at_the_next_opening(path: Path):
    new_store_at(path, 1)
    path.chmod(0o644)
    SqliteStore(str(path)).close()
    assert mode(path) == 0o600


def test_an_existing_directory_keeps_its_rights(path: Path):
    path.parent.mkdir()
    path.parent.chmod(0o755)
    new_store_at(path)
    assert mode(path.parent) == 0o755


class TestRemoved:
    def test_a_removed_store_is_unavailable_and_not_begun_anew(
        self, store: SqliteStore, path: Path
    ):
        put(store, "/a")
        path.unlink()
        for call in (
            lambda: store.get("/a"),
            lambda: store.list("/"),
            lambda: put(store, "/b"),
            lambda: store.grant(5),
        ):
            with pytest.raises(Unavailable, match="removed or replaced") as caught:
                call()
            assert str(path) in str(caught.value)
            assert caught.value.hint
        assert not path.exists()

    def test_a_removed_directory_is_unavailable(self, store: SqliteStore, path: Path):
        shutil.rmtree(path.parent)
        for _ in range(2):
            with pytest.raises(Unavailable, match="removed or replaced"):
                store.get("/a")

    def test_a_commit_to_a_file_that_goes_meanwhile_is_not_called_done(
        self, store: SqliteStore, path: Path
    ):
        def write_while_it_goes() -> None:
            with store.connections.writing() as database:
                database.execute("UPDATE state SET revision = revision + 1")
                path.unlink()

        with pytest.raises(Unavailable, match="removed or replaced"):
            write_while_it_goes()

    def test_a_blocked_watch_notices_the_removal(self, store: SqliteStore, path: Path):
        watch = store.watch("/", store.list("/").revision)
        path.unlink()
        with pytest.raises(Unavailable, match="removed or replaced"):
            watch.next(PATIENCE_S)

    def test_a_store_that_was_only_moved_away_and_back_goes_on(
        self, store: SqliteStore, path: Path
    ):
        revision = put(store, "/a", b"1")
        watch = store.watch("/", revision)
        aside = path.with_name("aside.db")
        path.rename(aside)
        with pytest.raises(Unavailable):
            store.get("/a")
        aside.rename(path)
        last = put(store, "/a", b"2")
        batch = watch.next(PATIENCE_S)
        assert batch is not None
        assert (batch.revision, batch.compacted) == (last, False)
        assert [event.entry.value for event in batch.events if event.entry] == [b"2"]


class TestReplaced:
    def test_a_new_store_in_its_place_has_another_id_and_its_own_contents(
        self, store: SqliteStore, path: Path
    ):
        before = store.store_id
        put(store, "/old")
        path.unlink()
        new = new_store_at(path, 3)
        with pytest.raises(Unavailable):
            store.list("")
        listing = store.list("")
        assert [entry.key for entry in listing.entries] == ["/new/0", "/new/1", "/new/2"]
        assert store.store_id == new != before

    def test_a_watch_that_outlived_its_store_is_compacted(self, store: SqliteStore, path: Path):
        watch = store.watch("/", put(store, "/old"))
        path.unlink()
        new_store_at(path, 3)
        with pytest.raises(Unavailable):
            watch.next(PATIENCE_S)
        batch = watch.next(PATIENCE_S)
        assert batch is not None
        assert batch.compacted

    def test_watching_on_from_a_former_stores_revision_is_compacted(
        self, store: SqliteStore, path: Path
    ):
        """Its revision means nothing in the new store, even where the new one is beyond it."""
        old = put(store, "/old")
        path.unlink()
        new_store_at(path, 20)
        with pytest.raises(Unavailable):
            store.get("/old")
        store.get("/")  # opened again
        batch = store.watch("/new/", old).next(PATIENCE_S)
        assert batch is not None
        assert batch.compacted

    def test_listing_again_makes_watching_well_again(self, store: SqliteStore, path: Path):
        put(store, "/old")
        path.unlink()
        new_store_at(path, 20)
        with pytest.raises(Unavailable):
            store.get("/old")
        watch = store.watch("/new/", store.list("/new/").revision)
        put(store, "/new/more")
        batch = watch.next(PATIENCE_S)
        assert batch is not None
        assert [event.key for event in batch.events] == ["/new/more"]

    def test_a_file_moved_over_it_is_not_mixed_with_the_old_log(
        self, store: SqliteStore, path: Path
    ):
        """-wal and -shm of the old database still lie there; they are not played into the new."""
        for number in range(200):
            put(store, f"/old/{number}", b"x" * 500)
        other = path.with_name("other.db")
        new = new_store_at(other, 5)
        other.rename(path)
        with pytest.raises(Unavailable):
            store.list("")
        assert [e.key for e in store.list("").entries] == [f"/new/{n}" for n in range(5)]
        assert store.store_id == new

    def test_an_older_copy_of_the_same_store_is_another_to_watches(
        self, store: SqliteStore, path: Path
    ):
        put(store, "/a", b"1")
        store.close()
        copy = path.with_name("copy.db")
        shutil.copy(path, copy)
        store = SqliteStore(str(path))
        watch = store.watch("/", put(store, "/a", b"2"))
        copy.rename(path)
        with pytest.raises(Unavailable):
            watch.next(PATIENCE_S)
        batch = watch.next(PATIENCE_S)
        assert batch is not None
        assert batch.compacted
        entry = store.get("/a")
        assert entry is not None
        assert entry.value == b"1"
        store.close()

    def test_a_log_left_by_a_removed_store_does_not_haunt_a_new_one(
        self, store: SqliteStore, path: Path
    ):
        for number in range(50):
            put(store, f"/old/{number}")
        path.unlink()
        assert path.with_name("cluster.db-wal").exists()
        # another process, because this one still holds the old store and its locks
        finish(worker("write", f"sqlite://{path}", "fresh", 1, 3))
        fresh = SqliteStore(str(path))
        assert [(e.key, e.value) for e in fresh.list("").entries] == [("/fresh/0", b"3")]
        fresh.close()

    def test_damage_in_its_place_is_unavailable_until_it_is_mended(
        self, store: SqliteStore, path: Path
    ):
        put(store, "/a")
        path.unlink()
        path.write_bytes(b"rubbish" * 1000)
        with pytest.raises(Unavailable, match="removed or replaced"):
            store.get("/a")
        with pytest.raises(Unavailable, match="damaged"):
            store.get("/a")
        for file in path.parent.iterdir():
            file.unlink()
        new_store_at(path, 1)
        assert store.get("/new/0") is not None
