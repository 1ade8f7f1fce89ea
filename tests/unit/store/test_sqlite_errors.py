"""A store that cannot be used says why, names its path and the remedy, and loses nothing."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from netloom.model.datastore import Put, Transaction
from netloom.model.errors import InvalidConfig, NetloomError, Unavailable
from netloom.store import sqlite_leases as leases
from netloom.store.sqlite import SqliteStore
from netloom.store.sqlite_file import SCHEMA_VERSION


def _can(*command: str) -> bool:
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="becoming another user needs root")
needs_mounts = pytest.mark.skipif(
    not _can("unshare", "-m", "mount", "-t", "tmpfs", "tmpfs", "/mnt"),
    reason="mounting needs root with CAP_SYS_ADMIN",
)


def filled(path: Path, keys: int = 500) -> None:
    """Leave a closed store with ``keys`` keys at ``path``."""
    store = SqliteStore(str(path))
    store.commit(Transaction([Put(f"/k/{n:05}", b"x" * 200) for n in range(keys)]))
    store.close()


def refused(path: Path, kind: type[NetloomError], message: str) -> NetloomError:
    with pytest.raises(kind, match=message) as caught:
        SqliteStore(str(path), busy_s=0.2)
    assert str(path) in str(caught.value)
    assert caught.value.hint
    return caught.value


def test_a_file_that_is_no_database_is_damaged(tmp_path: Path):
    path = tmp_path / "cluster.db"
    path.write_bytes(b"this is not a database, whatever it was " * 100)
    refused(path, InvalidConfig, "is damaged")


def test_a_truncated_database_is_damaged(tmp_path: Path):
    path = tmp_path / "cluster.db"
    filled(path)
    os.truncate(path, path.stat().st_size // 2)
    refused(path, InvalidConfig, "is damaged")


def test_a_database_with_torn_pages_is_damaged(tmp_path: Path):
    path = tmp_path / "cluster.db"
    filled(path)
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2)
        file.write(b"\x55" * 8192)
    refused(path, InvalidConfig, "is damaged")


def test_a_damaged_store_stays_as_it_is(tmp_path: Path):
    path = tmp_path / "cluster.db"
    path.write_bytes(b"precious rubbish" * 300)
    refused(path, InvalidConfig, "is damaged")
    assert path.read_bytes() == b"precious rubbish" * 300


def test_another_programs_database_is_refused(tmp_path: Path):
    path = tmp_path / "cluster.db"
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE theirs (x)")
    refused(path, InvalidConfig, "another program's")


def test_a_newer_schema_is_refused_with_both_versions(tmp_path: Path):
    path = tmp_path / "cluster.db"
    filled(path)
    with sqlite3.connect(path) as database:
        database.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 6}")
    error = refused(path, InvalidConfig, f"schema is {SCHEMA_VERSION + 6}.* {SCHEMA_VERSION}")
    assert "same version" in error.hint


def test_an_empty_file_becomes_a_store(tmp_path: Path):
    """A process that was killed between making the file and the schema left it so."""
    path = tmp_path / "cluster.db"
    path.touch()
    store = SqliteStore(str(path))
    assert store.commit(Transaction([Put("/a", b"")])).succeeded
    store.close()


def test_a_directory_in_its_place_is_refused(tmp_path: Path):
    refused(tmp_path, InvalidConfig, "is a directory")


def test_a_file_where_the_directory_should_be_is_refused(tmp_path: Path):
    (tmp_path / "file").touch()
    refused(tmp_path / "file" / "cluster.db", InvalidConfig, "File exists")


def test_the_writer_that_keeps_the_lock_is_named(tmp_path: Path):
    path = tmp_path / "cluster.db"
    store = SqliteStore(str(path), busy_s=0.1)
    store.commit(Transaction([Put("/leased", b"", store.grant(3600))]))
    with sqlite3.connect(path) as other:
        other.execute("UPDATE leases SET ends = ?", (leases.now() - 1,))
    holder = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sqlite3, sys; db = sqlite3.connect(sys.argv[1], isolation_level=None);"
            "db.execute('BEGIN IMMEDIATE'); print('held', flush=True); sys.stdin.read()",
            str(path),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(Unavailable, match=f"locked by process {holder.pid}") as caught:
            store.commit(Transaction([Put("/a", b"")]))
        assert caught.value.hint
        assert store.get("/a") is None, "readers never wait for a writer"
        with sqlite3.connect(path) as other:
            assert leases.next_end(other) <= leases.now()
        assert store.get("/leased") is not None, "nobody could have kept it alive"
    finally:
        holder.communicate("")
    assert store.commit(Transaction([Put("/a", b"")])).succeeded
    assert store.get("/leased") is None
    store.close()


def test_a_store_that_was_closed_says_so(tmp_path: Path):
    store = SqliteStore(str(tmp_path / "cluster.db"))
    store.close()
    with pytest.raises(Unavailable, match="was closed"):
        store.get("/a")


def test_damage_while_open_is_unavailable_with_the_same_words(tmp_path: Path):
    path = tmp_path / "cluster.db"
    store = SqliteStore(str(path))
    filled(path)
    with sqlite3.connect(path) as other:
        other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    # by another process: opening and closing the file in this one would drop its locks
    damage = f"if=/dev/urandom of={path} bs=4096 seek=1 conv=notrunc count=20"
    subprocess.run(["dd", "status=none", *damage.split()], check=True)
    with pytest.raises(Unavailable, match="is damaged") as caught:
        store.list("")
    assert str(path) in str(caught.value)
    assert "restore it from a copy" in caught.value.hint


AS_NOBODY = """
import os, sys
from netloom.model.errors import NetloomError
from netloom.store.sqlite import SqliteStore
os.setgroups([]); os.setgid(65534); os.setuid(65534)
try:
    SqliteStore(sys.argv[1])
