"""Calls of the agent's local API, from a verb."""

from __future__ import annotations

import http.client
import json
import socket
from pathlib import Path
from typing import Any

from netloom.agent.wire import parse_error
from netloom.model.errors import Bug, NotPermitted, Unavailable

#: For a look at an agent: one that is well answers in milliseconds where the machine has time for
#: it, and one that is wedged is to be told soon.
PATIENCE_S = 15.0


class Client:
    """The agent behind one unix socket; every call is a connection of its own."""

    def __init__(self, path: Path, timeout_s: float = 30.0) -> None:
        self.path = path
        self.timeout_s = timeout_s

    def get(self, url: str) -> Any:
        """Return the JSON that ``GET url`` answers. See :meth:`call`."""
        return self.call("GET", url)

    def post(self, url: str, data: Any = None) -> Any:
        """Send ``data`` as JSON and return the JSON that is answered. See :meth:`call`."""
        return self.call("POST", url, data)

    def call(self, method: str, url: str, data: Any = None) -> Any:
        """Call the agent.

        Raises the error that the agent raised; Unavailable when no agent answers, NotPermitted when
        the socket is not ours to use.
        """
        connection = _UnixConnection(self.path, self.timeout_s)
        body = None if data is None else json.dumps(data)
        try:
            connection.request(method, url, body, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            text = answer.read()
        except (OSError, http.client.HTTPException) as error:
            raise self._unreachable(error) from error
        finally:
            connection.close()
        try:
            document = json.loads(text)
        except ValueError:
            raise Bug(
                f"{self.path}: {method} {url}: the answer is not JSON: {text[:200]!r}",
                hint="is it a Netloom agent that listens there?",
            ) from None
        if answer.status != 200:
            raise parse_error(document)
        return document

    def listened(self) -> bool:
        """Tell whether an agent listens, whether or not it finds the time to answer."""
        connection = _UnixConnection(self.path, self.timeout_s)
        try:
            connection.connect()
        except (FileNotFoundError, ConnectionRefusedError):
            return False
        except OSError as error:
            if isinstance(error, PermissionError):
                raise self._unreachable(error) from error
            return True  # so many wait for its answer that one more cannot
        finally:
            connection.close()
        return True

    def _unreachable(self, error: Exception) -> Unavailable | NotPermitted:
        if isinstance(error, PermissionError):
            return NotPermitted(f"{self.path}: may not be used", hint="run it as root")
        if isinstance(error, TimeoutError):
            return Unavailable(
                f"the agent at {self.path} did not answer within {self.timeout_s:g} s",
                hint="see its log: journalctl -u netloom",
            )
        if isinstance(error, FileNotFoundError):
            reason = "no such socket"
        elif isinstance(error, ConnectionRefusedError):
            reason = "nobody listens"
        else:
            reason = f"it broke off ({type(error).__name__} {error})"
        return Unavailable(
            f"no agent answers on {self.path}: {reason}",
            hint="start it with `systemctl start netloom` or `netloom agent`, "
            "or name its socket with --socket or NETLOOM_SOCKET",
        )


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path, timeout_s: float) -> None:
        super().__init__("localhost", timeout=timeout_s)
        self._place = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._place))
