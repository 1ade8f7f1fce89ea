"""A host's own record is what its agent says, whatever another hand made of it in the store."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.unit.views import facts, host

from netloom.agent.registration import Registration
from netloom.model.datastore import Put, Store, Transaction
from netloom.model.host import Host
from netloom.model.keys import CLUSTER, host_key
from netloom.model.view import Cluster
from netloom.reconcile import cluster as fold
from netloom.store.flannel.adapter import FlannelStore
from netloom.store.flannel.layout import Format
from netloom.store.sqlite import SqliteStore

OWN = facts("192.168.31.62/24")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    opened = SqliteStore(str(tmp_path / "cluster.db"))
    yield opened
    opened.close()


def picture(store: Store, before: Cluster | None = None) -> Cluster:
    return fold.from_listing(store.list(CLUSTER), store.store_id, before)


def put(store: Store, host_id: str, value: bytes) -> None:
    store.commit(Transaction([Put(host_key(host_id), value)]))


def record(store: Store, host_id: str) -> bytes:
    entry = store.get(host_key(host_id))
    assert entry is not None
    return entry.value


@pytest.mark.parametrize(
    "value", [b"", b"{", b'{"id": "h1", "underlay": "here"}', b'{"id": "h1", "name": 1}']
)
def test_an_own_record_that_cannot_be_read_is_written_anew(
    store: SqliteStore, value: bytes
) -> None:
    """Its last good form stays in use here, so that nothing else would ever mend it."""
    agent = Registration("h1", "h1", lambda: 0.0)
    agent.sync(store, Cluster(), OWN, ())
    good = picture(store)
    put(store, "h1", value)
    agent.sync(store, (broken := picture(store, good)), OWN, ())
    assert host_key("h1") in fold.unreadable(broken)
    assert Host.parse(json.loads(record(store, "h1"))) == good.hosts["h1"]
    mended = picture(store, broken)
    assert not mended.problems
    revision = mended.revision
    agent.sync(store, mended, OWN, ())
    assert picture(store).revision == revision, "and then there is nothing to write"


def test_an_older_agent_does_not_say_what_a_newer_one_said_of_the_host(
    store: SqliteStore,
) -> None:
    """After a downgrade: nobody may go on relying on what this agent does not do."""
    agent = Registration("h1", "h1", lambda: 0.0)
    agent.sync(store, Cluster(), OWN, ())
    own = json.loads(record(store, "h1"))
    put(store, "h1", json.dumps(own | {"ofANewerVersion": 1}).encode())
    newer = picture(store)
    assert not newer.problems
    Registration("h1", "h1", lambda: 0.0).sync(store, newer, OWN, ())
    assert json.loads(record(store, "h1")) == own


def test_anothers_record_that_cannot_be_read_is_left_to_him(store: SqliteStore) -> None:
    put(store, "h2", json.dumps(host("h2", "192.168.31.63").render()).encode())
    good = picture(store)
    put(store, "h2", b"{")
    Registration("h1", "h1", lambda: 0.0).sync(store, picture(store, good), OWN, ())
    assert record(store, "h2") == b"{"


def test_the_same_holds_beside_flannels_keys(tmp_path: Path) -> None:
    raw = SqliteStore(str(tmp_path / "etcd.db"))
    form = Format("/coreos.com/network")
    store = FlannelStore(SqliteStore(str(tmp_path / "etcd.db")), form)
    agent = Registration("h1", "h1", lambda: 0.0)
    agent.sync(store, Cluster(), OWN, ())
    good = picture(store)
    raw.commit(Transaction([Put(form.raw(host_key("h1")), b"{")]))
    agent.sync(store, (broken := picture(store, good)), OWN, ())
    assert host_key("h1") in fold.unreadable(broken)
    assert host_key("h1") not in fold.unreadable(picture(store, broken))
    store.close()
    raw.close()


def test_the_record_says_what_the_kernel_can_make_as_soon_as_that_is_another(
    store: SqliteStore,
) -> None:
    can = {"ipip": False, "vxlan": True}
    agent = Registration("h1", "h1", lambda: 0.0, devices=lambda: can)
    agent.sync(store, Cluster(), OWN, ())
    assert picture(store).hosts["h1"].devices == {"ipip": False, "vxlan": True}
    can["ipip"] = True
    agent.sync(store, picture(store), OWN, ())
    assert picture(store).hosts["h1"].devices == {"ipip": True, "vxlan": True}


def test_the_record_of_an_older_agent_says_nothing_of_its_kernel() -> None:
    assert Host.parse({"id": "h1"}).devices == {}
