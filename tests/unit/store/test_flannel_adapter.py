"""Our agents' contract on flannel's keys: what each side writes, the other one understands."""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from netloom.model import keys
from netloom.model.datastore import Compare, Delete, Put, Store, Transaction
from netloom.model.errors import InvalidConfig
from netloom.model.host import Block, Host
from netloom.model.network import Network
from netloom.model.view import Cluster
from netloom.reconcile.cluster import fold, from_listing
from netloom.reconcile.holding import hold_blocks
from netloom.store.flannel.adapter import FlannelStore
from netloom.store.flannel.holding import APART_S
from netloom.store.flannel.layout import Format
from netloom.store.flannel.watch import GRACE_S
from netloom.store.sqlite import SqliteStore

PREFIX = "/coreos.com/network"
PATIENCE_S = 60.0  # no test waits this long unless it fails
CONFIG = '{"Network":"10.244.0.0/16","Backend":{"Type":"vxlan"}}'
DUAL = (
    '{"Network":"10.244.0.0/16","EnableIPv6":true,"IPv6Network":"fd00:244::/48",'
    '"Backend":{"Type":"vxlan"}}'
)
MAC = "c6:d2:32:6f:8f:44"


def theirs(address: str, mac: str = MAC, backend: str = "vxlan") -> str:
    data = f',"BackendData":{{"VNI":1,"VtepMAC":"{mac}"}}' if backend == "vxlan" else ""
    return f'{{"PublicIP":"{address}","PublicIPv6":null,"BackendType":"{backend}"{data}}}'


def our_host(number: int = 1, **more: object) -> Host:
    return Host.parse(
        {
            "id": f"h{number}",
            "name": f"h{number}",
            "underlay": {"ipv4": f"192.168.31.{number}", "ipv6": f"fd00:31::{number}"},
            "macs": {"default": f"02:00:00:00:00:0{number}"},
            **more,
        }
    )


class World:
    """One raw store, and adapters on it as the agents of several hosts have them.

    ``now_s`` is what their clocks show.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.now_s = 1000.0
        self.raw = SqliteStore(str(path))
        self.stores: list[Store] = [self.raw]

    def put(self, key: str, value: str, ttl_s: float = 0) -> None:
        """Write as flannel's daemon or etcdctl would."""
        lease = self.raw.grant(ttl_s) if ttl_s else 0
        self.raw.commit(Transaction([Put(f"{PREFIX}/{key}", value.encode(), lease)]))

    def delete(self, key: str) -> None:
        self.raw.commit(Transaction([Delete(f"{PREFIX}/{key}")]))

    def text(self, key: str) -> str | None:
        entry = self.raw.get(f"{PREFIX}/{key}")
        return entry.value.decode() if entry else None

    def leases(self) -> dict[str, dict[str, object]]:
        entries = self.raw.list(f"{PREFIX}/subnets/").entries
        return {e.key.rpartition("/")[2]: json.loads(e.value) for e in entries}

    def open(self, **form: object) -> FlannelStore:
        layout = Format(PREFIX, **form)  # type: ignore[arg-type]
        store = FlannelStore(SqliteStore(str(self.path)), layout, clock=lambda: self.now_s)
        self.stores.append(store)
        return store

    def agent(self, number: int = 1) -> FlannelStore:
        """Return a store on which host ``number``'s agent has said that it is alive and where."""
        store = self.open()
        lease = store.grant(600)
        store.commit(Transaction([Put(keys.alive_key(f"h{number}"), b"{}", lease)]))
        self.register(store, our_host(number))
        return store

    def register(self, store: Store, host: Host) -> None:
        put = Put(keys.host_key(host.id), json.dumps(host.render()).encode())
        assert store.commit(Transaction([put])).succeeded


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path / "etcd.db")
    yield made
    for store in made.stores:
        store.close()


def cluster_of(store: Store, before: Cluster | None = None) -> Cluster:
    return from_listing(store.list(keys.CLUSTER), store.store_id, before or Cluster())


def network_of(store: Store) -> Network:
    return cluster_of(store).networks["default"]