except NetloomError as error:
    print(type(error).__name__, error, error.hint)
"""


@pytest.fixture
def open_directory() -> Iterator[Path]:
    """A directory that every user may enter; pytest's own are private."""
    with tempfile.TemporaryDirectory(prefix="nl-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


@needs_root
@pytest.mark.parametrize("where", ["file", "directory", "no directory"])
def test_without_rights_to_it_a_store_is_not_permitted(open_directory: Path, where: str):
    path = open_directory / "deeper" / "cluster.db"
    if where != "no directory":
        filled(path, 1)
    if where == "file":
        path.parent.chmod(0o777)
    said = subprocess.run(
        [sys.executable, "-c", AS_NOBODY, str(path)], capture_output=True, text=True, check=True
    ).stdout
    assert said.startswith(f"NotPermitted store {path}")
    assert "65534" in said


READ_ONLY = """
import os, subprocess, sys
from netloom.model.datastore import Put, Transaction
from netloom.model.errors import NetloomError
from netloom.store.sqlite import SqliteStore
path, create = sys.argv[1] + "/cluster.db", sys.argv[2] == "exists"
subprocess.run(["mount", "-t", "tmpfs", "tmpfs", sys.argv[1]], check=True)
if create:
    store = SqliteStore(path); store.commit(Transaction([Put("/a", b"")])); store.close()
subprocess.run(["mount", "-o", "remount,ro", sys.argv[1]], check=True)
try:
    SqliteStore(path)
except NetloomError as error:
    print(type(error).__name__, error, error.hint)
"""


def in_own_mounts(script: str, *arguments: object) -> str:
    """Run a script in a mount namespace of its own; its mounts die with it."""
    command = ["unshare", "-m", "--propagation", "private", sys.executable, "-c", script]
    done = subprocess.run(
        [*command, *map(str, arguments)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@needs_mounts
@pytest.mark.parametrize("there", ["exists", "absent"])
def test_a_read_only_file_system_is_not_permitted(tmp_path: Path, there: str):
    said = in_own_mounts(READ_ONLY, tmp_path, there)
    assert said.startswith(f"NotPermitted store {tmp_path}/cluster.db")
    assert "--datastore" in said


FULL = """
import os, subprocess, sys
from netloom.model.datastore import Put, Transaction
from netloom.model.errors import NetloomError, Unavailable
from netloom.store.sqlite import SqliteStore
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", sys.argv[1]], check=True)
ballast, path = sys.argv[1] + "/ballast", sys.argv[1] + "/cluster.db"
with open(ballast, "wb") as file:
    file.write(bytes(400_000))
store = SqliteStore(path)
done = 0
try:
    while True:
        pair = [Put(f"/{half}/{done:04}", bytes(3000)) for half in "ab"]
        store.commit(Transaction(pair))
        done += 1
except NetloomError as error:
    print(type(error).__name__, error, error.hint)
assert done > 5, done
for half in "ab":
    assert len(store.list(f"/{half}/").entries) == done
os.unlink(ballast)
store.commit(Transaction([Put("/after", bytes(3000))]))
store.close()
again = SqliteStore(path)
assert len(again.list("").entries) == 2 * done + 1
"""


@needs_mounts
def test_a_full_disk_is_unavailable_loses_nothing_and_heals(tmp_path: Path):
    said = in_own_mounts(FULL, tmp_path)
    assert said.startswith(f"Unavailable store {tmp_path}/cluster.db: the disk is full")
    assert f"free some space on the file system of {tmp_path}" in said


NO_ROOM = """
import subprocess, sys
from netloom.model.errors import NetloomError
from netloom.store.sqlite import SqliteStore
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", sys.argv[1]], check=True)
try:
    with open(sys.argv[1] + "/ballast", "wb", buffering=0) as file:
        while file.write(bytes(4096)):
            pass
except OSError:
    pass
try:
    SqliteStore(sys.argv[1] + "/cluster.db")
except NetloomError as error:
    print(type(error).__name__, error, error.hint)
"""


@needs_mounts
def test_a_store_cannot_begin_on_a_full_disk(tmp_path: Path):
    assert in_own_mounts(NO_ROOM, tmp_path).startswith("Unavailable")


def test_a_copy_of_a_closed_store_is_the_same_store(tmp_path: Path):
    filled(tmp_path / "cluster.db")
    shutil.copy(tmp_path / "cluster.db", tmp_path / "copy.db")
    first, second = (SqliteStore(str(tmp_path / name)) for name in ("cluster.db", "copy.db"))
    assert first.store_id == second.store_id
    assert second.list("/k/") == first.list("/k/")
    first.close()
    second.close()
