"""One connection of the local API: requests are read, handed to their handlers, and answered.

Importing ``http.server`` takes longer than an agent's whole first apply: import this module late.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import struct
from collections.abc import Mapping
from contextlib import suppress
from http.server import BaseHTTPRequestHandler
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Any, Protocol
from urllib.parse import parse_qsl, unquote, urlsplit

from netloom import __version__
from netloom.agent import wire
from netloom.agent.contracts import Request, Response, Routes
from netloom.model.errors import Bug, InvalidConfig, NetloomError, NotPermitted
from netloom.model.fields import nearest
from netloom.model.surprise import told

#: The user id of callers that need none: those of the TCP listener.
PUBLIC = -1
MAX_BODY_BYTES = 8 << 20
#: A connection on which nothing arrives for so long is closed.
IDLE_S = 60.0

_log = logging.getLogger(__name__)


class Served(Protocol):
    """What a connection needs of its server."""

    @property
    def routes(self) -> Routes:
        """Who answers what."""
        ...


class Talk(BaseHTTPRequestHandler):
    """One connection: read a request, look up its handler, answer, again."""

    protocol_version = "HTTP/1.1"
    timeout = IDLE_S
    wbufsize = -1  # headers and body leave in one send
    server: Served  # type: ignore[assignment]  # http.server asks for its own kind

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
            return _error(Bug(told(error), hint="see the agent's log"))

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
                self._answer(_error(Bug(f"the answer has no JSON form: {told(error)}")))
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
