"""Stores that wait for as long as a busy machine needs: a contract is not about speed. Not a test.

An agent takes a store that keeps it waiting for away, and comes back; no test of the contract does.
"""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

from netloom.model.datastore import Store
from netloom.store.opening import open_store
from netloom.store.sqlite import SqliteStore

PATIENCE_S = 60.0  # no test waits this long unless it fails


def be_patient(change: Callable[[ModuleType, str, float], object] = setattr) -> None:
    """Have ``change`` set the limits of all calls of etcd in this process."""
    from netloom.store.etcd import gateway, transport, watch

    for module, name in (
        (transport, "CONNECT_S"),
        (transport, "ANSWER_S"),
        (watch, "ANSWER_S"),
        (gateway, "CALL_S"),
    ):
        change(module, name, PATIENCE_S)


def opened(url: str) -> Store:
    """Open the store at ``url``."""
    if url.startswith("sqlite://"):
        return SqliteStore(url.removeprefix("sqlite://"), busy_s=PATIENCE_S)
    be_patient()
    return open_store(url)
