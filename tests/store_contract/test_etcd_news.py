"""Behind flannel's layout on etcd: the contract holds, and what is new is asked for alone."""

from __future__ import annotations

import ipaddress
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.store_contract.etcd_cluster import EtcdCluster, cluster
from tests.store_contract.patience import PATIENCE_S
from tests.store_contract.place import Place
from tests.store_contract.suite import StoreContract
from tests.store_contract.test_etcd import EtcdPlace

from netloom.model import keys
from netloom.model.datastore import Compare, Delete, Listing, Put, Store, Transaction
from netloom.store.etcd.store import PAGE, EtcdStore
from netloom.store.flannel.adapter import FlannelStore

pytestmark = pytest.mark.skipif(not shutil.which("etcd"), reason="etcd-server is not installed")
ROOT = "/coreos.com/network/"
CONFIG = b'{"Network":"10.244.0.0/16","Backend":{"Type":"host-gw"}}'


class FlannelPlace(EtcdPlace):
    """The same keys, seen through the adapter."""

    def open(self) -> Store:
        return FlannelStore(super().open(), recent_s=PATIENCE_S)


@pytest.fixture(scope="module")
def etcd(run_id: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[EtcdCluster]:
    with cluster(run_id, "en", 1, tmp_path_factory.mktemp("etcd")) as made:
        yield made


@pytest.fixture
def raw(etcd: EtcdCluster) -> Iterator[EtcdStore]:
    etcd.wipe()
    store = EtcdStore(etcd.url)
    yield store
    store.close()


class Counted(EtcdStore):
    """Counts its listings of flannel's keys."""

    listings = 0

    def list(self, prefix: str) -> Listing:
        self.listings += prefix == ROOT
        return super().list(prefix)


class TestFlannelOverEtcd(StoreContract):
    @pytest.fixture
    def place(self, etcd: EtcdCluster) -> Place:
        etcd.wipe()
        return FlannelPlace(etcd)


def lease(number: int) -> Put:
    value = f'{{"PublicIP":"192.0.2.{number}","PublicIPv6":null,"BackendType":"host-gw"}}'
    return Put(f"{ROOT}subnets/10.244.{number}.0-24", value.encode())


def hosts(store: Store) -> set[str]:
    entries = store.list(keys.HOSTS).entries
    return {entry.key.rpartition("-")[2] for entry in entries}


def commit(store: Store, *operations: Put | Delete) -> int:
    return store.commit(Transaction(operations)).revision


def fill(raw: Store) -> None:
    ttl = raw.grant(600)
    leases = [Put(each.key, each.value, ttl) for each in map(lease, (1, 2, 3))]
    commit(raw, Put(f"{ROOT}config", CONFIG), *leases)


def test_what_others_write_is_seen_without_another_listing(etcd: EtcdCluster, raw: EtcdStore):
    fill(raw)
    counted = Counted(etcd.url)
    store = FlannelStore(counted)
    try:
        assert hosts(store) == {"192.0.2.1", "192.0.2.2", "192.0.2.3"}
        ttl = raw.grant(600)
        commit(raw, Put(lease(4).key, lease(4).value, ttl), Put(lease(1).key, lease(9).value, ttl))
        assert hosts(store) == {"192.0.2.2", "192.0.2.3", "192.0.2.4", "192.0.2.9"}
        key = keys.block_key("default", ipaddress.ip_network("10.244.4.0/24"))
        assert store.get(key) is not None
        assert counted.listings == 1
    finally:
        store.close()


def test_what_others_delete_is_seen_even_where_as_many_came(etcd: EtcdCluster, raw: EtcdStore):
    fill(raw)
    store = FlannelStore(EtcdStore(etcd.url))
    try:
        assert len(hosts(store)) == 3
        commit(raw, Delete(lease(2).key), Put(lease(5).key, lease(5).value, raw.grant(600)))
        assert hosts(store) == {"192.0.2.1", "192.0.2.3", "192.0.2.5"}
        commit(raw, Delete(lease(3).key))
        assert hosts(store) == {"192.0.2.1", "192.0.2.5"}
        commit(raw, Delete(lease(1).key))
        commit(raw, Put(lease(1).key, lease(7).value, raw.grant(600)))  # gone, and there anew
        assert hosts(store) == {"192.0.2.5", "192.0.2.7"}
    finally:
        store.close()


def test_a_commit_that_failed_is_a_reason_to_list(etcd: EtcdCluster, raw: EtcdStore):
    fill(raw)
    counted = Counted(etcd.url)
    store = FlannelStore(counted)
    try:
        assert len(hosts(store)) == 3
        key = keys.block_key("default", ipaddress.ip_network("10.244.1.0/24"))
        assert not store.commit(Transaction([Delete(key)], [Compare(key, 0)])).succeeded
        assert len(hosts(store)) == 3
        assert counted.listings == 2
    finally:
        store.close()


def test_news_are_of_the_prefix_and_later_than_the_revision(raw: EtcdStore):
    commit(raw, Put("/a/1", b"1"), Put("/a/2", b"2"), Put("/b/1", b"3"))
    seen = raw.list("/a/").revision
    told = raw.newer("/a/", seen)
    assert told is not None
    assert (told[0].entries, told[1]) == ((), 2)
    commit(raw, Put("/b/1", b"4"))
    revision = commit(raw, Put("/a/2", b"5"), Put("/a/3", b"6"))
    told = raw.newer("/a/", seen)
    assert told is not None
    listing, count = told
    assert [(each.key, each.value) for each in listing.entries] == [("/a/2", b"5"), ("/a/3", b"6")]
    assert (listing.revision, count) == (revision, 3)


def test_more_news_than_a_page_are_a_reason_to_list(raw: EtcdStore):
    seen = raw.list("/a/").revision
    for start in range(0, PAGE + 1, 100):
        commit(raw, *(Put(f"/a/{number}", b"") for number in range(start, start + 100)))
    assert raw.newer("/a/", seen) is None


def test_a_store_restored_from_a_copy_is_listed_again(
    etcd: EtcdCluster, raw: EtcdStore, tmp_path: Path
):
    fill(raw)
    etcd.save(tmp_path / "copy")
    store = FlannelStore(EtcdStore(etcd.url))
    try:
        commit(raw, Put(lease(4).key, lease(4).value, raw.grant(600)), Delete(lease(1).key))
        assert hosts(store) == {"192.0.2.2", "192.0.2.3", "192.0.2.4"}
        etcd.kill()
        etcd.restore(tmp_path / "copy")
        etcd.start(*etcd.members)
        etcd.settled()
        assert hosts(store) == {"192.0.2.1", "192.0.2.2", "192.0.2.3"}
    finally:
        store.close()