def test_a_host_that_runs_flannels_daemon_is_a_host_with_a_block(world: World):
    world.put("config", CONFIG)
    world.put("subnets/10.244.7.0-24", theirs("192.168.31.7"), ttl_s=60)
    cluster = cluster_of(world.open())
    (block,) = cluster.blocks.values()
    assert block == Block(
        "default", ipaddress.ip_network("10.244.7.0/24"), "flannel-192.168.31.7", True
    )
    host = cluster.hosts[block.host_id]
    assert str(host.underlay4) == "192.168.31.7"
    assert host.macs == {"default": MAC}
    assert cluster.networks["default"].backend.label in host.serves["default"]
    assert cluster.problems == ()


def test_a_claim_writes_the_lease_that_flannels_daemon_would_write(world: World):
    world.put("config", CONFIG)
    store = world.agent(1)
    (block,) = hold_blocks(store, network_of(store), "h1")
    assert str(block.cidr) == "10.244.1.0/24"  # flannel leaves the first one out
    assert world.text("subnets/10.244.1.0-24") == theirs("192.168.31.1", "02:00:00:00:00:01")
    entry = world.raw.get(f"{PREFIX}/subnets/10.244.1.0-24")
    assert entry is not None
    assert entry.lease != 0
    assert cluster_of(store).hosts.keys() == {"h1"}


def test_a_claim_passes_by_what_flannels_daemons_hold(world: World):
    world.put("config", CONFIG)
    for number in (1, 2, 4):
        world.put(f"subnets/10.244.{number}.0-24", theirs(f"192.168.31.10{number}"), ttl_s=60)
    first, second = world.agent(1), world.agent(2)
    (one,) = hold_blocks(first, network_of(first), "h1")
    (two,) = hold_blocks(second, network_of(second), "h2")
    assert len({one.cidr, two.cidr}) == 2
    assert not {"10.244.1.0/24", "10.244.2.0/24", "10.244.4.0/24"} & {str(one.cidr), str(two.cidr)}
    assert len(world.leases()) == 5


def test_with_two_families_one_key_holds_a_block_of_each(world: World):
    world.put("config", DUAL)
    world.put(
        "subnets/10.244.9.0-24&fd00:244:0:1::-64",
        '{"PublicIP":"192.168.31.9","PublicIPv6":"fd00:31::9","BackendType":"vxlan",'
        f'"BackendData":{{"VNI":1,"VtepMAC":"{MAC}"}},'
        '"BackendV6Data":{"VNI":1,"VtepMAC":"c6:00:00:00:00:06"}}',
        ttl_s=60,
    )
    store = world.agent(1)
    blocks = hold_blocks(store, network_of(store), "h1")
    # the IPv6 block of the same number is taken, so it gets the lowest free one
    assert [str(block.cidr) for block in blocks] == ["10.244.1.0/24", "fd00:244:0:2::/64"]
    assert all(block.confirmed for block in blocks)
    lease = world.leases()["10.244.1.0-24&fd00:244:0:2::-64"]
    assert lease["PublicIPv6"] == "fd00:31::1"
    assert lease["BackendV6Data"] == {"VNI": 1, "VtepMAC": "02:00:00:00:00:01"}
    cluster = cluster_of(store)
    assert len(cluster.blocks) == 4
    assert cluster.hosts["flannel-192.168.31.9"].macs["default/6"] == "c6:00:00:00:00:06"


def test_our_host_takes_over_the_lease_that_flannels_daemon_left(world: World):
    world.put("config", CONFIG)
    world.put("subnets/10.244.33.0-24", theirs("192.168.31.1"), ttl_s=60)
    store = world.agent(1)
    (block,) = hold_blocks(store, network_of(store), "h1")
    assert str(block.cidr) == "10.244.33.0/24"
    assert world.leases() == {
        "10.244.33.0-24": json.loads(theirs("192.168.31.1", "02:00:00:00:00:01"))
    }
    assert set(cluster_of(store).hosts) == {"h1"}


