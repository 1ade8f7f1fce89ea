"""BIRD's control socket: one command, one answer of numbered lines, nothing without a time limit.

An answer's line is ``NNNN-text``, its last one ``NNNN text``; a line that begins with a blank has
the number of the one before, one with ``+`` is a message of the log. Numbers from 8000 are errors
of the daemon, from 9000 of the command (BIRD's doc/reply_codes).
"""

from __future__ import annotations

import os
import re
import socket
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from netloom.model.errors import Unavailable

SOCKET, CONFIG = "bird.ctl", "bird.conf"
#: How long BIRD may take for an answer. One that takes longer is stuck: a configuration of
#: thousands of peers is read in well below a second.
PATIENCE_S = 5.0
FIRST_ERROR = 8000
_GREETING = 1
_LINE = re.compile(r"(\d{4})([ -])(.*)")
_MOST_BYTES = 64 << 20


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer: (number, text) of each line."""

    lines: tuple[tuple[int, str], ...]

    @property
    def code(self) -> int:
        """The number of the last line: what became of the command."""
        return self.lines[-1][0]

    @property
    def failed(self) -> bool:
        """Tell whether BIRD did not do it."""
        return any(code >= FIRST_ERROR for code, _ in self.lines)

    @property
    def complaint(self) -> str:
        """What BIRD said went wrong, on one line."""
        return "; ".join(text for code, text in self.lines if code >= FIRST_ERROR and text)

    def texts(self, code: int) -> tuple[str, ...]:
        """Return the lines with one number."""
        return tuple(text for number, text in self.lines if number == code)


class Control:
    """One connection to the BIRD that listens in ``directory``. Raises Unavailable."""

    def __init__(self, directory: Path, patience_s: float = PATIENCE_S) -> None:
        self._patience_s = patience_s
        self._rest = b""
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._socket.settimeout(patience_s)
            # By the directory's descriptor: a path of a socket has at most 107 characters.
            folder = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                self._socket.connect(f"/proc/self/fd/{folder}/{SOCKET}")
            finally:
                os.close(folder)
            self.greeting = self._answer().texts(_GREETING)[0]
        except (OSError, IndexError) as error:
            self._socket.close()
            raise Unavailable(f"BIRD does not listen: {error}") from None
        except Unavailable:
            self._socket.close()
            raise

    def __enter__(self) -> Control:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; idempotent."""
        self._socket.close()

    @property
    def pid(self) -> int:
        """The process that listens, as the kernel knows it."""
        return peer_pid(self._socket)

    def ask(self, command: str) -> Reply:
        """Send one command and return its answer, whatever it is. Raises Unavailable."""
        try:
            self._socket.sendall(command.encode() + b"\n")
        except OSError as error:
            raise Unavailable(f"BIRD is gone: {error}") from None
        return self._answer()

    def _answer(self) -> Reply:
        lines: list[tuple[int, str]] = []
        for text in self._lines():
            match = _LINE.fullmatch(text)
            if match is None:
                if lines and text[:1] == " ":
                    lines.append((lines[-1][0], text[1:]))
                continue
            lines.append((int(match[1]), match[3]))
            if match[2] == " ":
                return Reply(tuple(lines))
        raise Unavailable("BIRD ended while it answered")

    def _lines(self) -> Iterator[str]:
        deadline, received = time.monotonic() + self._patience_s, 0
        while True:
            line, end, rest = self._rest.partition(b"\n")
            if end:
                self._rest = rest
                yield line.decode("utf-8", "replace")
                continue
            left_s = deadline - time.monotonic()
            if left_s <= 0 or received > _MOST_BYTES:
                raise Unavailable("BIRD does not answer", hint="it is ended and started anew")
            self._socket.settimeout(left_s)
            try:
                data = self._socket.recv(65536)
            except TimeoutError:
                continue
            except OSError as error:
                raise Unavailable(f"BIRD is gone: {error}") from None
            if not data:
                return
            received += len(data)
            self._rest += data


def listener(directory: Path) -> int:
    """Return the process that listens in ``directory``, be it stuck; 0 when there is none."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)  # one that does not accept has room for some that wait
        try:
            folder = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError:
            return 0
        try:
            probe.connect(f"/proc/self/fd/{folder}/{SOCKET}")
        except OSError:
            return 0
        finally:
            os.close(folder)
        return peer_pid(probe)


def peer_pid(connection: socket.socket) -> int:
    """Return the process at the other end of a unix socket."""
    data = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    return int(struct.unpack("=iII", data)[0])
