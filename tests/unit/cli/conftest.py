"""A datastore of the test's own, and the command line run in this process."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from netloom.cli.main import run
from netloom.model.datastore import Put, Store, Transaction
from netloom.store.opening import open_store


class Said(NamedTuple):
    """What one run of the command line left."""

    code: int
    out: str
    err: str

    @property
    def data(self) -> Any:
        assert self.code in (0, 6, 10), self.err
        return json.loads(self.out)


@pytest.fixture
def run_dir() -> Iterator[Path]:
    """A folder with a path short enough for sockets."""
    with tempfile.TemporaryDirectory(prefix="nl-") as folder:
        yield Path(folder)


@pytest.fixture
def url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URL of an empty store, which every verb finds by its environment."""
    text = f"sqlite://{tmp_path}/cluster.db"
    monkeypatch.setenv("NETLOOM_DATASTORE", text)
    return text


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    opened = open_store(url)
    yield opened
    opened.close()


@pytest.fixture
def netloom(url: str, capsys: pytest.CaptureFixture[str]) -> Callable[..., Said]:
    def call(*args: str) -> Said:
        capsys.readouterr()
        try:
            code = run(list(args))
        except SystemExit as leave:
            code = int(leave.code or 0)
        return Said(code, *capsys.readouterr())

    return call


@pytest.fixture
def put(store: Store) -> Callable[[str, Any], int]:
    def write(key: str, document: Any) -> int:
        value = document if isinstance(document, bytes) else json.dumps(document).encode()
        return store.commit(Transaction([Put(key, value)])).revision

    return write
