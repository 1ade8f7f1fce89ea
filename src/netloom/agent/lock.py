"""One agent per host: an abstract unix socket, which belongs to the network namespace.

Its name goes with the process, however it dies, so there is no stale lock to clean up; and since
abstract names are kept per network namespace, it guards exactly the kernel that two agents would
fight over, whatever folders they use. A second lock on the state folder guards the journal.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
from pathlib import Path

from netloom.model.errors import Conflict, NotPermitted

_NAME = b"\0netloom-agent"


class AgentLock:
    """Both locks, held until :meth:`release` or the end of the process."""

    def __init__(self, state_dir: Path) -> None:
        self._state_dir = state_dir
        self._socket: socket.socket | None = None
        self._file = -1

    def take(self) -> None:
        """Take the locks. Raises Conflict when another agent runs on this host."""
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        try:
            self._socket.bind(_NAME)
        except OSError as error:
            self.release()
            if error.errno != errno.EADDRINUSE:
                raise
            raise Conflict(
                "another netloom agent runs on this host",
                hint="stop it first (systemctl stop netloom), or ask it: netloom status",
            ) from None
        path = self._state_dir / "agent.lock"
        try:
            self._file = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.release()
            raise Conflict(
                f"another netloom agent uses the state folder {self._state_dir}",
                hint="give each agent its own --state-dir",
            ) from None
        except OSError as error:
            self.release()
            raise NotPermitted(f"cannot lock {path}: {error.strerror}") from None

    def release(self) -> None:
        """Give the locks back; idempotent."""
        if self._socket:
            self._socket.close()
            self._socket = None
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
