"""The database file: its creation, rights, schema and identity.

Whoever opens a store first creates it, and fifty may be first at once: the file, its rights, its
journal mode and its schema come into being under a lock on the *directory* (``flock``, which the
kernel drops when its holder dies). SQLite itself is only told to open files that exist, so that a
file which somebody removed is never begun anew behind the back of a running agent.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass

from netloom.model.errors import InvalidConfig
from netloom.store import sqlite_errors as errors

SCHEMA_VERSION = 1
#: SQLite sleeps longer and longer for a lock, up to 0.1 s, and among many writers somebody then
#: waits for seconds. Asked for less and asked again, it begins anew with 1 ms.
_NAP_S = 0.02
_LOG_BYTES = 8 << 20
_MOST_CHECKED_BYTES = 256 << 20
APPLICATION_ID = 0x4E6C6F6D  # "Nlom", for file(1) and for telling other programs' databases

#: What is in the file. ``history`` holds what watches are told: one row per changed key and
#: revision, ``value`` NULL for a deletion; rows up to ``state.compacted`` are gone. Text is
#: compared byte by byte, which for UTF-8 is the order of code points.
_SCHEMA = (
    "CREATE TABLE state (one INTEGER PRIMARY KEY CHECK (one = 1), store_id TEXT NOT NULL,"
    " revision INTEGER NOT NULL, compacted INTEGER NOT NULL)",
    "CREATE TABLE entries (key TEXT PRIMARY KEY, value BLOB NOT NULL,"
    " create_revision INTEGER NOT NULL, mod_revision INTEGER NOT NULL,"
    " lease INTEGER NOT NULL) WITHOUT ROWID",
    "CREATE INDEX entries_lease ON entries (lease) WHERE lease != 0",
    "CREATE TABLE history (revision INTEGER NOT NULL, seq INTEGER NOT NULL, key TEXT NOT NULL,"
    " value BLOB, create_revision INTEGER NOT NULL, lease INTEGER NOT NULL,"
    " PRIMARY KEY (revision, seq)) WITHOUT ROWID",
    "CREATE TABLE leases (id INTEGER PRIMARY KEY, ttl_s REAL NOT NULL, boot TEXT NOT NULL,"
    " ends REAL NOT NULL)",
    "CREATE INDEX leases_ends ON leases (ends)",
)

Inode = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Identity:
    """Which files on the disk make up an open database: its own, the log's and the index's."""

    database: Inode
    wal: Inode | None
    shm: Inode | None


def inode(path: str) -> Inode | None:
    """Return what tells the file at ``path`` from any other; None when there is none."""
    try:
        status = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return status.st_dev, status.st_ino


def identity(path: str) -> Identity | None:
    """Return the identity of the database at ``path``, None when there is none."""
    database = inode(path)
    return Identity(database, inode(path + "-wal"), inode(path + "-shm")) if database else None


def forget_log_of(gone: Identity, path: str) -> None:
    """Remove -wal and -shm of a database that was replaced by another file at the same path.

    They would be played into the new one. Only those that are the old one's very files go.
    """
    if inode(path) in (None, gone.database):
        return
    for suffix, old in (("-wal", gone.wal), ("-shm", gone.shm)):
        if old is not None and inode(path + suffix) == old:
            with contextlib.suppress(OSError):
                os.unlink(path + suffix)


def open_database(path: str, busy_s: float, *, create: bool) -> tuple[sqlite3.Connection, str]:
    """Open the database, creating directory, file and schema when ``create``; return its store id.

    Raises InvalidConfig (damaged, newer, another program's, a directory), NotPermitted,
    Unavailable (absent and not ``create``, locked, full).
    """
    try:
        directory = os.path.dirname(path)
        if create:
            os.makedirs(directory, mode=0o700, exist_ok=True)
        with _locked_directory(directory, path, busy_s):
            _prepare_file(path, create)
            connection = connect(path, busy_s)
            try:
                connection.execute(f"PRAGMA busy_timeout = {int(busy_s * 1000)}")
                store_id = _prepare_schema(connection, path)
            except BaseException:
                connection.close()
                raise
        _quick_check(connection, path)
        connection.execute(f"PRAGMA busy_timeout = {int(_NAP_S * 1000)}")
        return connection, store_id
    except (sqlite3.Error, OSError) as error:
        raise errors.translate(error, path) from error


def _quick_check(connection: sqlite3.Connection, path: str) -> None:
    """Refuse a database whose pages do not fit together; a store of 8,000 keys takes 4 ms."""
    if os.path.getsize(path) > _MOST_CHECKED_BYTES:
        return
    try:
        (said,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    except BaseException:
        connection.close()
        raise
    if said != "ok":
        connection.close()
        raise errors.damaged(path, said)


def connect(path: str, busy_s: float) -> sqlite3.Connection:
    """Return one more connection to an existing database. Raises sqlite3.Error.

    Who closes a database last has it to himself while he clears its log away: that is waited for,
    ``busy_s`` at most. Later it waits for a lock a moment only; whoever begins a transaction tries
    again.
    """
    quoted = path.replace("%", "%25").replace("?", "%3f").replace("#", "%23")
    connection = sqlite3.connect(
        f"file:{quoted}?mode=rw",
        timeout=busy_s,
        isolation_level=None,  # we say BEGIN ourselves
        check_same_thread=False,  # one thread at a time: see Connections
        uri=True,
    )
    try:
        # NORMAL: the log is not synced per commit, so a commit outlives the death of any process
        # but the last ones may not outlive the power's (and then all of this host's agents start
        # anew and list).
        connection.execute("PRAGMA synchronous = NORMAL")
        # a log that grew under many writers at once gives its space back when it begins anew
        connection.execute(f"PRAGMA journal_size_limit = {_LOG_BYTES}")
        connection.execute(f"PRAGMA busy_timeout = {int(_NAP_S * 1000)}")
    except sqlite3.Error:
        connection.close()
        raise
    return connection


@contextlib.contextmanager
def _locked_directory(directory: str, path: str, busy_s: float) -> Iterator[None]:
    try:
        handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        raise errors.removed(path) from None
    deadline = time.monotonic() + busy_s
    try:
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                # flock() has no time limit, and a stopped holder must not stop us for ever
                if time.monotonic() > deadline:
                    raise errors.locked(path) from None
                time.sleep(0.002)
        yield
    finally:
        os.close(handle)


def _prepare_file(path: str, create: bool) -> None:
    """Make sure that there is a file with mode 0600; SQLite gives -wal and -shm the same mode."""
    try:
        status = os.stat(path)
    except FileNotFoundError:
        if not create:
            raise errors.removed(path) from None
        # A log left by a removed database is not ours: SQLite would play it into the new one.
        for suffix in ("-wal", "-shm"):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path + suffix)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        return
    # Never open() an existing database by hand: closing it would drop this process's SQLite locks.
    if stat.S_ISDIR(status.st_mode):
        raise errors.is_directory(path)
    if not (os.access(path, os.W_OK) and os.access(os.path.dirname(path), os.W_OK)):
        raise errors.read_only(path)
    for name in (path, path + "-wal", path + "-shm", path + "-bell"):
        with contextlib.suppress(FileNotFoundError):
            if os.stat(name).st_mode & 0o077:
                os.chmod(name, 0o600)


def _prepare_schema(connection: sqlite3.Connection, path: str) -> str:
    """Create or check the schema; return the store id."""
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if tables == 0 and application in (0, APPLICATION_ID) and version == 0:
        _create_schema(connection)
    elif application != APPLICATION_ID:
        raise InvalidConfig(
            f"store {path} is another program's SQLite database",
            field="datastore",
            value=path,
            hint="name a file of Netloom's own with --datastore",
        )
    elif version > SCHEMA_VERSION:
        raise InvalidConfig(
            f"store {path} was written by a newer Netloom: its schema is {version}, this one "
            f"knows {SCHEMA_VERSION}",
            field="datastore",
            value=path,
            hint="install the same version of Netloom on every host",
        )
    row = connection.execute("SELECT store_id FROM state").fetchone()
    if row is None:
        raise errors.damaged(path, "it has no state")
    return str(row[0])


def _create_schema(connection: sqlite3.Connection) -> None:
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("BEGIN IMMEDIATE")
    for statement in _SCHEMA:
        connection.execute(statement)
    connection.execute("INSERT INTO state VALUES (1, ?, 0, 0)", (os.urandom(16).hex(),))
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
    connection.execute("COMMIT")
