"""What a host keeps of the cluster on its disk, and what the next run makes of it."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from netloom.agent.watcher import SAVE_AFTER_S, StoreWatcher
from netloom.lab.waiting import wait_until
from netloom.model import keys
from netloom.model.datastore import Delete, Put, Store, Transaction
from netloom.model.view import Cluster
from netloom.store.flannel.adapter import FlannelStore
from netloom.store.sqlite import SqliteStore

ROOT = "/coreos.com/network"
LEASE = f"{ROOT}/subnets/10.5.7.0-24"
VALUE = (
    b'{"PublicIP":"192.168.31.7","PublicIPv6":null,"BackendType":"vxlan",'
    b'"BackendData":{"VNI":1,"VtepMAC":"c6:d2:32:6f:8f:44"}}'
)
OTHER = VALUE.replace(b"vxlan", b"host-gw")
SOON_S = 12 * SAVE_AFTER_S


class Place:
    """A store's file and a host's state directory; ``runs`` are the agents' watchers in turn."""

    def __init__(self, folder: Path, *, flannels: bool) -> None:
        self.folder, self.flannels = folder, flannels
        self.raw = SqliteStore(str(folder / "store.db"))
        self.watcher: StoreWatcher | None = None

    def put(self, key: str, value: bytes) -> None:
        lease = self.raw.grant(3600) if key == LEASE else 0
        self.raw.commit(Transaction([Put(key, value, lease)]))

    def delete(self, key: str) -> None:
        self.raw.commit(Transaction([Delete(key)]))

    def open(self) -> Store:
        store = SqliteStore(str(self.folder / "store.db"))
        return FlannelStore(store) if self.flannels else store

    def begin(self) -> Cluster:
        """Start the next run; return its first picture."""
        first = threading.Event()
        self.watcher = StoreWatcher(self.open, self.folder / "cluster.json", first.set)
        self.watcher.start()
        assert first.wait(SOON_S)
        assert self.watcher.cluster is not None
        return self.watcher.cluster

    def end(self) -> None:
        if self.watcher:
            self.watcher.stop()

    def until_problems(self, number: int) -> None:
        watcher = self.watcher
        assert watcher is not None
        wait_until(
            lambda: watcher.cluster and len(set(watcher.cluster.problems)) == number,
            deadline_s=SOON_S,
            what=f"{number} problems",
        )


@pytest.fixture
def flannels(tmp_path: Path) -> Iterator[Place]:
    place = Place(tmp_path, flannels=True)
    place.put(f"{ROOT}/config", b'{"Network": "10.5.0.0/16", "Backend": {"Type": "vxlan"}}')
    place.put(LEASE, VALUE)
    yield place
    place.end()
    place.raw.close()


@pytest.fixture
def ours(tmp_path: Path) -> Iterator[Place]:
    place = Place(tmp_path, flannels=False)
    yield place
    place.end()
    place.raw.close()


@pytest.mark.parametrize("broken", [b"{", b"", b"[1]", OTHER])
@pytest.mark.parametrize("seen", ["while it ran", "at its start"])
def test_a_lease_that_turned_unreadable_keeps_its_host_over_restarts(
    flannels: Place, broken: bytes, seen: str
) -> None:
    """Both of them stand: the block, and the host by which it is reached."""
    good = flannels.begin()
    assert (len(good.blocks), len(good.hosts)) == (1, 1)
    if seen == "while it ran":
        flannels.put(LEASE, broken)
        flannels.until_problems(1)
        flannels.end()
    else:
        flannels.end()
        flannels.put(LEASE, broken)
    for _ in range(2):
        after = flannels.begin()
        assert (after.blocks, after.hosts) == (good.blocks, good.hosts)
        assert len(set(after.problems)) == 1
        flannels.end()
    flannels.begin()
    flannels.put(LEASE, VALUE)
    flannels.until_problems(0)
    flannels.end()
    assert flannels.begin().hosts == good.hosts


def test_a_lease_that_is_deleted_while_nobody_looks_is_gone(flannels: Place) -> None:
    """What is remembered keeps only what the store says that it cannot be read."""
    flannels.begin()
    flannels.put(LEASE, b"{")
    flannels.until_problems(1)
    flannels.end()
    flannels.delete(LEASE)
    after = flannels.begin()
    assert not after.blocks
    assert not after.hosts
    assert after.problems == ()


def test_a_record_of_ours_that_turned_unreadable_keeps_its_last_good_form_over_restarts(
    tmp_path: Path,
) -> None:
    place = Place(tmp_path, flannels=False)
    key = keys.host_key("h2")
    host = {"id": "h2", "name": "h2", "underlay": {"ipv4": "192.168.31.2"}}
    place.put(key, json.dumps(host).encode())
    good = place.begin()
    assert "h2" in good.hosts
    place.put(key, b"{")
    place.until_problems(1)
    place.end()
    try:
        assert place.begin().hosts == good.hosts
    finally:
        place.end()
        place.raw.close()


def test_what_changes_without_a_rest_is_kept_too(
    ours: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An agent that is killed in a busy cluster begins with a picture of a few seconds ago."""
    monkeypatch.setattr("netloom.agent.watcher.SAVE_AFTER_S", 0.5)
    ours.begin()
    kept = ours.folder / "cluster.json"
    wait_until(kept.exists, deadline_s=SOON_S, what="the first picture")
    before = ours.raw.list("").revision

    def later_one() -> bool:
        ours.put(f"{keys.HOSTS}busy", b'{"id": "busy", "name": "busy"}')
        return bool(json.loads(kept.read_bytes())["revision"] > before)

    wait_until(later_one, deadline_s=SOON_S, what="a later picture", pause_s=0.1)
