"""Waiting for the bell: inotify on the database's directory.

A committing process rings by touching ``<database>-bell`` (``Connections.ring``), which wakes every
:class:`Bell` on it through IN_ATTRIB, in its own and in other processes. The directory is watched,
not the file, so that the bell may be removed and made again, and so that a database which somebody
moves away is noticed at once. SQLite's own files are written to without attribute events.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select

# inotify(7), linux/inotify.h
_IN_ATTRIB, _IN_MOVED_FROM, _IN_MOVED_TO = 0x4, 0x40, 0x80
_IN_CREATE, _IN_DELETE, _IN_DELETE_SELF, _IN_MOVE_SELF = 0x100, 0x200, 0x400, 0x800
_MASK = (
    _IN_ATTRIB | _IN_MOVED_FROM | _IN_MOVED_TO | _IN_CREATE | _IN_DELETE | _IN_DELETE_SELF
    | _IN_MOVE_SELF
)  # fmt: skip

#: How often to look where inotify is not to be had (the user's limit of instances is reached).
FALLBACK_S = 0.05

_libc = ctypes.CDLL(None, use_errno=True)


class Bell:
    """Wait until the database at ``path`` may have changed. One thread waits, any may wake it."""

    def __init__(self, path: str) -> None:
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._inotify = _watch_directory(os.path.dirname(path))
        self._poll = select.poll()
        self._poll.register(self._wake, select.POLLIN)
        if self._inotify >= 0:
            self._poll.register(self._inotify, select.POLLIN)

    def wait(self, timeout_s: float) -> None:
        """Block until the bell rang, :meth:`wake` was called or ``timeout_s`` passed."""
        if self._inotify < 0:
            timeout_s = min(timeout_s, FALLBACK_S)
        ready = self._poll.poll(max(timeout_s, 0) * 1000)
        if any(fd == self._inotify for fd, _ in ready):
            self._drain()

    def wake(self) -> None:
        """Let the present or next :meth:`wait` return, and all later ones."""
        os.eventfd_write(self._wake, 1)

    def close(self) -> None:
        """Give the descriptors back; nobody may be waiting."""
        os.close(self._wake)
        if self._inotify >= 0:
            os.close(self._inotify)

    def _drain(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self._inotify, 65536)


def _watch_directory(directory: str) -> int:
    """Return an inotify descriptor, -1 when the system has none left."""
    fd: int = _libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK)
    if fd < 0:
        return -1
    if _libc.inotify_add_watch(fd, os.fsencode(directory), _MASK) < 0:
        os.close(fd)
        return -1
    return fd
