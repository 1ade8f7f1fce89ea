"""The etcd store keeps the contract, on one member and on three."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from tests.store_contract.etcd_cluster import EtcdCluster, cluster
from tests.store_contract.place import Place
from tests.store_contract.suite import StoreContract

from netloom.model.datastore import Store
from netloom.store.etcd.store import EtcdStore

pytestmark = pytest.mark.skipif(not shutil.which("etcd"), reason="etcd-server is not installed")
_numbers = itertools.count(1)


@dataclass
class EtcdPlace:
    """An etcd cluster, or the keys of one that start with a prefix of the test's own."""

    cluster: EtcdCluster
    prefix: str = ""
    least_ttl_s: float = 1.0  # etcd counts in seconds

    @property
    def url(self) -> str:
        return self.cluster.url + (f"?prefix={self.prefix}" if self.prefix else "")

    def open(self) -> Store:
        return EtcdStore(self.url)

    def forget_history(self) -> None:
        self.cluster.compact()


@pytest.fixture(scope="class")
def one_member(run_id: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[EtcdCluster]:
    with cluster(run_id, "ec1", 1, tmp_path_factory.mktemp("etcd")) as made:
        yield made


@pytest.fixture(scope="class")
def three_members(run_id: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[EtcdCluster]:
    with cluster(run_id, "ec3", 3, tmp_path_factory.mktemp("etcd")) as made:
        yield made


class TestOneMember(StoreContract):
    """Our keys are all keys of etcd."""

    @pytest.fixture
    def place(self, one_member: EtcdCluster) -> Place:
        one_member.wipe()
        return EtcdPlace(one_member)


class TestThreeMembers(StoreContract):
    """Our keys stand behind a prefix, among those of others."""

    @pytest.fixture
    def place(self, three_members: EtcdCluster) -> Place:
        return EtcdPlace(three_members, f"/tenant-{next(_numbers)}")
