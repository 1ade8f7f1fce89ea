"""etcd's faults, with real members: nothing is lost, nothing comes twice, all comes back by itself.

Each test hurts a cluster of three, and leaves it whole.
"""

from __future__ import annotations

import base64
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.store_contract.etcd_cluster import EtcdCluster, cluster
from tests.store_contract.etcd_follower import Follower, following, put_surely, surely

from netloom.lab.etcd import Member, datastore_url
from netloom.model.datastore import Delete, Put, Transaction
from netloom.model.errors import Unavailable
from netloom.store.etcd.store import EtcdStore
from netloom.store.etcd.watch import QUIET_S

pytestmark = pytest.mark.skipif(not shutil.which("etcd"), reason="etcd-server is not installed")
LONG_ANSWER_S = 15.0
CLAIMANT = str(Path(__file__).with_name("etcd_claimant.py"))


@pytest.fixture(scope="module")
def whole(run_id: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[EtcdCluster]:
    with cluster(run_id, "ef", 3, tmp_path_factory.mktemp("etcd")) as made:
        yield made


@pytest.fixture
def etcd(whole: EtcdCluster) -> Iterator[EtcdCluster]:
    """The cluster, empty; whole again afterwards."""
    whole.wipe()
    yield whole
    whole.heal()


@pytest.fixture
def store(etcd: EtcdCluster) -> Iterator[EtcdStore]:
    store = surely(lambda: EtcdStore(etcd.url))
    yield store
    store.close()


def first(etcd: EtcdCluster, member: Member) -> str:
    """Return the URL that names ``member`` first, which is who is asked first."""
    return datastore_url([member, *(other for other in etcd.members if other != member)])


def followed(etcd: EtcdCluster, store: EtcdStore) -> Follower:
    """Return a follower that has seen its first event."""
    follower = following(store)
    revision = put_surely(store, "/f/first", b"1")
    follower.until(lambda f: f.seen == [revision], "a first event")
    return follower


def test_a_killed_leader_costs_no_event_and_no_listing(etcd: EtcdCluster):
    leader = etcd.leader()
    store = surely(lambda: EtcdStore(first(etcd, leader)))
    follower = followed(etcd, store)
    for number in range(10):
        if number == 3:
            etcd.kill(leader)
        put_surely(store, f"/f/{number % 4}", b"%d" % number)
    follower.finish()
    assert follower.listings == 1
    assert len(follower.seen) == 11
    store.close()


def test_a_lost_majority_is_said_and_its_return_is_noticed(etcd: EtcdCluster, store: EtcdStore):
    """Each endpoint is named with its reason; the watch goes on from where it was."""
    follower = followed(etcd, store)
    gone = etcd.members[1:]
    etcd.kill(*gone)
    follower.until(lambda f: f.away, "the watch says that the store is away")
    for member in etcd.members:
        named = f"{member.endpoint}: "
        follower.until(lambda f, named=named: named in f.why, f"{named} the reason")  # type: ignore[misc]
    with pytest.raises(Unavailable):
        store.commit(Transaction([Put("/f/x", b"")]))
    etcd.start(*gone)
    put_surely(store, "/f/after", b"x")
    follower.finish()
    assert follower.listings == 1


def test_a_whole_cluster_that_restarts_is_the_same_store(etcd: EtcdCluster, store: EtcdStore):
    before = store.store_id
    lease = store.grant(3600)
    store.commit(Transaction([Put("/leased", b"", lease)]))
    follower = followed(etcd, store)
    etcd.kill()
    follower.until(lambda f: f.away, "the watch says that the store is away")
    etcd.start()
    put_surely(store, "/f/after", b"x")
    follower.finish()
    assert follower.listings == 1
    assert store.store_id == before
    assert surely(lambda: store.keep_alive(lease))


@pytest.mark.parametrize("how", ["hangs", "is cut off by a black hole"])
def test_a_watch_leaves_a_member_that_is_silent(etcd: EtcdCluster, how: str):
    """No connection is reset: only silence tells."""
    member = etcd.members[0]
    store = surely(lambda: EtcdStore(first(etcd, member)))
    follower = followed(etcd, store)
    if how == "hangs":
        etcd.hang(member)
    else:
        etcd.cut(member)
    other = surely(lambda: EtcdStore(datastore_url(etcd.members[1:])))
    revision = put_surely(other, "/f/after", b"x")
    follower.until(lambda f: revision in f.seen, "the event, by another member")
    assert surely(lambda: store.get("/f/after")) is not None
    follower.finish()
    assert follower.listings == 1
    store.close()
    other.close()


def test_a_member_without_its_cluster_is_left_by_the_watch(etcd: EtcdCluster):
    """It answers, it pings, it would be silent for ever: it has lost its leader."""
    member = etcd.members[0]
    store = surely(lambda: EtcdStore(first(etcd, member)))
    follower = followed(etcd, store)
    etcd.isolate(member)
    other = surely(lambda: EtcdStore(datastore_url(etcd.members[1:])))
    revision = put_surely(other, "/f/after", b"x")
    follower.until(lambda f: revision in f.seen, "the event, by another member")
    follower.finish()
    assert follower.listings == 1
    store.close()
    other.close()


def test_a_cut_from_all_members_ends_as_it_began(etcd: EtcdCluster, store: EtcdStore):
    follower = followed(etcd, store)
    etcd.cut(*etcd.members)
    follower.until(lambda f: f.away, "the watch says that the store is away")
    etcd.mend(*etcd.members)
    put_surely(store, "/f/after", b"x")
    follower.finish()
    assert follower.listings == 1


def test_closing_does_not_wait_for_a_member_that_is_silent(
    etcd: EtcdCluster, monkeypatch: pytest.MonkeyPatch
):
    """An agent that is told to stop stops, whatever its store does."""
    monkeypatch.setattr("netloom.store.etcd.watch.ANSWER_S", LONG_ANSWER_S)
    monkeypatch.setattr("netloom.store.etcd.transport.ANSWER_S", LONG_ANSWER_S)
    member = etcd.members[0]
    store = surely(lambda: EtcdStore(datastore_url([member])))
    watch = store.watch("/f/", store.list("/f/").revision)
    assert watch.next(0) is None
    etcd.cut(member)
    told: list[object] = []
    reader = threading.Thread(target=lambda: told.append(watch.next(None)), daemon=True)
    reader.start()
    reader.join(QUIET_S * 1.5)  # by now it asks the member, which does not answer
    assert reader.is_alive()
    store.close()
    told.append("closed")
    reader.join(LONG_ANSWER_S * 4)
    assert told == ["closed", None], "whoever closes is not kept until the reader gives up"


def test_compaction_past_what_was_seen_means_to_list_again(etcd: EtcdCluster):
    """The picture is never empty meanwhile, and a deletion in between is not missed."""
    member = etcd.members[0]
    store = surely(lambda: EtcdStore(datastore_url([member])))
    follower = followed(etcd, store)
    put_surely(store, "/f/gone", b"x")
    follower.until(lambda f: "/f/gone" in f.picture, "the second event")
    etcd.cut(member)
    follower.until(lambda f: f.away, "the watch says that the store is away")
    other = surely(lambda: EtcdStore(datastore_url(etcd.members[1:])))
    surely(lambda: other.commit(Transaction([Delete("/f/gone")])))
    put_surely(other, "/f/new", b"x")
    etcd.compact(etcd.members[1:])
    etcd.mend(member)
    follower.until(lambda f: f.listings == 2, "a second listing")
    follower.finish()
    assert set(follower.picture) == {"/f/first", "/f/new"}
    assert min(follower.sizes[1:]) > 0
    store.close()
    other.close()


def test_a_deletion_at_the_compacted_revision_is_not_missed(etcd: EtcdCluster, store: EtcdStore):
    """The watch would begin there and leave the deletion out (etcd issue 18089)."""
    seen = store.commit(Transaction([Put("/f/a", b"1")])).revision
    store.commit(Transaction([Delete("/f/a")]))
    etcd.compact()
    put_surely(store, "/f/b", b"1")
    batch = store.watch("/f/", seen).next(60)
    assert batch is not None
    assert batch.compacted


def test_a_restored_snapshot_is_noticed_by_all_at_whatever_revision(
    etcd: EtcdCluster, store: EtcdStore, tmp_path: Path
):
    """Same names, same cluster id: who comes late sees a new mark, though no lower revision."""
    late = surely(lambda: EtcdStore(etcd.url))
    before = store.store_id
    put_surely(store, "/f/old", b"x")
    etcd.save(tmp_path / "snapshot")
    for number in range(5):
        put_surely(store, "/f/lost", b"%d" % number)
    seen = late.list("/f/").revision
    follower = following(store)
    etcd.kill()
    etcd.restore(tmp_path / "snapshot")
    etcd.start()
    follower.until(lambda f: f.listings == 2, "a second listing")
    follower.finish()
    assert set(follower.picture) == {"/f/old"}
    assert store.store_id != before
    while (now := surely(lambda: store.list("")).revision) <= seen:
        put_surely(store, "/f/new", b"%d" % now)
    batch = late.watch("/f/", seen).next(60)
    assert batch is not None
    assert batch.compacted
    assert surely(lambda: late.list("/f/")).revision > seen
    assert late.store_id == store.store_id
    late.close()


def test_another_cluster_in_the_same_place_is_another_store(etcd: EtcdCluster, store: EtcdStore):
    before = store.store_id
    follower = followed(etcd, store)
    etcd.kill()
    for member in etcd.members:
        shutil.rmtree(member.data)
    etcd.start()
    follower.until(lambda f: f.listings == 2, "a second listing")
    follower.finish()
    assert follower.picture == {}
    assert store.store_id != before
    fresh = surely(lambda: EtcdStore(etcd.url))
    assert fresh.store_id == store.store_id
    fresh.close()


def test_keys_that_are_no_text_and_values_of_any_kind_stop_nobody(
    etcd: EtcdCluster, store: EtcdStore
):
    follower = followed(etcd, store)
    poison = b"/f/\xff\xfe"
    request = {"key": base64.b64encode(poison).decode(), "value": base64.b64encode(b"\0{").decode()}
    etcd.call("/v3/kv/put", request)
    revision = put_surely(store, "/f/good", b"x")
    follower.until(lambda f: revision in f.seen, "the event after the poison")
    assert "/f/\\xff\\xfe" in follower.picture
    follower.finish()


def test_thirty_hosts_that_claim_blocks_at_once_get_thirty_blocks(etcd: EtcdCluster):
    """All start on an empty store, which none of them has opened before."""
    crowd = [
        subprocess.Popen(
            [sys.executable, CLAIMANT, etcd.url, f"h{number}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(30)
    ]
    for process in crowd:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in crowd:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    said = [process.communicate(timeout=240) for process in crowd]
    assert [process.returncode for process in crowd] == [0] * 30, [error for _, error in said]
    lines = [output.split() for output, _ in said]
    assert len({store_id for store_id, _ in lines}) == 1
    assert len({block for _, block in lines}) == 30
