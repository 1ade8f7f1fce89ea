"""Much at once: listings of many pages, histories that etcd sends in fragments."""

from __future__ import annotations

import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.store_contract.etcd_cluster import EtcdCluster, cluster
from tests.store_contract.patience import PATIENCE_S
from tests.store_contract.watching import put

from netloom.model.datastore import Put, Transaction
from netloom.store.etcd.store import PAGE, EtcdStore

pytestmark = pytest.mark.skipif(not shutil.which("etcd"), reason="etcd-server is not installed")


@pytest.fixture(scope="module")
def etcd(run_id: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[EtcdCluster]:
    with cluster(run_id, "el", 1, tmp_path_factory.mktemp("etcd")) as made:
        yield made


@pytest.fixture
def store(etcd: EtcdCluster) -> Iterator[EtcdStore]:
    etcd.wipe()
    store = EtcdStore(etcd.url)
    yield store
    store.close()


def test_a_listing_of_many_pages_stands_at_one_revision(store: EtcdStore, etcd: EtcdCluster):
    """While it is read, another raises the first and the last key together, again and again."""
    wanted = [f"/many/{number:05}" for number in range(PAGE * 2 + 500)]
    for start in range(0, len(wanted), 100):
        store.commit(Transaction([Put(key, b"0") for key in wanted[start : start + 100]]))
    other = EtcdStore(etcd.url)
    stop = threading.Event()

    def write() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            value = b"%d" % number
            other.commit(Transaction([Put(wanted[0], value), Put(wanted[-1], value)]))

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _ in range(5):
            listing = store.list("/many/")
            assert [entry.key for entry in listing.entries] == wanted
            assert listing.entries[0].value == listing.entries[-1].value
            newest = max(entry.mod_revision for entry in listing.entries)
            assert newest <= listing.revision
    finally:
        stop.set()
        writer.join()
        other.close()


def test_a_listing_begins_again_when_history_goes_between_two_pages(
    store: EtcdStore, etcd: EtcdCluster
):
    """Compaction runs as fast as it can; each listing is whole all the same."""
    wanted = [f"/many/{number:05}" for number in range(PAGE + 10)]
    for start in range(0, len(wanted), 100):
        store.commit(Transaction([Put(key, b"0") for key in wanted[start : start + 100]]))
    for number in range(10):
        put(store, wanted[0], b"%d" % number)
        compacting = threading.Thread(target=etcd.compact)
        compacting.start()
        assert [entry.key for entry in store.list("/many/").entries] == wanted
        compacting.join()


def test_transactions_stay_whole_in_a_history_that_comes_in_fragments(store: EtcdStore):
    """Each is 1.2 MB, so that etcd has to cut what it sends of ten of them."""
    start = store.list("/big/").revision
    for number in range(10):
        puts = [Put(f"/big/{key}", b"%d" % number * 400_000) for key in "abc"]
        last = store.commit(Transaction(puts)).revision
    watch = store.watch("/big/", start)
    seen: dict[int, list[str]] = {}
    told = 0
    while told < last:
        batch = watch.next(PATIENCE_S)
        assert batch is not None
        for event in batch.events:
            assert event.entry is not None
            assert event.entry.mod_revision > told, "a revision was cut in two"
            seen.setdefault(event.entry.mod_revision, []).append(event.key)
        told = batch.revision
    assert list(seen.values()) == [["/big/a", "/big/b", "/big/c"]] * 10


def test_a_sqlite_store_does_not_load_what_etcd_needs(tmp_path: Path):
    code = (
        "import sys; from netloom.store.opening import open_store;"
        f"open_store('sqlite://{tmp_path}/x.db').close();"
        "sys.exit(bool({'http.client', 'ssl'} & sys.modules.keys()))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
