"""SQLite's and the file system's errors, said in Netloom's words with the path and the remedy.

While a store is being *opened* each cause has its own class, because a person stands by who can
act: ``InvalidConfig`` (damaged, of a newer version, not a database), ``NotPermitted`` (rights,
read-only), ``Unavailable`` (full, locked). Once it is open every cause is ``Unavailable``, with the
same words: the contract has one way to be away, and an agent's last good state outlives all.
"""

from __future__ import annotations

import errno
import os
import sqlite3
from collections.abc import Callable

from netloom.model.errors import InvalidConfig, NetloomError, NotPermitted, Unavailable

_DAMAGED = "restore it from a copy, or move it away (with -wal and -shm) to begin an empty store"
_WRONG_PATH = (errno.ENOTDIR, errno.EEXIST, errno.EISDIR, errno.ENAMETOOLONG, errno.ELOOP)
_PRIMARY = 0xFF  # an extended result code holds its primary code in the low byte


def translate(error: sqlite3.Error | OSError, path: str) -> NetloomError:
    """Return the error to raise instead of ``error``, as it is while the store is being opened."""
    if isinstance(error, OSError):
        return _from_errno(error, path)
    primary = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & _PRIMARY
    if primary == sqlite3.SQLITE_CANTOPEN:
        return read_only(path) if os.path.exists(path) else removed(path)
    if primary in _SAID:
        return _SAID[primary](path)
    if primary == sqlite3.SQLITE_IOERR and _no_room(path):  # it could not make -shm large enough
        return full(path)
    if primary in (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT):
        return damaged(path, str(error))
    return Unavailable(
        f"store {path}: {error} ({getattr(error, 'sqlite_errorname', type(error).__name__)})",
        hint="look at the kernel's log for errors of the disk, then try again",
    )


def is_busy(error: sqlite3.Error) -> bool:
    """Tell whether another connection holds the lock that was wanted."""
    return getattr(error, "sqlite_errorcode", 0) & _PRIMARY == sqlite3.SQLITE_BUSY


def _from_errno(error: OSError, path: str) -> NetloomError:
    if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
        return read_only(path)
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return full(path)
    if error.errno in _WRONG_PATH:
        return InvalidConfig(
            f"store {path}: {error.strerror}",
            field="datastore",
            value=path,
            hint="name a file, e.g. sqlite:///var/lib/netloom/cluster.db",
        )
    return Unavailable(f"store {path}: {error.strerror or error}")


def damaged(path: str, detail: str) -> InvalidConfig:
    """Say that the file is not a database, or one with wrong contents."""
    return InvalidConfig(
        f"store {path} is damaged: {detail}", field="datastore", value=path, hint=_DAMAGED
    )


def full(path: str) -> Unavailable:
    """Say that the disk is full; nothing of the transaction was written."""
    return Unavailable(
        f"store {path}: the disk is full",
        hint=f"free some space on the file system of {os.path.dirname(path)}; nothing was lost",
    )


def read_only(path: str) -> NotPermitted:
    """Say that the file or its directory cannot be written."""
    if os.geteuid() == 0:  # to become root would not help
        hint = "remount its file system writable, or name another place with --datastore"
    else:
        hint = "run as root, or give this user a directory of its own with --datastore"
    return NotPermitted(
        f"store {path}: the file or its directory cannot be written by user {os.geteuid()}",
        hint=hint,
    )


def absent(path: str) -> Unavailable:
    """Say that there is no store yet where one was only to be looked at."""
    return Unavailable(
        f"store {path} does not exist",
        hint="name the right file with --datastore; a new store is begun by the first "
        "`netloom network create` or `netloom agent` there",
    )


def removed(path: str) -> Unavailable:
    """Say that the file which was open is no longer at its path."""
    return Unavailable(
        f"store {path} was removed or replaced while in use",
        hint="put the file back; an empty one is begun only by the next start of an agent",
    )


def locked(path: str) -> Unavailable:
    """Say that another process keeps the write lock, and which."""
    pid = _lock_holder(path + "-shm")
    who = f"process {pid}" if pid else "another process"
    return Unavailable(
        f"store {path} is locked by {who}",
        hint="it may be stopped or hang: look at it, then try again",
    )


def is_directory(path: str) -> InvalidConfig:
    """Say that a directory stands where the file should be."""
    return InvalidConfig(
        f"store {path} is a directory",
        field="datastore",
        value=path,
        hint=f"name a file in it, e.g. sqlite://{path}/cluster.db",
    )


def _no_room(path: str) -> bool:
    try:
        return os.statvfs(os.path.dirname(path)).f_bavail == 0
    except OSError:
        return False


def _lock_holder(path: str) -> int:
    """Return the process that holds a write lock on ``path``, 0 when unknown (proc(5), locks)."""
    try:
        inode = str(os.stat(path).st_ino)
        with open("/proc/locks", encoding="ascii") as table:
            for line in table:
                # "1: POSIX  ADVISORY  WRITE 1234 fd:01:5678 120 120"; waiting ones begin with "->"
                words = line.split()
                if words[1] == "POSIX" and words[3] == "WRITE" and words[5].endswith(":" + inode):
                    return int(words[4])
    except (OSError, IndexError, ValueError):
        pass
    return 0


_SAID: dict[int, Callable[[str], NetloomError]] = {
    sqlite3.SQLITE_FULL: full,
    sqlite3.SQLITE_BUSY: locked,
    sqlite3.SQLITE_LOCKED: locked,
    sqlite3.SQLITE_READONLY: read_only,
    sqlite3.SQLITE_PERM: read_only,
    sqlite3.SQLITE_AUTH: read_only,
}
