"""Connections to etcd's members: made, lent, taken back, each with a time limit.

Failures are told apart by what they mean for the caller: :class:`Unreached` says that the member
has not seen the request, :class:`Lost` that it may have.
"""

from __future__ import annotations

import http.client
import select
import socket
import ssl
import threading
import time
from collections.abc import Callable, Mapping

from netloom.model.errors import Unavailable
from netloom.store.etcd import tls
from netloom.store.etcd.url import Endpoint

CONNECT_S = 2.0
#: How long a member may be silent while a request runs.
ANSWER_S = 5.0
#: How long one answer may take to arrive as a whole.
WHOLE_ANSWER_S = 30.0
_MOST_IDLE = 4  # per endpoint
_CHUNK = 1 << 18


class Unreached(Exception):
    """The member has not seen the request."""


class Lost(Exception):
    """The connection failed after the request was sent: its outcome is unknown."""


#: Makes a connection within so many seconds, which are the limit of its operations too.
Dial = Callable[[Endpoint, float], socket.socket]


def dial(endpoint: Endpoint, timeout_s: float) -> socket.socket:
    """Connect from where this thread is."""
    connection = socket.create_connection((endpoint.host, endpoint.port), timeout_s)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


class Connections:
    """The open connections of one store, to all of its endpoints."""

    def __init__(self, context: ssl.SSLContext | None, dial: Dial = dial) -> None:
        self._context = context
        self._dial = dial
        self._mutex = threading.Lock()
        self._idle: dict[Endpoint, list[http.client.HTTPConnection]] = {}
        self._closed = False

    def post(
        self, endpoint: Endpoint, path: str, body: bytes, headers: Mapping[str, str]
    ) -> tuple[int, bytes]:
        """Send one request and return the answer's status and body. Raises Unreached, Lost."""
        connection = self._take(endpoint)
        try:
            try:
                connection.request("POST", path, body, dict(headers))
            except OSError as error:
                # a member refuses us in the handshake of TLS 1.3 only after we have begun
                raise Lost(_reason(error, endpoint)) from None
            response = connection.getresponse()
            answer = _read_whole(response)
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            raise Lost(_reason(error, endpoint)) from None
        except Lost:
            connection.close()
            raise
        if response.will_close:
            connection.close()
        else:
            self._give_back(endpoint, connection)
        return response.status, answer

    def open(self, endpoint: Endpoint) -> socket.socket:
        """Return a new connection, TLS and all, with ``ANSWER_S`` as limit. Raises Unreached."""
        with self._mutex:
            if self._closed:
                raise Unavailable("the etcd store was closed")
        try:
            plain = self._dial(endpoint, CONNECT_S)
        except OSError as error:
            raise Unreached(_reason(error, endpoint)) from None
        try:
            if self._context is None:
                secured: socket.socket = plain
            else:
                secured = self._context.wrap_socket(plain, server_hostname=endpoint.host)
        except OSError as error:
            plain.close()
            raise Unreached(_reason(error, endpoint)) from None
        secured.settimeout(ANSWER_S)
        return secured

    def close(self) -> None:
        """Close what is idle; what is lent closes when it comes back."""
        with self._mutex:
            self._closed = True
            idle, self._idle = self._idle, {}
        for connections in idle.values():
            for connection in connections:
                connection.close()

    def _take(self, endpoint: Endpoint) -> http.client.HTTPConnection:
        while True:
            with self._mutex:
                idle = self._idle.get(endpoint)
                connection = idle.pop() if idle else None
            if connection is None:
                break
            if _is_quiet(connection.sock):
                return connection
            connection.close()  # the member ended it meanwhile: nothing was lost yet
        connection = http.client.HTTPConnection(endpoint.host, endpoint.port)
        connection.auto_open = 0
        connection.sock = self.open(endpoint)
        return connection

    def _give_back(self, endpoint: Endpoint, connection: http.client.HTTPConnection) -> None:
        with self._mutex:
            idle = self._idle.setdefault(endpoint, [])
            if not self._closed and len(idle) < _MOST_IDLE:
                idle.append(connection)
                return
        connection.close()


def _read_whole(response: http.client.HTTPResponse) -> bytes:
    deadline = time.monotonic() + WHOLE_ANSWER_S
    parts = []
    while part := response.read(_CHUNK):
        parts.append(part)
        if time.monotonic() > deadline:
            raise Lost(f"its answer has not ended after {WHOLE_ANSWER_S:.0f} s")
    return b"".join(parts)


def _is_quiet(connection: socket.socket) -> bool:
    """Tell whether nothing is to be read: between requests, anything would be the end."""
    poller = select.poll()
    poller.register(connection, select.POLLIN)
    return not poller.poll(0)


def _reason(error: Exception, endpoint: Endpoint) -> str:
    if isinstance(error, ssl.SSLError) and not isinstance(error, TimeoutError):
        return tls.explain(error, endpoint, CONNECT_S)
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, http.client.HTTPException) and not isinstance(error, OSError):
        return f"it does not speak HTTP as we know it: {error!r}"
    if isinstance(error, http.client.RemoteDisconnected):
        return "it closed the connection"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return str(error) or type(error).__name__