def test_a_reservation_without_a_lease_stays_without_and_stays_reserved(world: World):
    world.put("config", CONFIG)
    world.put("subnets/10.244.1.0-24", '{"PublicIP":"192.168.31.1"}')
    world.put("subnets/10.244.2.0-24", '{"PublicIP":"192.168.31.99"}')
    second, first = world.agent(2), world.agent(1)
    (other,) = hold_blocks(second, network_of(second), "h2")
    (ours,) = hold_blocks(first, network_of(first), "h1")
    assert str(other.cidr) == "10.244.3.0/24"
    assert str(ours.cidr) == "10.244.1.0/24"
    for number in (1, 2):
        entry = world.raw.get(f"{PREFIX}/subnets/10.244.{number}.0-24")
        assert entry is not None
        assert entry.lease == 0
    assert cluster_of(first).problems == ()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("subnets/x", "y"),
        ("subnets/10.244.5.0-24/more", "{}"),
        ("subnets/10.244.5.0-24", "not json"),
        ("subnets/10.244.5.0-24", "[]"),
        ("subnets/10.244.5.0-24&x", "{}"),
        ("subnets-foo/10.244.5.0-24", "z"),
        ("netloom/leases/10.244.7.0-24", "\x00"),
        ("netloom/backend", "{"),
        ("netloom/cluster/hosts/h1", "{"),
        ("netloom/cluster/blocks/default/10.244.5.0-24", "{}"),
        ("netloom/cluster/networks/default", "{}"),
    ],
)
def test_a_poison_key_takes_nothing_away(world: World, key: str, value: str):
    world.put("config", CONFIG)
    world.put("subnets/10.244.7.0-24", theirs("192.168.31.7"), ttl_s=60)
    store = world.agent(1)
    hold_blocks(store, network_of(store), "h1")
    listing = store.list(keys.CLUSTER)
    before = from_listing(listing, store.store_id)
    with_watch = store.watch(keys.CLUSTER, listing.revision)
    world.put(key, value)
    batch = with_watch.next(PATIENCE_S)
    assert batch is not None
    followed = fold(before, batch)
    listed = cluster_of(store, before)
    for cluster in (followed, listed):
        assert cluster.blocks == before.blocks
        assert cluster.hosts == before.hosts
        assert cluster.networks == before.networks
    assert followed.problems == listed.problems
    if key.startswith(("subnets/", "netloom/cluster/hosts/")):
        assert followed.problems[0].subject == f"key {PREFIX}/{key}"
        assert "etcdctl del" in followed.problems[0].remedy


def test_a_lease_that_turns_unreadable_keeps_its_last_good_form_until_it_is_mended(world: World):
    world.put("config", CONFIG)
    world.put("subnets/10.244.7.0-24", theirs("192.168.31.7"), ttl_s=60)
    store = world.open()
    listing = store.list(keys.CLUSTER)
    cluster = good = from_listing(listing, store.store_id)
    watch = store.watch(keys.CLUSTER, listing.revision)
    for value, words in (
        ("{", "not JSON"),
        (theirs("192.168.31.7", backend="host-gw"), "BackendType is 'host-gw'"),
        (theirs("192.168.31.7").replace('"VNI":1', '"VNI":9'), "BackendData.VNI is 9"),
    ):
        world.put("subnets/10.244.7.0-24", value, ttl_s=60)
        batch = watch.next(PATIENCE_S)
        assert batch is not None
        cluster = fold(cluster, batch)
        listed = cluster_of(store, good)
        for each in (cluster, listed):
            assert (each.blocks, each.hosts) == (good.blocks, good.hosts), "a way leads there still"
            assert words in each.problems[0].text
    world.put("subnets/10.244.7.0-24", theirs("192.168.31.7"), ttl_s=60)
    batch = watch.next(PATIENCE_S)
    assert batch is not None
    cluster = fold(cluster, batch)
    assert cluster.problems == ()
    assert (cluster.blocks, cluster.hosts) == (good.blocks, good.hosts)


