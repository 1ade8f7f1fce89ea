"""Watching etcd: a stream that is begun anew wherever it breaks, from the revision last seen.

No thread of its own: the caller's blocks in :meth:`EtcdWatch.next`, on the stream and on an
eventfd that closing sets.

etcd tells a watch that nothing happened only every ten minutes (and answers a request for it
wrongly in 3.4: etcd issues 15220, 17557), and a stream to a member that hangs is as silent as one
where nothing happens. So a stream that has been silent for ``QUIET_S`` is probed: the same member
is asked for a read that needs its cluster. No answer: the stream is begun again elsewhere. An
answer at a later revision: a member queues a change for its watches before it shows it to readers,
so if the stream stays silent for ``GRACE_S`` more, nothing below our prefix happened up to that
revision, and the caller is told so. Should a change come later all the same it is delivered: after
a break the stream begins where it has *delivered*, not where progress was told.
"""

from __future__ import annotations

import json
import random
import threading
import time
from collections import deque
from typing import Any

from netloom.model.datastore import Batch
from netloom.model.errors import NetloomError, NotPermitted, Unavailable
from netloom.model.keys import STORE_MARK
from netloom.store.etcd import refusals
from netloom.store.etcd.gateway import Gateway, unavailable
from netloom.store.etcd.identity import Identity
from netloom.store.etcd.refusals import Refusal
from netloom.store.etcd.stream import LineStream, Wake
from netloom.store.etcd.transport import ANSWER_S, Lost, Unreached
from netloom.store.etcd.url import Endpoint
from netloom.store.etcd.wire import Keyspace

QUIET_S = 2.0
GRACE_S = 0.5
_ATTEMPTS = 8
_PAUSE_S = 0.1


