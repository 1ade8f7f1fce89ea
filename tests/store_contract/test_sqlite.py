"""The SQLite store keeps the contract."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.store_contract.patience import PATIENCE_S
from tests.store_contract.place import Place
from tests.store_contract.suite import StoreContract

from netloom.model.datastore import Store
from netloom.store.sqlite import SqliteStore


@dataclass
class SqlitePlace:
    """A database in a directory of the test's own."""

    path: Path
    least_ttl_s: float = 0.2

    @property
    def url(self) -> str:
        return f"sqlite://{self.path}"

    def open(self) -> Store:
        return SqliteStore(str(self.path), busy_s=PATIENCE_S)

    def forget_history(self) -> None:
        with sqlite3.connect(self.path) as database:
            database.execute("DELETE FROM history")
            database.execute("UPDATE state SET compacted = revision")


class TestSqlite(StoreContract):
    @pytest.fixture
    def place(self, tmp_path: Path) -> Place:
        return SqlitePlace(tmp_path / "store" / "cluster.db")