def test_an_agent_that_starts_beside_a_lease_that_fits_no_more_keeps_what_it_knew(world: World):
    world.put("config", CONFIG)
    world.put("subnets/10.244.7.0-24", theirs("192.168.31.7"), ttl_s=60)
    good = cluster_of(world.open())
    world.put("subnets/10.244.7.0-24", theirs("192.168.31.7", backend="host-gw"), ttl_s=60)
    after = cluster_of(world.open(), good)
    assert (after.blocks, after.hosts) == (good.blocks, good.hosts)


def test_an_agent_that_starts_beside_a_lease_that_nobody_can_read_asks_its_own_memory(world: World):
    """Such a lease names no host: only what an earlier run saw tells whose block that is."""
    world.put("config", DUAL)
    both = theirs("192.168.31.7").replace('"PublicIPv6":null', '"PublicIPv6":"fd00:31::7"')
    data = f'{{"VNI":1,"VtepMAC":"{MAC}"}}'
    value = both[:-1] + f',"BackendV6Data":{data}}}'
    world.put("subnets/10.244.7.0-24&fd00:244:0:7::-64", value, ttl_s=60)
    earlier = world.open()
    good, kept = cluster_of(earlier), earlier.list(keys.CLUSTER).entries
    assert good.hosts
    world.put("subnets/10.244.7.0-24&fd00:244:0:7::-64", "{", ttl_s=60)
    store = world.open()
    store.recall(kept)
    after = cluster_of(store, good)
    assert (after.blocks, after.hosts) == (good.blocks, good.hosts)
    assert len(set(after.problems)) == 1, "block, block and host are one lease"
    world.put("subnets/10.244.7.0-24&fd00:244:0:7::-64", value, ttl_s=60)
    assert cluster_of(store, after) == replace(good, revision=world.raw.list("").revision)


@pytest.mark.parametrize(
    ("segment", "why"),
    [
        ("10.9.9.0-24", "10.9.9.0/24 is no part of the network 10.244.0.0/16"),
        ("10.244.0.0-16", "10.244.0.0/16 is no part"),
        ("10.0.0.0-8", "10.0.0.0/8 is no part"),
        ("0.0.0.0-0", "0.0.0.0/0 is no part"),
    ],
)
@pytest.mark.parametrize("ttl_s", [0, 60])
def test_a_lease_that_is_no_part_of_the_network_is_named_and_nobodys(
    world: World, segment: str, why: str, ttl_s: int
):
    """Routes to it would take packets from where they belong: all of ours, or another's."""
    world.put("config", CONFIG)
    world.put(f"subnets/{segment}", theirs("192.168.31.7"), ttl_s=ttl_s)
    store = world.agent(1)
    cluster = cluster_of(store)
    assert not cluster.blocks
    assert set(cluster.hosts) == {"h1"}
    (problem,) = set(cluster.problems)
    assert why in problem.text
    assert problem.subject == f"key {PREFIX}/subnets/{segment}"
    (block,) = hold_blocks(store, network_of(store), "h1")
    assert block.cidr.subnet_of(ipaddress.IPv4Network("10.244.0.0/16"))  # type: ignore[arg-type]
    world.delete(f"subnets/{segment}")
    assert cluster_of(store, cluster).problems == ()


@pytest.mark.parametrize("config", [None, '{"Network": "10.244.0.0/33"}', "{"])
def test_a_lease_that_was_there_before_the_config_is_judged_by_it(world: World, config: str | None):
    """Until then nobody knows what network it is in: nothing leads there."""
    if config is not None:
        world.put("config", config)
    world.put("subnets/10.244.0.0-16", theirs("192.168.31.7"), ttl_s=60)
    world.put("subnets/10.244.8.0-24", theirs("192.168.31.8"), ttl_s=60)
    store = world.open()
    listing = store.list(keys.CLUSTER)
    early = from_listing(listing, store.store_id)
    assert not early.blocks
    assert len(set(early.problems)) == 1, "that of the config, once"
    watch = store.watch(keys.CLUSTER, listing.revision)
    world.put("config", CONFIG)
    batch = watch.next(PATIENCE_S)
    assert batch is not None
    for cluster in (fold(early, batch), cluster_of(store, early)):
        assert [str(cidr) for _, cidr in cluster.blocks] == ["10.244.8.0/24"]
        assert set(cluster.hosts) == {"flannel-192.168.31.8"}
        assert len(set(cluster.problems)) == 1
    world.delete("config")
    gone = watch.next(PATIENCE_S)
    assert gone is not None
    after = fold(fold(early, batch), gone)
    assert [str(cidr) for _, cidr in after.blocks] == ["10.244.8.0/24"]
    assert set(after.hosts) == {"flannel-192.168.31.8"}


