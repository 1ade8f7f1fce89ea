"""From a URL to a store, or to a sentence that helps."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from netloom.model.datastore import Put, Transaction
from netloom.model.errors import InvalidConfig
from netloom.store.opening import check_url, open_store


def test_a_sqlite_url_opens_the_file_at_its_absolute_path(tmp_path: Path):
    store = open_store(f"sqlite://{tmp_path}/cluster.db")
    store.commit(Transaction([Put("/a", b"")]))
    store.close()
    assert (tmp_path / "cluster.db").exists()


@pytest.mark.parametrize("name", ["a b.db", "50%.db", "what?.db", "no#1.db", "dätä.db", "a'b.db"])
def test_any_file_name_is_taken_literally(tmp_path: Path, name: str):
    open_store(f"sqlite://{tmp_path}/{name}").close()
    assert (tmp_path / name).exists()


def test_a_symbolic_link_leads_to_the_one_real_store(tmp_path: Path):
    real, link = tmp_path / "real" / "cluster.db", tmp_path / "link.db"
    link.symlink_to(real)
    first = open_store(f"sqlite://{real}")
    second = open_store(f"sqlite://{link}")
    assert first.store_id == second.store_id
    first.close()
    second.close()


@pytest.mark.parametrize(
    ("url", "message", "hint"),
    [
        ("/var/lib/x.db", "is not a datastore URL", "sqlite:///"),
        ("", "is not a datastore URL", "sqlite:///"),
        ("sqlite://", "no absolute path", "sqlite:///"),
        ("sqlite://state/x.db", "no absolute path", f"sqlite://{os.path.abspath('state/x.db')}"),
        ("sqlite:///var/lib/", "names a directory", "name a file"),
        ("sqlit:///x.db", "unknown datastore 'sqlit'", "did you mean 'sqlite'?"),
        ("redis://h:1", "unknown datastore 'redis'", "sqlite"),
        ("etcd://h1", "endpoint 'h1' has no port", "h1:2379"),
        ("etcd://h1:2379?prefx=/a", "unknown option 'prefx'", "prefix"),
        ("kubernetes://", "kubernetes datastore cannot be used yet", "SQLite"),
    ],
)
def test_a_wrong_url_is_refused_with_the_remedy(url: str, message: str, hint: str):
    for refuse in (open_store, check_url):
        with pytest.raises(InvalidConfig, match=message) as caught:
            refuse(url)
        assert caught.value.field == "datastore"
        assert caught.value.value == url
        assert hint in caught.value.hint


def test_a_url_is_checked_without_what_it_leads_to(tmp_path: Path):
    """A file or a cluster that is away may come back: that is no fault of the URL."""
    check_url(f"sqlite://{tmp_path}/none/cluster.db")
    check_url(f"etcds://192.0.2.1:2379?user=me&password-file={tmp_path}/none&ca=/none")
    check_url("etcd://192.0.2.1:2379?format=flannel")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("module", ["sqlite3", "http.client", "ssl", "json"])
def test_naming_stores_does_not_load_what_they_need(module: str):
    """The short commands and the CNI front import this module."""
    code = f"import sys, netloom.store.opening; sys.exit({module!r} in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
