"""Connections to one database file, shared by the threads of a process.

A connection is lent to one thread at a time and taken back; so there are as many as threads that
are at it at once. Writers of this process queue at a lock (fair, no polling); only between
processes does SQLite's own busy handler wait. After each use the file at the path is compared with
the one that is open: when somebody removed or replaced it, what was read or written there does not
count; all connections are given up, the call raises ``Unavailable``, and later calls open whatever
file is there then.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
import time
from collections.abc import Iterator

from netloom.model.errors import NetloomError, Unavailable
from netloom.store import sqlite_errors as errors
from netloom.store import sqlite_file as files

_MOST_IDLE = 4  # each may hold a page cache of 2 MB


class Connections:
    """The open database.

    ``store_id`` is its name. ``epoch`` grows whenever the file at the path becomes another than
    the one before, be it a new store or a copy of the same one; revisions read in one epoch mean
    nothing in the next. A file that was only away for a while is the same.
    """

    def __init__(self, path: str, busy_s: float, *, create: bool = True) -> None:
        self.path = os.path.realpath(path)  # SQLite puts -wal and -shm beside the real file
        self.bell_path = self.path + "-bell"
        self._busy_s = busy_s
        self._mutex = threading.Lock()
        self._writer = threading.Lock()
        self._idle: list[tuple[int, sqlite3.Connection]] = []
        self._closed = False
        self._last: files.Identity | None = None
        self._last_inode: files.Inode | None = None
        self._open: files.Identity | None = None
        self._generation = 0  # of openings: connections of an earlier one are not lent again
        self.epoch = 0
        self.store_id = ""
        if not create and files.inode(self.path) is None:
            raise errors.absent(self.path)
        self._open_file(create=create)

    @contextlib.contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """Lend a connection inside a read transaction: all selects see one state."""
        with self._lent() as connection:
            # the first select is what takes the lock
            self._begin(connection, "BEGIN", "SELECT 1 FROM state")
            yield connection
            connection.execute("COMMIT")

    @contextlib.contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """Lend a connection inside the write transaction, committed unless an exception passes."""
        if not self._writer.acquire(timeout=self._busy_s):
            raise errors.locked(self.path)
        try:
            with self._lent() as connection:
                self._begin(connection, "BEGIN IMMEDIATE")
                yield connection
                connection.execute("COMMIT")
        finally:
            self._writer.release()

    def ring(self) -> None:
        """Tell watchers in all processes that something was committed.

        They look for themselves every second as well, so a bell that cannot be rung (its file
        removed, the disk full) costs them a second and nothing else.
        """
        try:
            os.utime(self.bell_path)
        except FileNotFoundError:
            with contextlib.suppress(OSError):
                flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC
                os.close(os.open(self.bell_path, flags, 0o600))
                os.utime(self.bell_path)
        except OSError:
            pass

    def close(self) -> None:
        """Close all connections; those lent out close when they come back."""
        with self._mutex:
            self._closed = True
            idle, self._idle = self._idle, []
        for _, connection in idle:
            connection.close()

    def _begin(self, connection: sqlite3.Connection, *statements: str) -> None:
        """Begin a transaction, waiting for other processes at most ``busy_s``."""
        deadline = time.monotonic() + self._busy_s
        while True:
            try:
                for statement in statements:
                    connection.execute(statement)
                return
            except sqlite3.OperationalError as error:
                if not errors.is_busy(error) or time.monotonic() >= deadline:
                    raise
                if connection.in_transaction:
                    connection.execute("ROLLBACK")

    @contextlib.contextmanager
    def _lent(self) -> Iterator[sqlite3.Connection]:
        generation, connection = self._take()
        try:
            yield connection
            # What was committed to a file that is no longer at the path is lost.
            self._check_identity()
        except (sqlite3.Error, OSError) as error:
            raise _away(errors.translate(error, self.path)) from error
        finally:
            self._give_back(generation, connection)

    def _take(self) -> tuple[int, sqlite3.Connection]:
        with self._mutex:
            if self._closed:
                raise Unavailable(f"store {self.path} was closed")
            reopen = self._open is None
        if reopen:
            self._reopen()
        with self._mutex:
            if self._idle:
                return self._idle.pop()
            generation = self._generation
        try:
            connection = files.connect(self.path, self._busy_s)
        except sqlite3.Error as error:
            raise _away(errors.translate(error, self.path)) from error
        try:
            self._check_identity()  # or this is a connection to another file than the idle ones
        except NetloomError:
            connection.close()
            raise
        return generation, connection

    def _give_back(self, generation: int, connection: sqlite3.Connection) -> None:
        try:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
        except sqlite3.Error:
            connection.close()
            return
        with self._mutex:
            current = generation == self._generation and self._open is not None
            if current and not self._closed and len(self._idle) < _MOST_IDLE:
                self._idle.append((generation, connection))
                return
        connection.close()

    def _check_identity(self) -> None:
        there = files.inode(self.path)
        with self._mutex:
            if self._open is not None and self._open.database == there:
                return
            self._last, self._open = self._open or self._last, None
            idle, self._idle = self._idle, []
        for _, connection in idle:
            connection.close()  # SQLite leaves -wal alone when its database has moved
        raise errors.removed(self.path)

    def _reopen(self) -> None:
        try:
            self._open_file(create=False)
        except NetloomError as error:
            raise _away(error) from error

    def _open_file(self, *, create: bool) -> None:
        with self._mutex:
            if self._open is not None:
                return
            if self._last is not None:
                files.forget_log_of(self._last, self.path)
            connection, store_id = files.open_database(self.path, self._busy_s, create=create)
            opened = files.identity(self.path)
            if opened is None:
                connection.close()
                raise errors.removed(self.path)
            if store_id != self.store_id or opened.database != self._last_inode:
                self.epoch += 1
            self.store_id, self._last_inode = store_id, opened.database
            self._open = opened
            self._generation += 1
            self._idle.append((self._generation, connection))


def _away(error: NetloomError) -> Unavailable:
    """Return ``error`` as the one kind that an open store raises."""
    if isinstance(error, Unavailable):
        return error
    return Unavailable(str(error), hint=error.hint)
