"""Which store this is, and whether it is still the one it was.

etcd's cluster id alone does not tell: a cluster restored from a snapshot with the same names has
the same id. So the first who opens a store writes a random mark below our root, and the store's id
is ``<cluster id>-<mark>``. Two things show that a store is no longer the one it was:

- another cluster id or another mark;
- a revision that is lower than one that was answered before the question was asked. Whoever meets
  it first writes a new mark, so that those who come when the revision has grown again notice too.

Each such change begins a new *epoch*: revisions read in one epoch mean nothing in the next.

Who was not here before the restore sees neither. He can see that there was one: every revision
costs an entry of the raft log, so a cluster whose revision is beyond its log took it from a
snapshot. How long ago he cannot see: he waits, for a few seconds, in any store ever restored.
"""

from __future__ import annotations

import base64
import os
import threading
import time
from typing import Any

from netloom.model.datastore import Compare, Put, Transaction
from netloom.model.errors import NotPermitted, Unavailable
from netloom.model.keys import STORE_MARK
from netloom.store.etcd.gateway import Answer, Gateway
from netloom.store.etcd.refusals import Refusal
from netloom.store.etcd.wire import Keyspace

FIRST_EPOCH = 1
#: Agents look for a store that is away every two seconds, and then claim what is theirs at once.
SETTLE_S = 8.0
_ATTEMPTS = 10


class Identity:
    """The identity of the store behind a gateway, checked with every answer of the cluster."""

    def __init__(self, gateway: Gateway, keyspace: Keyspace) -> None:
        self._gateway = gateway
        self._keys = keyspace
        self._mutex = threading.Lock()
        self._refreshing = threading.Lock()
        self._cluster = 0
        self._mark = ""
        self._seen = 0
        self._went_back = False
        self._stale = False
        self._met_s = 0.0
        self._restored: bool | None = None
        self.epoch = FIRST_EPOCH
        self._refresh()

    @property
    def store_id(self) -> str:
        """The id as last known."""
        return f"{self._cluster:016x}" + (f"-{self._mark}" if self._mark else "")

    @property
    def settled(self) -> bool:
        """Tell whether the hosts of before a restore had time to return. Raises Unavailable."""
        if time.monotonic() - self._met_s >= SETTLE_S:
            return True
        if self._restored is None:
            self._restored = self._was_restored()
        return not self._restored

    def ask(self, path: str, request: dict[str, Any], *, repeat: bool = True) -> Answer:
        """Call for an answer of the whole cluster (not of one member's memory) and look at it."""
        asked = self._position
        answer = self._gateway.call(path, request, repeat=repeat)
        self._observe(answer, asked)
        return answer

    def saw(self, revision: int, epoch: int) -> None:
        """Take note of a revision that a watch has delivered: no later answer may be below it."""
        with self._mutex:
            if epoch == self.epoch and not self._stale:
                self._seen = max(self._seen, revision)

    def settle(self) -> int:
        """Read the mark again if the store has become another one; return the epoch."""
        with self._refreshing:
            if self._stale:
                self._refresh()
        return self.epoch

    def probe(self, prefix: str) -> Answer:
        """Ask for nearly nothing, such that only a member in touch with its cluster can answer.

        The question is for the mark, so another one is noticed; who may not read it asks for the
        key ``prefix``.
        """
        asked = self._position
        key = STORE_MARK if self._mark else prefix
        request = {"key": self._keys.key(key) if key else "AA=="}
        answer = self._gateway.call("/v3/kv/range", request)
        current = key == STORE_MARK and asked[0] == self.epoch
        if current and _mark_in(answer.data)[0] != self._mark:
            self._begin_epoch(went_back=False)
        self._observe(answer, asked)
        self.settle()
        return answer

    @property
    def _position(self) -> tuple[int, int]:
        with self._mutex:
            return self.epoch, self._seen

    def _observe(self, answer: Answer, asked: tuple[int, int]) -> None:
        """Hold an answer against where the store was when the question was asked."""
        epoch, seen = asked
        if epoch != self.epoch:
            return  # it may be of the store as it was before
        if answer.cluster != self._cluster:
            self._begin_epoch(went_back=False)
        elif answer.revision < seen:
            self._begin_epoch(went_back=True)
        else:
            with self._mutex:
                self._seen = max(self._seen, answer.revision)

    def _begin_epoch(self, *, went_back: bool) -> None:
        with self._mutex:
            if self._stale:
                return  # somebody else noticed the same
            self._stale = True
            self._went_back = went_back
            self._seen = 0
            self.epoch += 1

    def _refresh(self) -> None:
        """Learn cluster and mark; write a mark where there is none or where it must be new."""
        request = {"key": self._keys.key(STORE_MARK)}
        for _ in range(_ATTEMPTS):
            try:
                answer = self._gateway.call("/v3/kv/range", request)
                mark, revision = _mark_in(answer.data)
                if not mark or (self._went_back and mark == self._mark):
                    self._write_mark(revision)
                    continue
            except NotPermitted:
                # a user who may not use our root (flannel's keys alone): the cluster's id must do
                answer, mark = self._gateway.call("/v3/maintenance/status", {}), ""
            with self._mutex:
                self._cluster, self._mark = answer.cluster, mark
                self._seen = answer.revision
                self._stale = self._went_back = False
                self._met_s, self._restored = time.monotonic(), None
            return
        raise Unavailable("the mark of the etcd store changes all the time")

    def _was_restored(self) -> bool:
        """Tell whether the revision is beyond what the raft log can have made of it."""
        try:
            told = self._gateway.call("/v3/maintenance/status", {})
        except (NotPermitted, Refusal):
            return False  # a user who may not ask must trust
        return told.revision > int(told.data.get("raftIndex", told.revision)) + 1

    def _write_mark(self, revision: int) -> None:
        """Write a new mark unless somebody else just did."""
        put = Put(STORE_MARK, os.urandom(8).hex().encode())
        transaction = Transaction((put,), (Compare(STORE_MARK, revision),))
        self._gateway.call("/v3/kv/txn", self._keys.transaction(transaction))


def _mark_in(data: dict[str, Any]) -> tuple[str, int]:
    """Return the mark and its revision, ("", 0) where there is none."""
    for kv in data.get("kvs", ()):
        value = base64.b64decode(kv.get("value", "")).decode(errors="backslashreplace")
        return value, int(kv["mod_revision"])
    return "", 0
