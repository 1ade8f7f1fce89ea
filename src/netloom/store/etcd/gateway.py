"""Calls to a cluster: the member that answered last is asked first, then the others in turn.

A call that may be repeated goes on to the next member whatever happened; a commit only when the
member certainly did nothing. While the members have no leader (an election takes a second or two)
they are asked again for a while.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from netloom.model.errors import Unavailable
from netloom.store.etcd import refusals, tls
from netloom.store.etcd.refusals import Refusal
from netloom.store.etcd.stream import LineStream
from netloom.store.etcd.transport import Connections, Dial, Lost, Unreached, dial
from netloom.store.etcd.url import Endpoint, EtcdUrl

#: No further member is asked when a call has taken so long.
CALL_S = 8.0
_ELECTION_PAUSE_S = 0.2
#: A member that has lost its cluster says so at once instead of being silent (rpctypes/md.go).
_HEADERS = {"Content-Type": "application/json", "Grpc-Metadata-hasleader": "true"}


@dataclass(frozen=True, slots=True)
class Answer:
    """What a member answered; ``revision`` and ``cluster`` are of the answer's header."""

    endpoint: Endpoint
    data: dict[str, Any]

    @property
    def cluster(self) -> int:
        """Return the cluster's id."""
        return int(self.data.get("header", {}).get("cluster_id", 0))

    @property
    def revision(self) -> int:
        """Return the member's revision when it answered."""
        return int(self.data.get("header", {}).get("revision", 0))


class Gateway:
    """The members behind one URL. Raises InvalidConfig, NotPermitted for the URL's files."""

    def __init__(self, url: EtcdUrl, dial: Dial = dial) -> None:
        self.url = url
        self._connections = Connections(tls.make_context(url.tls) if url.tls else None, dial)
        self._token = ""
        self._authenticating = threading.Lock()
        self._first = url.endpoints[0]
        self._closing = threading.Event()

    def call(self, path: str, request: dict[str, Any], *, repeat: bool = True) -> Answer:
        """Ask until a member answers. ``repeat``: being done twice would be well.

        Raises Unavailable naming each endpoint and why; InvalidConfig, NotPermitted for what no
        member would do; :class:`Refusal` (not found, out of range) for what the caller may know
        how to take.
        """
        body = json.dumps(request).encode()
        deadline = time.monotonic() + CALL_S
        while True:
            failures: dict[Endpoint, str] = {}
            electing = False
            for endpoint in self._in_turn():
                if failures and time.monotonic() > deadline:
                    failures[endpoint] = "not asked in time"
                    continue
                try:
                    answer = Answer(endpoint, self._ask(endpoint, path, body))
                except Unreached as error:
                    failures[endpoint] = str(error)
                except Lost as error:
                    failures[endpoint] = str(error)
                    self._require(repeat, endpoint, str(error))
                except Refusal as refusal:
                    if not refusal.elsewhere:
                        raise
                    failures[endpoint] = str(refusal)
                    electing = electing or refusal.electing
                    self._require(repeat or refusal.without_leader, endpoint, str(refusal))
                else:
                    self._first = endpoint
                    return answer
            if not electing or time.monotonic() > deadline or self._closing.wait(_ELECTION_PAUSE_S):
                raise unavailable(failures)

    def stream(self, endpoint: Endpoint, path: str, request: dict[str, Any]) -> LineStream:
        """Begin a request whose answer is a stream, at one member. Raises Unreached, Lost."""
        stream = LineStream(self._connections.open(endpoint), endpoint)
        try:
            stream.send(path, json.dumps(request).encode(), self._headers(self._token))
        except Lost:
            stream.close()
            raise
        return stream

    def avoid(self, endpoint: Endpoint) -> None:
        """Ask another member first from now on."""
        if self._first == endpoint:
            everyone = self.url.endpoints
            self._first = everyone[(everyone.index(endpoint) + 1) % len(everyone)]

    def close(self) -> None:
        """Close all connections; idempotent."""
        self._closing.set()
        self._connections.close()

    def _in_turn(self) -> Iterator[Endpoint]:
        everyone = self.url.endpoints
        start = everyone.index(self._first)
        yield from everyone[start:] + everyone[:start]

    def _require(self, repeat: bool, endpoint: Endpoint, why: str) -> None:
        self.avoid(endpoint)
        if not repeat:
            raise Unavailable(
                f"etcd at {endpoint}: {why}; whether the change was made is not known",
                hint="read, then try again",
            )

    def _ask(self, endpoint: Endpoint, path: str, body: bytes) -> dict[str, Any]:
        """Ask one member, with a token if there is a user; once more if that was too old."""
        used = self._token or self._renew_token(endpoint, "")
        try:
            return self._post(endpoint, path, body, used)
        except Refusal as refusal:
            if not refusal.old_token or not self.url.user:
                raise self._final(refusal, endpoint) from None
        try:
            return self._post(endpoint, path, body, self._renew_token(endpoint, used))
        except Refusal as refusal:
            raise self._final(refusal, endpoint) from None

    def _final(self, refusal: Refusal, endpoint: Endpoint) -> Exception:
        if refusal.elsewhere or refusal.code in (refusals.NOT_FOUND, refusals.OUT_OF_RANGE):
            return refusal
        return refusals.translate(refusal, endpoint, self.url.user)

    def _renew_token(self, endpoint: Endpoint, used: str) -> str:
        """Return a token other than ``used``; threads that come together share one."""
        if not self.url.user:
            return ""
        with self._authenticating:
            if self._token == used:
                login = {"name": self.url.user, "password": self.url.password}
                try:
                    path, body = "/v3/auth/authenticate", json.dumps(login).encode()
                    self._token = str(self._post(endpoint, path, body, "")["token"])
                except Refusal as refusal:
                    if not refusal.auth_off:
                        raise self._final(refusal, endpoint) from None
                    self._token = ""
            return self._token

    def _post(self, endpoint: Endpoint, path: str, body: bytes, token: str) -> dict[str, Any]:
        headers = self._headers(token)
        status, answer = self._connections.post(endpoint, path, body, headers)
        if status != 200:
            raise refusals.parse(status, answer)
        try:
            data = json.loads(answer)
        except ValueError:
            data = None
        if not isinstance(data, dict):
            raise Lost(f"its answer is no JSON object: {answer[:60]!r}")
        if "error" in data:
            raise refusals.of_error(data)
        return data

    def _headers(self, token: str) -> dict[str, str]:
        return {**_HEADERS, "Authorization": token} if token else _HEADERS


def unavailable(failures: dict[Endpoint, str]) -> Unavailable:
    """Return the error that names each endpoint and why it does not serve."""
    reasons = "; ".join(f"{endpoint}: {why}" for endpoint, why in failures.items())
    return Unavailable(f"no etcd endpoint answers: {reasons}", hint="see that etcd runs there")
