"""A response that never ends, read line by line while one can still be called away.

``http.client`` cannot go on after a time limit has passed inside a read; so the few parts of
HTTP/1.1 that a stream needs are here: the head and the chunks (RFC 9112 §4, §7.1).
"""

from __future__ import annotations

import os
import select
import socket
import ssl
from collections.abc import Mapping

from netloom.store.etcd.transport import Lost
from netloom.store.etcd.url import Endpoint

_CHUNK = 1 << 16
_MOST_AT_ONCE = 4 << 20
_MOST_HEAD = 1 << 16


class Wake:
    """What makes a reader look up: an eventfd that stays set."""

    def __init__(self) -> None:
        self._fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)

    def fileno(self) -> int:
        """Return the descriptor to poll."""
        return self._fd

    def set(self) -> None:
        """Wake the reader, now or when it next waits."""
        os.eventfd_write(self._fd, 1)

    def wait(self, seconds: float) -> bool:
        """Wait for :meth:`set` at most so long; tell whether it came."""
        poller = select.poll()
        poller.register(self._fd, select.POLLIN)
        return bool(poller.poll(max(0, seconds) * 1000))

    def close(self) -> None:
        """Give the descriptor back."""
        os.close(self._fd)


class LineStream:
    """The answer to one request, as lines. Owns ``connection``, which is ready to be written to."""

    def __init__(self, connection: socket.socket, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self._connection = connection
        self._decoder = _Decoder()
        self._lines = bytearray()

    @property
    def status(self) -> int:
        """The status of the answer; 0 until its head has arrived."""
        return self._decoder.status

    def send(self, path: str, body: bytes, headers: Mapping[str, str]) -> None:
        """Send the one request. Raises Lost."""
        head = [f"POST {path} HTTP/1.1", f"Host: {self.endpoint}", f"Content-Length: {len(body)}"]
        head += [f"{name}: {value}" for name, value in headers.items()]
        try:
            self._connection.sendall("\r\n".join([*head, "", ""]).encode() + body)
            self._connection.setblocking(False)
        except OSError as error:
            raise Lost(error.strerror or str(error)) from None

    def receive(self, wait_s: float, wake: Wake) -> list[bytes]:
        """Return the whole lines that came within ``wait_s``; none also when woken. Raises Lost."""
        if not self._wait(wait_s, wake):
            return []
        taken = 0
        while taken < _MOST_AT_ONCE and not self._decoder.ended:
            try:
                data = self._connection.recv(_CHUNK)
            except (BlockingIOError, ssl.SSLWantReadError):
                break
            except OSError as error:
                raise Lost(error.strerror or str(error)) from None
            if not data:
                raise Lost("it closed the connection")
            taken += len(data)
            self._lines += self._decoder.feed(data)
        *lines, rest = self._lines.split(b"\n")
        if self._decoder.ended and not lines and rest:
            lines, rest = [rest], bytearray()
        if self._decoder.ended and not lines:
            raise Lost("it ended the watch")
        self._lines = bytearray(rest)
        return [bytes(line) for line in lines if line]

    def close(self) -> None:
        """Close the connection; idempotent."""
        self._connection.close()

    def _wait(self, wait_s: float, wake: Wake) -> bool:
        if isinstance(self._connection, ssl.SSLSocket) and self._connection.pending():
            return True
        poller = select.poll()
        poller.register(self._connection, select.POLLIN)
        poller.register(wake, select.POLLIN)
        ready = [fd for fd, _ in poller.poll(max(0.0, wait_s) * 1000)]
        return self._connection.fileno() in ready


class _Decoder:
    """Takes HTTP apart as it arrives. ``ended`` when the last byte of the body has been fed."""

    def __init__(self) -> None:
        self.status = 0
        self.ended = False
        self._buffer = bytearray()
        self._chunked = False
        self._left = 0  # bytes of the body or of the chunk that are still to come

    def feed(self, data: bytes) -> bytes:
        """Return what of the body ``data`` brings. Raises Lost."""
        self._buffer += data
        if not self.status and not self._take_head():
            return b""
        body = bytearray()
        while not self.ended:
            if self._left:
                part = self._buffer[: self._left]
                del self._buffer[: len(part)]
                body += part
                self._left -= len(part)
                if self._left:
                    break
                self.ended = not self._chunked
            elif not self._take_chunk_size():
                break
        return bytes(body)

    def _take_head(self) -> bool:
        head, separator, rest = bytes(self._buffer).partition(b"\r\n\r\n")
        if not separator:
            if len(head) > _MOST_HEAD:
                raise Lost("its answer has no end of the head")
            return False
        status, *lines = head.decode("latin-1").split("\r\n")
        fields = {
            name.lower(): value.strip() for name, _, value in (s.partition(":") for s in lines)
        }
        try:
            self.status = int(status.split()[1])
            self._left = int(fields.get("content-length", "0"))
        except (ValueError, IndexError):
            raise Lost(f"it does not speak HTTP as we know it: {status[:60]!r}") from None
        self._chunked = "chunked" in fields.get("transfer-encoding", "")
        self.ended = not self._chunked and not self._left
        self._buffer = bytearray(rest)
        return True

    def _take_chunk_size(self) -> bool:
        """Read the line before a chunk; the empty line that ends the one before goes with it."""
        if self._buffer.startswith(b"\r\n"):
            del self._buffer[:2]
        line, separator, rest = self._buffer.partition(b"\r\n")
        if not separator:
            return False
        try:
            self._left = int(line.partition(b";")[0], 16)
        except ValueError:
            raise Lost(f"it sent no chunk size: {bytes(line[:20])!r}") from None
        self._buffer = rest
        self.ended = not self._left
        return True
