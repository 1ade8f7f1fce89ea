"""Telling systemd how the agent is doing: sd_notify(3) over the datagram socket $NOTIFY_SOCKET.

Where the variable is not set nobody listens, and nothing is sent. A service manager that has gone
away is no reason for the agent to fail: what cannot be told is dropped.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping

from netloom.model.fields import whole_number


class Notifier:
    """The line to the service manager; callable from any thread."""

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        self._address = _address(environment.get("NOTIFY_SOCKET", ""))
        self._watchdog_s = _watchdog_s(environment)

    @property
    def heartbeat_s(self) -> float | None:
        """How often to call :meth:`alive`; None when nobody waits for it.

        Half of the time after which systemd would end us, as sd_watchdog_enabled(3) advises.
        """
        return self._watchdog_s / 2 if self._watchdog_s else None

    def ready(self, status: str = "") -> None:
        """Say that the agent is ready."""
        self._send("READY=1", _status(status))

    def status(self, text: str) -> None:
        """Set the one line that ``systemctl status`` shows."""
        self._send(_status(text))

    def stopping(self, status: str = "") -> None:
        """Say that the agent is on its way out."""
        self._send("STOPPING=1", _status(status))

    def alive(self) -> None:
        """Say that the agent still turns; to be called every :attr:`heartbeat_s`."""
        self._send("WATCHDOG=1")

    def _send(self, *lines: str) -> None:
        if not self._address:
            return
        message = "\n".join(line for line in lines if line).encode()
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
            channel.settimeout(1)
            try:
                channel.sendto(message, self._address)
            except OSError:
                return  # see the module's docstring


def _address(text: str) -> str:
    """Return the socket's address: a path, or an abstract name, which is written with '@'."""
    if text.startswith("@"):
        return "\0" + text[1:]
    return text if text.startswith("/") else ""


def _watchdog_s(environment: Mapping[str, str]) -> float | None:
    """Return the watchdog's time if there is one and it is meant for this process."""
    pid = environment.get("WATCHDOG_PID", "")
    time_us = environment.get("WATCHDOG_USEC", "")
    limit_us = whole_number(time_us) or 0
    if limit_us <= 0 or (pid and pid != str(os.getpid())):
        return None
    return limit_us / 1_000_000


def _status(text: str) -> str:
    return f"STATUS={' '.join(text.split())}" if text else ""