def test_another_network_in_the_config_takes_no_lease_from_who_has_it(world: World):
    world.put("config", CONFIG)
    world.put("subnets/10.244.7.0-24", theirs("192.168.31.7"), ttl_s=60)
    store = world.open()
    good = cluster_of(store)
    world.put("config", CONFIG.replace("10.244", "10.99"))
    after = cluster_of(store, good)
    assert (after.blocks, after.hosts) == (good.blocks, good.hosts)
    assert "10.244.7.0/24 is no part of the network 10.99.0.0/16" in after.problems[0].text


def test_a_lease_that_is_deleted_after_it_could_not_be_read_takes_its_host_along(world: World):
    world.put("config", CONFIG)
    world.put("subnets/10.244.7.0-24", theirs("192.168.31.7"), ttl_s=60)
    store = world.open()
    good = cluster_of(store)
    world.put("subnets/10.244.7.0-24", "{", ttl_s=60)
    assert cluster_of(store, good).hosts == good.hosts
    world.delete("subnets/10.244.7.0-24")
    assert cluster_of(store, good).hosts == {}
    assert cluster_of(store, good).problems == ()


def test_a_missing_config_is_asked_for_by_its_key_and_taken_when_it_appears(world: World):
    store = world.open()
    listing = store.list(keys.CLUSTER)
    cluster = from_listing(listing, store.store_id)
    assert f"there is no key {PREFIX}/config" in cluster.problems[0].text
    watch = store.watch(keys.CLUSTER, listing.revision)
    world.put("config", CONFIG)
    batch = watch.next(PATIENCE_S)
    assert batch is not None
    cluster = fold(cluster, batch)
    assert "default" in cluster.networks
    assert cluster.problems == ()


def test_a_config_that_goes_or_breaks_takes_nothing_with_it(world: World):
    world.put("config", CONFIG)
    store = world.open()
    listing = store.list(keys.CLUSTER)
    cluster = from_listing(listing, store.store_id)
    network = cluster.networks["default"]
    watch = store.watch(keys.CLUSTER, listing.revision)
    world.put("config", '{"Network": "10.244.0.0/16",}')
    batch = watch.next(PATIENCE_S)
    assert batch is not None
    cluster = fold(cluster, batch)
    assert cluster.networks["default"] == network
    assert "line 1 column 29" in cluster.problems[0].text
    world.delete("config")
    batch = watch.next(PATIENCE_S)
    assert batch is not None
    assert fold(cluster, batch).networks["default"] == network


def test_following_gives_what_listing_gives(world: World):
    """Path independence through the translation: a watch from the start equals a listing."""
    store = world.open()
    listing = store.list(keys.CLUSTER)
    followed = from_listing(listing, store.store_id)
    watch = store.watch(keys.CLUSTER, listing.revision)
    world.put("subnets/10.244.7.0-24", theirs("192.168.31.7"), ttl_s=60)
    world.put("config", CONFIG)
    world.put("subnets/10.244.8.0-24", theirs("192.168.31.8"))
    agent = world.agent(1)
    hold_blocks(agent, network_of(agent), "h1")
    world.put("subnets/10.244.7.0-24", theirs("192.168.31.77"), ttl_s=60)
    world.delete("subnets/10.244.8.0-24")
    world.put("config", CONFIG.replace("}}", ',"DirectRouting":true}}'))
    target = store.list(keys.CLUSTER)
    while followed.revision < target.revision:
        batch = watch.next(PATIENCE_S)
        assert batch is not None
        followed = fold(followed, batch)
    listed = from_listing(target, store.store_id)
    assert followed == listed


