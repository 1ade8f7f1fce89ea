"""The store contract holds behind flannel's layout too, for our own keys and any others."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.store_contract.patience import PATIENCE_S
from tests.store_contract.place import Place
from tests.store_contract.suite import StoreContract
from tests.store_contract.test_sqlite import SqlitePlace

from netloom.model.datastore import Store
from netloom.store.flannel.adapter import FlannelStore


@dataclass
class FlannelPlace(SqlitePlace):
    """The same database, seen through the adapter."""

    def open(self) -> Store:
        return FlannelStore(super().open(), recent_s=PATIENCE_S)


class TestFlannelOverSqlite(StoreContract):
    @pytest.fixture
    def place(self, tmp_path: Path) -> Place:
        return FlannelPlace(tmp_path / "store" / "cluster.db")
