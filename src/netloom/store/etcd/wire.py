"""Keys, entries and transactions as the gateway's JSON: bytes in base64, int64 as text.

The messages are those of etcd's rpc.proto and kv.proto; a field that is zero is left out.
"""

from __future__ import annotations

import base64
from typing import Any

from netloom.model.datastore import Compare, Delete, Entry, Event, Put, Transaction
from netloom.model.keys import STORE_MARK


def encode(data: bytes) -> str:
    """Return bytes as the gateway wants them."""
    return base64.b64encode(data).decode("ascii")


class Keyspace:
    """Our keys inside etcd's: each behind ``prefix``."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix.encode()

    def key(self, key: str) -> str:
        """Return one key for a request."""
        return encode(self._prefix + key.encode())

    def below(self, prefix: str) -> dict[str, str]:
        """Return the range of the keys that start with ``prefix``."""
        start = self._prefix + prefix.encode()
        return {"key": encode(start or b"\0"), "range_end": encode(_after(start))}

    def after(self, key: str, prefix: str) -> dict[str, str]:
        """Return the part of that range behind ``key``, as it came in an answer (base64)."""
        return {**self.below(prefix), "key": encode(base64.b64decode(key) + b"\0")}

    def entry(self, kv: dict[str, Any]) -> Entry:
        """Return an entry from an answer.

        A key that is not UTF-8 is no key of ours, yet may stand below our prefix: it is shown
        with backslashes.
        """
        created, changed = int(kv.get("create_revision", 0)), int(kv.get("mod_revision", 0))
        return Entry(
            self._text(kv),
            base64.b64decode(kv.get("value", "")),
            created,
            created if changed == created else changed,  # one number, not two that are equal
            int(kv.get("lease", 0)),
        )

    def event(self, event: dict[str, Any]) -> Event:
        """Return an event of a watch."""
        if event.get("type") == "DELETE":
            return Event(self._text(event["kv"]), None)
        entry = self.entry(event["kv"])
        return Event(entry.key, entry)

    def transaction(self, transaction: Transaction) -> dict[str, Any]:
        """Return the request.

        A transaction without operations would be answered by a member from what it happens to
        know; with a read in it, by the cluster. Of several operations on a key the last counts;
        etcd refuses them, so the others are left out.
        """
        last = {operation.key: operation for operation in transaction.operations}
        reading = []
        if not last:
            key = transaction.compares[0].key if transaction.compares else STORE_MARK
            reading = [{"request_range": {"key": self.key(key), "keys_only": True}}]
        return {
            "compare": [self._compare(compare) for compare in transaction.compares],
            "success": [self._operation(operation) for operation in last.values()] or reading,
            "failure": reading,
        }

    def _compare(self, compare: Compare) -> dict[str, Any]:
        return {
            "key": self.key(compare.key),
            "target": "MOD",
            "result": "EQUAL",
            "mod_revision": str(compare.mod_revision),
        }

    def _operation(self, operation: Put | Delete) -> dict[str, Any]:
        key = self.key(operation.key)
        if isinstance(operation, Delete):
            return {"request_delete_range": {"key": key}}
        put = {"key": key, "value": encode(operation.value), "lease": str(operation.lease)}
        return {"request_put": put}

    def _text(self, kv: dict[str, Any]) -> str:
        key = base64.b64decode(kv["key"])[len(self._prefix) :]
        return key.decode(errors="backslashreplace")


def _after(start: bytes) -> bytes:
    """Return the end of the range of keys that start with ``start``; NUL stands for no end."""
    stem = start.rstrip(b"\xff")
    return stem[:-1] + bytes([stem[-1] + 1]) if stem else b"\0"