def test_an_own_lease_that_is_revoked_is_put_back_and_nobody_above_hears_of_it(world: World):
    world.put("config", CONFIG)
    store = world.agent(1)
    hold_blocks(store, network_of(store), "h1")
    listing = store.list(keys.CLUSTER)
    cluster = from_listing(listing, store.store_id)
    watch = store.watch(keys.CLUSTER, listing.revision)
    entry = world.raw.get(f"{PREFIX}/subnets/10.244.1.0-24")
    assert entry is not None
    world.raw.revoke(entry.lease)
    assert world.leases() == {}
    seen = cluster
    while "10.244.1.0-24" not in world.leases() or seen.revision == cluster.revision:
        batch = watch.next(PATIENCE_S)
        assert batch is not None
        seen = fold(seen, batch)
        assert seen.blocks == cluster.blocks
    again = world.raw.get(f"{PREFIX}/subnets/10.244.1.0-24")
    assert again is not None
    assert again.lease not in (0, entry.lease)
    assert again.value == entry.value
    alive = world.raw.get(f"{PREFIX}-netloom/{keys.alive_key('h1').removeprefix(keys.ROOT)}")
    assert alive is not None
    store.keep_alive(alive.lease)
    assert world.raw.get(f"{PREFIX}/subnets/10.244.1.0-24") == again

    world.now_s += APART_S  # for flannel's daemon, which drops what comes together
    store.keep_alive(alive.lease)
    repeated = world.raw.get(f"{PREFIX}/subnets/10.244.1.0-24")
    assert repeated is not None
    assert repeated.value == again.value
    assert repeated.mod_revision > again.mod_revision
    store.keep_alive(alive.lease)
    assert world.raw.get(f"{PREFIX}/subnets/10.244.1.0-24") == repeated


@pytest.mark.parametrize("fate", ["is put back", "stays away", "is given back"])
def test_a_lease_that_another_host_of_ours_lost_is_waited_for(world: World, fate: str):
    """Its containers are there: the others let go only when it stays away, or is given back."""
    world.put("config", CONFIG)
    owner, peer = world.agent(1), world.agent(2)
    hold_blocks(owner, network_of(owner), "h1")
    listing = peer.list(keys.CLUSTER)
    cluster = from_listing(listing, peer.store_id)
    watch = peer.watch(keys.CLUSTER, listing.revision)

    def told() -> bool:
        """Follow for as long as something is there; tell whether the block went."""
        nonlocal cluster
        while (batch := watch.next(0)) is not None:
            cluster = fold(cluster, batch)
        return not cluster.blocks

    (key,) = (f"subnets/{segment}" for segment in world.leases())
    entry = world.raw.get(f"{PREFIX}/{key}")
    assert entry is not None
    if fate == "is given back":
        world.delete(f"netloom/cluster/{keys.host_key('h1').removeprefix(keys.CLUSTER)}")
    world.raw.revoke(entry.lease)
    assert told() is (fate == "is given back")
    if fate == "is put back":
        owner.list(keys.CLUSTER)
        assert key.removeprefix("subnets/") in world.leases()
    world.now_s += GRACE_S - 0.1
    assert told() is (fate == "is given back")
    world.now_s += 0.1
    assert told() is (fate != "is put back")


def test_a_lease_of_another_host_of_ours_that_is_deleted_as_the_remedy_says_is_waited_for(
    world: World,
):
    """Unreadable it names nobody, yet what stands beside it does: its host puts it back."""
    world.put("config", CONFIG)
    owner, peer = world.agent(1), world.agent(2)
    hold_blocks(owner, network_of(owner), "h1")
    owner.list(keys.CLUSTER)  # as its watch shows it
    (segment,) = world.leases()
    listing = peer.list(keys.CLUSTER)
    cluster = good = from_listing(listing, peer.store_id)
    watch = peer.watch(keys.CLUSTER, listing.revision)
    world.put(f"subnets/{segment}", "x", ttl_s=60)
    batch = watch.next(PATIENCE_S)
    assert batch is not None
    cluster = fold(cluster, batch)
    world.delete(f"subnets/{segment}")
    owner.list(keys.CLUSTER)
    assert segment in world.leases()
    while cluster.problems:
        batch = watch.next(PATIENCE_S)
        assert batch is not None
        cluster = fold(cluster, batch)
        assert cluster.blocks == good.blocks


