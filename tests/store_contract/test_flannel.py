"""The store contract holds behind flannel's layout too, for our own keys and any others."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.store_contract.place import Place
from tests.store_contract.suite import StoreContract
from tests.store_contract.test_sqlite import SqlitePlace

from netloom.model.datastore import Store
from netloom.store.flannel.adapter import FlannelStore
from netloom.store.sqlite import SqliteStore


@dataclass
class FlannelPlace(SqlitePlace):
    """The same database, seen through the adapter."""

    def open(self) -> Store:
        return FlannelStore(SqliteStore(str(self.path)))


class TestFlannelOverSqlite(StoreContract):
    @pytest.fixture
    def place(self, tmp_path: Path) -> Place:
        return FlannelPlace(tmp_path / "store" / "cluster.db")
