"""The local API's server: HTTP/1.1 on a unix socket, one thread per connection.

Only root and the agent's own user are served; everyone else is told 403 before a byte of what they
ask is looked at. A second listener, on TCP, may offer the paths of :data:`PUBLIC_PATHS` to a
monitoring system. What is answered is decided by ``Routes`` alone; an error that a handler raises
becomes the JSON of ``agent/wire.py``.

Importing ``http.server`` takes longer than an agent's whole first apply: import this module late.
"""

from __future__ import annotations

import errno
import fcntl
import json
import logging
import os
import socket
import stat
import struct
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from http.server import BaseHTTPRequestHandler
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from netloom import __version__
from netloom.agent import wire
from netloom.agent.contracts import Request, Response, Routes
from netloom.model.errors import Bug, Conflict, InvalidConfig, NetloomError, NotPermitted
from netloom.model.fields import nearest

#: What the TCP listener may answer, whatever routes it is given.
PUBLIC_PATHS = ("/metrics", "/healthz", "/readyz")
MAX_BODY_BYTES = 8 << 20
BACKLOG = 1024
#: A connection on which nothing arrives for so long is closed.
IDLE_S = 60.0
#: The user id of callers that need none: those of the TCP listener.
PUBLIC = -1
#: The kernel's sun_path holds 108 bytes: the name, one sign of the temporary name, a NUL.
MAX_SOCKET_PATH = 106

_log = logging.getLogger(__name__)


class Server:
    """A listening socket and the threads that answer on it.

    Made by :func:`serve` or :func:`serve_public`, bound and listening: callers queue up until
    :meth:`start`. As a context manager it is started on entry and stopped on exit.
    """

    def __init__(
        self, listener: socket.socket, routes: Routes, *, place: _SocketPath | None = None
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
            _Talk(connection, ("", 0), self)  # type: ignore[arg-type]  # any object may be server
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
    place = _SocketPath(Path(path))
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


class _SocketPath:
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


class _Talk(BaseHTTPRequestHandler):
    """One connection: read a request, look up its handler, answer, again."""

    protocol_version = "HTTP/1.1"
    timeout = IDLE_S
    wbufsize = -1  # headers and body leave in one send
    server: Server  # type: ignore[assignment]

    def do_GET(self) -> None:
        """Serve any method: routes decide which of them a path has."""
        pid, uid = self._caller()
        if uid not in (PUBLIC, 0, os.geteuid()):
            stranger = NotPermitted(f"user id {uid} may not use this socket", hint="be root")
            self._refuse(_error(stranger))
            return
        body = self._read_body()
        if body is not None:
            self._answer(self._route(pid, uid, body))

    do_POST = do_PUT = do_DELETE = do_PATCH = do_HEAD = do_GET

    def _caller(self) -> tuple[int, int]:
        """Return the caller's process id and user id."""
        if self.connection.family != socket.AF_UNIX:
            return 0, PUBLIC
        size = struct.calcsize("3i")
        credentials = self.connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
        pid, uid, _gid = struct.unpack("3i", credentials)
        return pid, uid

    def _read_body(self) -> bytes | None:
        """Return the body; None when it was refused and answered."""
        length = self.headers.get("Content-Length", "0")
        if "Transfer-Encoding" in self.headers:
            self.send_error(411, "send the body with a Content-Length")
        elif not (length.isascii() and length.isdigit()):
            self.send_error(400, f"Content-Length {length!r} is not a number")
        elif int(length) > MAX_BODY_BYTES:
            self.send_error(413, f"a body may have at most {MAX_BODY_BYTES} bytes")
        else:
            body = self.rfile.read(int(length))
            if len(body) == int(length):
                return body
            self.close_connection = True  # the caller died halfway: do nothing of what it began
        return None

    def _route(self, pid: int, uid: int, body: bytes) -> Response:
        url = urlsplit(self.path)
        path = unquote(url.path)
        handler = self.server.routes.get((self.command, path))
        if handler is None:
            return self._no_route(path)
        query = dict(parse_qsl(url.query, keep_blank_values=True))
        headers = {name.lower(): value for name, value in self.headers.items()}
        try:
            return handler(Request(self.command, path, query, headers, body, uid, pid))
        except NetloomError as error:
            if isinstance(error, Bug):
                _log.exception("%s %s", self.command, path)
            return _error(error)
        except Exception as error:  # noqa: BLE001  # one bad call must not harm the others
            _log.exception("%s %s failed", self.command, path)
            return _error(Bug(f"{type(error).__name__}: {error}", hint="see the agent's log"))

    def _no_route(self, path: str) -> Response:
        methods = sorted(method for method, known in self.server.routes if known == path)
        if methods:
            problem = InvalidConfig(f"{path} has no {self.command}", hint=", ".join(methods))
            return Response(405, wire.render_error(problem))
        hint = nearest(path, {known for _, known in self.server.routes})
        return Response(404, wire.render_error(InvalidConfig(f"no such path: {path}", hint=hint)))

    def _answer(self, response: Response) -> None:
        body = response.body
        if body is None:
            try:
                body = json.dumps(response.data, default=_plain).encode() + b"\n"
            except (TypeError, ValueError) as error:
                _log.exception("%s %s: the answer has no JSON form", self.command, self.path)
                self._answer(_error(Bug(f"the answer has no JSON form: {error}")))
                return
        self.send_response(response.status)
        self.send_header("Content-Type", response.content_type)
        self.send_header("Content-Length", str(len(body)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _refuse(self, response: Response) -> None:
        """Answer without having read the body, and end the connection."""
        self.close_connection = True
        self._answer(response)
        self.wfile.flush()
        # A close with bytes unread would reset the connection and lose the answer: let the caller
        # finish what it is sending, within limits.
        with suppress(OSError):
            self.connection.shutdown(socket.SHUT_WR)
            self.connection.settimeout(1.0)
            for _ in range(256):
                if not self.connection.recv(1 << 16):
                    break

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Answer a request that is not HTTP as we speak it; the base class calls this too."""
        self.request_version = self.protocol_version  # else it is taken for HTTP/0.9: no headers
        text = message or self.responses.get(code, ("error",))[0]
        self._refuse(Response(code, wire.render_error(InvalidConfig(text))))

    def version_string(self) -> str:
        """Name ourselves, not Python, in the Server header."""
        return f"netloom/{__version__}"

    def address_string(self) -> str:
        """Name the caller; one on a unix socket has no address."""
        return "local"

    def log_message(self, format: str, *args: object) -> None:
        """Send the base class's access lines to our log."""
        _log.debug(format, *args)


def _error(error: NetloomError) -> Response:
    return Response(wire.http_status(error), wire.render_error(error))


def _plain(value: object) -> Any:
    if isinstance(value, (IPv4Address, IPv6Address, IPv4Network, IPv6Network)):
        return str(value)
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, (set, frozenset)):
        return sorted(value)
    raise TypeError(f"{type(value).__name__} {value!r:.80}")


def _refusal(error: OSError, place: str) -> NetloomError:
    if error.errno == errno.EADDRINUSE:
        return Conflict(f"{place} is in use by another process", hint="choose another port")
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return NotPermitted(f"cannot listen on {place}: {error.strerror}", hint="run it as root")
    return InvalidConfig(f"cannot listen on {place}: {error.strerror}", value=place)