def test_an_own_lease_that_ended_while_the_store_was_away_is_back_in_the_first_listing(
    world: World,
):
    world.put("config", CONFIG)
    store = world.agent(1)
    hold_blocks(store, network_of(store), "h1")
    before = cluster_of(store)
    world.delete("subnets/10.244.1.0-24")
    world.delete("netloom/leases/10.244.1.0-24")
    assert cluster_of(store).blocks == before.blocks
    assert "10.244.1.0-24" in world.leases()


def test_a_block_that_another_took_meanwhile_is_theirs(world: World):
    world.put("config", CONFIG)
    store = world.agent(1)
    hold_blocks(store, network_of(store), "h1")
    holders = world.raw.get(f"{PREFIX}/subnets/10.244.1.0-24")
    assert holders is not None
    world.raw.commit(
        Transaction(
            [
                Put(f"{PREFIX}/subnets/10.244.1.0-24", theirs("192.168.31.7").encode()),
                Delete(f"{PREFIX}/netloom/leases/10.244.1.0-24"),
            ]
        )
    )
    (block,) = cluster_of(store).blocks.values()
    assert block.host_id == "flannel-192.168.31.7"
    (fresh,) = hold_blocks(store, network_of(store), "h1")
    assert str(fresh.cidr) == "10.244.2.0/24"


def test_two_hosts_with_one_public_address_are_both_named(world: World):
    world.put("config", CONFIG)
    store = world.agent(1)
    hold_blocks(store, network_of(store), "h1")
    # a clone with flannel's daemon finds "its" lease and writes itself into it
    world.put("subnets/10.244.1.0-24", theirs("192.168.31.1", "c6:00:00:00:00:99"), ttl_s=60)
    world.register(store, our_host(1, name="renamed"))  # and we do not fight over the key
    cluster = cluster_of(store)
    assert {
        host.id for host in cluster.hosts.values() if str(host.underlay4) == "192.168.31.1"
    } == {
        "h1",
        "flannel-192.168.31.1",
    }
    (block,) = cluster.blocks.values()
    assert block.host_id == "h1"
    # and two clones with flannel's daemon
    world.put("subnets/10.244.7.0-24", theirs("192.168.31.7"), ttl_s=60)
    world.put("subnets/10.244.8.0-24", theirs("192.168.31.7", "c6:00:00:00:00:08"), ttl_s=60)
    texts = [problem.text for problem in cluster_of(store).problems]
    assert any("10.244.7.0-24" in text and "10.244.8.0-24" in text for text in texts)


def test_a_changed_address_or_backend_is_written_into_the_own_lease(world: World):
    world.put("config", CONFIG)
    store = world.agent(1)
    hold_blocks(store, network_of(store), "h1")
    moved = our_host(1, underlay={"ipv4": "192.168.31.111"})
    world.register(store, moved)
    assert world.leases()["10.244.1.0-24"]["PublicIP"] == "192.168.31.111"
    world.put("config", CONFIG.replace("vxlan", "host-gw"))
    world.register(store, our_host(1, underlay={"ipv4": "192.168.31.111"}, macs={}))
    assert world.text("subnets/10.244.1.0-24") == theirs("192.168.31.111", backend="host-gw")


