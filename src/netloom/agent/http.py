"""The local API's server: HTTP/1.1 on a unix socket, one thread per connection.

Only root and the agent's own user are served; everyone else is told 403 before a byte of what they
ask is looked at. A second listener, on TCP, may offer the paths of :data:`PUBLIC_PATHS` to a
monitoring system. What is answered is decided by ``Routes`` alone; an error that a handler raises
becomes the JSON of ``agent/wire.py``.

Importing ``http.server`` takes longer than an agent's whole first apply: import this module late.
"""

from __future__ import annotations

import errno
import logging
import socket
import threading
import time
from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from types import TracebackType
from typing import Any

from netloom.agent.contracts import Routes
from netloom.agent.socket_path import BACKLOG, SocketPath
from netloom.agent.talk import Talk
from netloom.model.errors import Conflict, InvalidConfig, NetloomError, NotPermitted

#: What the TCP listener may answer, whatever routes it is given.
PUBLIC_PATHS = ("/metrics", "/healthz", "/readyz")

_log = logging.getLogger(__name__)


class Server:
    """A listening socket and the threads that answer on it.

    Made by :func:`serve` or :func:`serve_public`, bound and listening: callers queue up until
    :meth:`start`. As a context manager it is started on entry and stopped on exit.
    """

    def __init__(
        self, listener: socket.socket, routes: Routes, *, place: SocketPath | None = None
    ) -> None:
        self.routes = dict(routes)
        self._place = place
        self._listener = listener
        self._lock = threading.Lock()
        self._talks: dict[socket.socket, threading.Thread] = {}
        self._stopping = threading.Event()
        self._acceptor: threading.Thread | None = None

    @property
    def address(self) -> Any:
        """The socket's path, or (address, port) for TCP."""
        return self._place.path if self._place else self._listener.getsockname()[:2]

    def start(self) -> None:
        """Begin to answer; repeats are safe."""
        if self._acceptor is None:
            name = f"accept {self.address}"
            self._acceptor = threading.Thread(target=self._accept, name=name, daemon=True)
            self._acceptor.start()

    def stop(self, grace_s: float = 5.0) -> None:
        """Stop answering: no new calls, running ones get ``grace_s`` to end; repeats are safe."""
        self._stopping.set()
        if self._place:
            self._place.remove()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes accept()
        if self._acceptor:
            self._acceptor.join()
        self._listener.close()
        with self._lock:
            talks = dict(self._talks)
        for connection in talks:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RD)  # an idle caller's thread reads the end
        deadline = time.monotonic() + grace_s
        for thread in talks.values():
            if thread is not threading.current_thread():
                thread.join(max(0.0, deadline - time.monotonic()))
        if self._place:
            self._place.unlock()

    def __enter__(self) -> Server:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: object, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _accept(self) -> None:
        while not self._stopping.is_set():
            try:
                connection, _ = self._listener.accept()
            except OSError as error:
                if self._stopping.is_set():
                    return
                # Out of file descriptors or memory: what is running may free some. Never give up.
                _log.error("cannot accept a call: %s", error)
                self._stopping.wait(0.1)
                continue
            thread = threading.Thread(target=self._talk, args=(connection,), daemon=True)
            with self._lock:
                self._talks[connection] = thread
            try:
                thread.start()
            except RuntimeError as error:  # the limit on threads
                _log.error("cannot answer a call: %s", error)
                self._forget(connection)

    def _talk(self, connection: socket.socket) -> None:
        try:
            Talk(connection, ("", 0), self)  # type: ignore[arg-type]  # any object may be server
        except (OSError, ValueError) as error:
            _log.debug("a caller went away: %s", error)
        finally:
            self._forget(connection)

    def _forget(self, connection: socket.socket) -> None:
        with self._lock:
            self._talks.pop(connection, None)
        connection.close()


def serve(path: str | Path, routes: Routes, *, mode: int = 0o600) -> Server:
    """Bind a unix socket at ``path`` with file rights ``mode``; its folder is made if absent.

    A socket left behind by a dead process is replaced in one step. Raises Conflict when somebody
    answers on it (or the path is no socket), NotPermitted, InvalidConfig for a path too long.
    """
    place = SocketPath(Path(path))
    try:
        listener = place.bind(mode)
    except OSError as error:
        place.unlock()
        raise _refusal(error, str(path)) from error
    except NetloomError:
        place.unlock()
        raise
    return Server(listener, routes, place=place)


def serve_public(listen: str, routes: Routes) -> Server:
    """Bind ``ADDRESS:PORT`` for those of ``routes`` that are GET of a public path.

    Raises InvalidConfig for a malformed or foreign address, Conflict when the port is taken.
    """
    host, port = parse_listen(listen)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise _refusal(error, listen) from error
    public = {
        (method, path): handler
        for (method, path), handler in routes.items()
        if method == "GET" and path in PUBLIC_PATHS
    }
    return Server(listener, public)


def parse_listen(text: str) -> tuple[str, int]:
    """Parse ``127.0.0.1:9191`` or ``[::1]:9191``. Raises InvalidConfig."""
    host, _, port = text.rpartition(":")
    bare = host.removeprefix("[").removesuffix("]")
    with suppress(ValueError, OSError):
        version = (IPv6Address if host.startswith("[") else IPv4Address)(bare).version
        if port.isascii() and port.isdigit() and int(port) < 65536:
            socket.inet_pton(socket.AF_INET6 if version == 6 else socket.AF_INET, bare)
            return bare, int(port)
    raise InvalidConfig(
        f"metricsListen: {text!r} is not ADDRESS:PORT",
        field="metricsListen",
        value=text,
        hint="write it as 127.0.0.1:9191 or [::1]:9191",
    )


def _refusal(error: OSError, place: str) -> NetloomError:
    if error.errno == errno.EADDRINUSE:
        return Conflict(f"{place} is in use by another process", hint="choose another port")
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return NotPermitted(f"cannot listen on {place}: {error.strerror}", hint="run it as root")
    return InvalidConfig(f"cannot listen on {place}: {error.strerror}", value=place)
