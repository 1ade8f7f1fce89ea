"""The place of the local API's socket in the file system."""

from __future__ import annotations

import fcntl
import os
import socket
import stat
from contextlib import suppress
from pathlib import Path

from netloom.model.errors import Conflict, InvalidConfig

#: How many callers may wait until they are answered.
BACKLOG = 1024
#: The kernel's sun_path holds 108 bytes: the name, one sign of the temporary name, a NUL.
MAX_SOCKET_PATH = 106


class SocketPath:
    """The place of a unix socket in the file system, and the lock that says whose it is.

    The lock lives as long as its process, whatever kills it; it closes the race of two processes
    that find the same stale socket. The socket is bound under a temporary name and moved into
    place with its final rights, so that nobody ever sees it open to all or not listening.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock_fd = -1
        self._inode: tuple[int, int] = (0, 0)

    def bind(self, mode: int) -> socket.socket:
        """Return a socket that listens there with file rights ``mode``.

        Raises Conflict when somebody answers there, InvalidConfig, OSError.
        """
        if len(os.fsencode(self.path)) > MAX_SOCKET_PATH:
            raise InvalidConfig(
                f"socket: the path has more than {MAX_SOCKET_PATH} bytes: {self.path}",
                field="socket",
                value=str(self.path),
                hint="choose a shorter path: the kernel allows no longer one for a socket",
            )
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
        self._lock()
        self._refuse_taken()
        fresh = Path(f"{self.path}~")
        fresh.unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            listener.bind(str(fresh))
            fresh.chmod(mode)
            listener.listen(BACKLOG)
            made = fresh.stat()
            self._inode = (made.st_dev, made.st_ino)
            fresh.rename(self.path)
        except OSError:
            listener.close()
            fresh.unlink(missing_ok=True)
            raise
        return listener

    def remove(self) -> None:
        """Remove the socket's file if it is still the one that we made."""
        with suppress(OSError):
            found = self.path.lstat()
            if (found.st_dev, found.st_ino) == self._inode:
                self.path.unlink()

    def unlock(self) -> None:
        """Let others have the place; the lock's empty file stays, as removing it would race."""
        if self._lock_fd >= 0:
            os.close(self._lock_fd)
            self._lock_fd = -1

    def _lock(self) -> None:
        self._lock_fd = os.open(f"{self.path}.lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(self._lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise self._taken() from None

    def _refuse_taken(self) -> None:
        try:
            found = self.path.lstat()
        except FileNotFoundError:
            return
        if not stat.S_ISSOCK(found.st_mode):
            raise Conflict(
                f"{self.path} exists and is not a socket",
                hint="move it away, or choose another path with --socket",
            )
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.settimeout(1.0)
            try:
                probe.connect(str(self.path))
            except (ConnectionRefusedError, FileNotFoundError):
                return  # left behind: nobody listens
            except (BlockingIOError, TimeoutError):
                pass  # a full backlog: somebody listens
        raise self._taken()

    def _taken(self) -> Conflict:
        return Conflict(
            f"another process answers on {self.path}",
            hint="one agent per host: stop the other, or give this one --socket and --state-dir",
        )