def test_an_edit_of_the_config_by_hand_retires_the_old_backend(world: World):
    world.put("config", CONFIG)
    store = world.agent(1)
    hold_blocks(store, network_of(store), "h1")
    world.put("subnets/10.244.7.0-24", theirs("192.168.31.7"), ttl_s=60)
    world.put("config", CONFIG.replace("vxlan", "host-gw"))
    cluster = cluster_of(store)
    network = cluster.networks["default"]
    assert (network.backend.type, [c.type for c in network.retiring]) == ("host-gw", ["vxlan"])
    # flannel's daemon serves what its lease says until it is started anew
    assert cluster.hosts["flannel-192.168.31.7"].serves["default"] == (network.retiring[0].label,)
    text = world.text("config")
    done = Network.parse({**network.render(), "retiring": []})
    entry = store.get(keys.network_key("default"))
    assert entry is not None
    assert json.loads(entry.value) == network.render()
    put = Put(entry.key, json.dumps(done.render()).encode())
    assert store.commit(Transaction([put], [Compare(entry.key, entry.mod_revision)])).succeeded
    assert network_of(store) == done
    assert world.text("config") == text


def test_our_verbs_change_and_delete_the_network_and_its_leases_go(world: World):
    world.put("config", CONFIG)
    store, verb = world.agent(1), world.open()
    hold_blocks(store, network_of(store), "h1")
    entry = verb.get(keys.network_key("default"))
    assert entry is not None
    wanted = {**json.loads(entry.value), "backend": {"type": "vxlan", "vni": 5}}
    put = Put(entry.key, json.dumps(wanted).encode())
    assert verb.commit(Transaction([put], [Compare(entry.key, entry.mod_revision)])).succeeded
    assert not verb.commit(Transaction([put], [Compare(entry.key, entry.mod_revision)])).succeeded
    assert json.loads(world.text("config") or "")["Backend"]["VNI"] == 5
    verb.commit(Transaction([Delete(entry.key)]))
    assert "default" not in cluster_of(verb).networks
    assert cluster_of(verb).problems == ()
    world.register(store, our_host(1))
    assert world.leases() == {}


def test_what_the_config_leaves_out_is_reserved_and_only_the_config_frees_it(world: World):
    world.put("config", CONFIG)
    store = world.open()
    (reservation,) = cluster_of(store).reservations.values()
    assert str(reservation.cidr) == "10.244.0.0/24"
    key = keys.reservation_key("default", reservation.cidr)
    with pytest.raises(InvalidConfig, match="not ours to delete"):
        store.commit(Transaction([Delete(key)]))


def test_our_own_records_stand_beside_flannels_and_are_found_by_prefix(world: World):
    world.put("config", CONFIG)
    store = world.agent(1)
    assert world.raw.get(f"{PREFIX}/netloom/cluster/hosts/h1") is not None
    assert world.raw.get(f"{PREFIX}-netloom/alive/h1") is not None
    assert [e.key for e in store.list(keys.ALIVE).entries] == [keys.alive_key("h1")]
    assert [e.key for e in store.list(keys.HOSTS).entries] == [keys.host_key("h1")]


@pytest.mark.parametrize(
    ("form", "field"),
    [
        ({"prefix": "/"}, "prefix"),
        ({"prefix": ""}, "prefix"),
        ({"ttl_s": 1.0}, "ttl"),
        ({"network": "No Name"}, "network"),
    ],
)
def test_a_format_that_cannot_be_is_refused_by_field(form: dict[str, object], field: str):
    with pytest.raises(InvalidConfig) as caught:
        Format(**form)  # type: ignore[arg-type]
    assert caught.value.field == field


def test_a_listing_at_which_no_watch_began_in_time_is_let_go_but_not_the_agents(world: World):
    world.put("config", CONFIG)
    store = FlannelStore(SqliteStore(str(world.path)), Format(PREFIX), recent_s=0)
    world.stores.append(store)
    lease = store.grant(30)
    agents, others = store.list(keys.CLUSTER), store.list(keys.HOSTS)
    assert store.keep_alive(lease)
    late = store.watch(keys.HOSTS, others.revision).next(0)
    assert late is not None
    assert late.compacted
    begun = store.watch(keys.CLUSTER, agents.revision)
    world.put("subnets/10.244.7.0-24", theirs("192.168.31.7"), ttl_s=60)
    batch = begun.next(PATIENCE_S)
    assert batch is not None
    assert not batch.compacted