class EtcdWatch:
    """A watch on one prefix; see ``model.datastore.Watch``. ``start``: prefix, revision, epoch."""

    def __init__(
        self, gateway: Gateway, identity: Identity, keys: Keyspace, start: tuple[str, int, int]
    ) -> None:
        self._gateway = gateway
        self._identity = identity
        self._keys = keys
        self._prefix, self._seen, self._epoch = start
        self._told = self._seen
        self._stream: LineStream | None = None
        self._fragments: list[dict[str, Any]] = []
        self._batches: deque[Batch] = deque()
        self._promise = 0  # the revision that will have been seen when the grace has passed
        self._quiet_since = 0.0
        self._quiet_s = QUIET_S
        self._ended = False
        self._wake: Wake | None = Wake()
        self._reader = threading.Lock()
        self._closing = threading.Lock()

    def next(self, timeout_s: float | None = None) -> Batch | None:
        """Block until something changed; None when ``timeout_s`` passed or the watch has ended."""
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        try:
            with self._reader:
                return self._next(deadline)
        except Unavailable:
            if self._ended:
                return None  # closed meanwhile, perhaps with the whole store
            raise
        finally:
            if self._ended:
                self._release()

    def close(self) -> None:
        """End the watch; idempotent, callable from any thread.

        Does not wait for a reader that is waiting for a member: it leaves when that has answered.
        """
        self._ended = True
        with self._closing:
            if self._wake is not None:
                self._wake.set()
        self._release()

    def _next(self, deadline: float | None) -> Batch | None:
        while not self._ended and self._wake is not None:
            if self._batches:
                return self._tell(self._batches.popleft())
            if self._stream is None:
                self._begin(self._wake)
                continue
            left_s = self._until_probe()
            if deadline is not None:
                left_s = min(left_s, deadline - time.monotonic())
            self._listen(self._stream, self._wake, left_s)
            late = deadline is not None and time.monotonic() >= deadline
            if late and not self._batches:
                return None
        return None

    def _release(self) -> None:
        """Give back what is open; a reader that is still at it does so when it leaves."""
        if not self._reader.acquire(blocking=False):
            return
        try:
            self._drop()
            with self._closing:
                if self._wake is not None:
                    self._wake.close()
                    self._wake = None
        finally:
            self._reader.release()

    def _tell(self, batch: Batch) -> Batch:
        self._told = max(self._told, batch.revision)
        self._ended = self._ended or batch.compacted
        return batch

    def _begin(self, wake: Wake) -> None:
        """Begin a stream at a member that is in touch with its cluster. Raises Unavailable."""
        failures: dict[Endpoint, str] = {}
        for attempt in range(_ATTEMPTS):
            try:
                answer = self._identity.probe(self._prefix)
            except Refusal as refusal:
                raise Unavailable(f"etcd: {refusal}") from None
            if self._identity.epoch != self._epoch or answer.revision < self._seen:
                self._batches.append(Batch(answer.revision, compacted=True))
                return
            try:
                self._stream = self._open(answer.endpoint, wake)
                return
            except (Unreached, Lost, Refusal) as error:
                failures[answer.endpoint] = str(error)
                self._gateway.avoid(answer.endpoint)
            if wake.wait(_PAUSE_S * 1.5**attempt):
                return
        raise unavailable(failures)

    def _open(self, endpoint: Endpoint, wake: Wake) -> LineStream | None:
        """Return a stream whose watch has been made; None when woken by closing."""
        # From the revision that was seen, not the one after it: etcd begins a watch at the revision
        # of a compaction without complaint, though a deletion in it may be gone (etcd issue 18089).
        create = {
            **self._keys.below(self._prefix),
            "start_revision": str(max(1, self._seen)),
            "progress_notify": True,
            "fragment": True,
        }
        stream = self._gateway.stream(endpoint, "/v3/watch", {"create_request": create})
        deadline = time.monotonic() + ANSWER_S
        self._fragments = []
        self._stirred()
        try:
            while time.monotonic() < deadline:
                lines = stream.receive(deadline - time.monotonic(), wake)
                if self._ended:
                    return stream
                for line in lines:
                    self._take(stream, line)
                if lines:
                    return stream
            raise Lost("no answer in time")
        except (Lost, Refusal, NetloomError):
            stream.close()
            raise

    def _listen(self, stream: LineStream, wake: Wake, wait_s: float) -> None:
        """Take what comes within ``wait_s``; probe the member when it has been silent."""
        try:
            lines = stream.receive(wait_s, wake)
            for line in lines:
                self._take(stream, line)
        except (Lost, Refusal):
            self._drop()
            return
        except NetloomError:
            self._drop()
            raise
        if lines:
            self._stirred()
        elif self._until_probe() <= 0:
            self._look_closer(stream)

    def _until_probe(self) -> float:
        limit_s = GRACE_S if self._promise else self._quiet_s
        return self._quiet_since + limit_s - time.monotonic()

    def _stirred(self) -> None:
        self._promise = 0
        self._quiet_since = time.monotonic()
        self._quiet_s = QUIET_S * random.uniform(0.8, 1.2)  # noqa: S311 - agents need not look at once

    def _look_closer(self, stream: LineStream) -> None:
        """Keep the promise of the last probe, or probe; either way the silence begins anew."""
        promise = self._promise
        self._stirred()
        if promise:
            self._batches.append(Batch(promise))
            return
        try:
            answer = self._identity.probe(self._prefix)
        except (Unavailable, Refusal):
            self._drop()  # `_begin` tries once more, and says what is wrong
            return
        if self._identity.epoch != self._epoch:
            self._batches.append(Batch(answer.revision, compacted=True))
        elif answer.endpoint != stream.endpoint:
            self._drop()  # its own member did not answer
        elif answer.revision > self._told:
            self._promise, self._quiet_since = answer.revision, time.monotonic()

    def _take(self, stream: LineStream, line: bytes) -> None:
        """Take in one message of the stream. Raises Refusal, Lost."""
        if stream.status != 200:
            raise refusals.parse(stream.status, line)
        try:
            data = json.loads(line)
            if "error" in data:
                raise refusals.of_error(data)
            result = data["result"]
        except (ValueError, KeyError, TypeError):
            raise Lost(f"it sent what is no message: {line[:60]!r}") from None
        if result.get("canceled"):
            self._take_end(stream, result)
        elif not result.get("created"):
            self._take_events(result)

    def _take_end(self, stream: LineStream, result: dict[str, Any]) -> None:
        if "compact_revision" not in result:
            reason = str(result.get("cancel_reason", "no reason given"))
            if "permission denied" in reason:
                raise NotPermitted(
                    f"etcd at {stream.endpoint} lets user {self._gateway.url.user!r} read, but not "
                    f"watch all keys below {self._prefix}",
                    hint=refusals.GRANT,
                )
            raise Lost(f"it ended the watch: {reason}")
        revision = max(int(result["compact_revision"]), self._seen)
        self._batches.append(Batch(revision, compacted=True))

    def _take_events(self, result: dict[str, Any]) -> None:
        """Join fragments; what is left is whole revisions (etcd never splits one otherwise)."""
        raw = result.get("events", ())
        if not raw and not self._fragments:  # etcd's own sign of progress
            self._seen = max(self._seen, int(result["header"]["revision"]))
            if self._seen > self._told:
                self._batches.append(Batch(self._seen))
            return
        self._fragments += raw
        if result.get("fragment"):
            return
        fresh = [raw for raw in self._fragments if _revision(raw) > self._seen]
        self._fragments = []
        if not fresh:
            return
        self._seen = _revision(fresh[-1])
        self._identity.saw(self._seen, self._epoch)
        events = map(self._keys.event, fresh)
        ours = tuple(event for event in events if event.key != STORE_MARK)
        self._batches.append(Batch(max(self._seen, self._told), ours))

    def _drop(self) -> None:
        if self._stream is not None:
            self._stream.close()
            self._stream = None


def _revision(event: dict[str, Any]) -> int:
    return int(event["kv"]["mod_revision"])
