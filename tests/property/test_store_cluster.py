"""The cluster does not depend on the path that led to it."""

from __future__ import annotations

import ipaddress
import itertools
import json
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from netloom.model import keys
from netloom.model.datastore import Batch, Entry, Event, Listing
from netloom.model.host import Block, Host
from netloom.model.network import Network
from netloom.model.view import Cluster
from netloom.reconcile.cluster import fold, from_listing

HOSTS = st.builds(
    Host,
    id=st.sampled_from(["h1", "h2", "h3"]),
    name=st.sampled_from(["one", "two"]),
    underlay4=st.sampled_from([None, *map(ipaddress.ip_address, ("192.0.2.1", "192.0.2.2"))]),
)
CIDRS = st.sampled_from(
    [ipaddress.ip_network(c) for c in ("10.0.1.0/24", "10.0.2.0/24", "10.0.0.0/22", "fd00::/64")]
)
CLAIMS = st.builds(
    Block,
    network=st.sampled_from(["blue", "red"]),
    cidr=CIDRS,
    host_id=st.sampled_from(["h1", "h2"]),
    confirmed=st.booleans(),
)
LOANS = st.builds(
    Block,
    network=st.sampled_from(["blue", "red"]),
    cidr=st.sampled_from([ipaddress.ip_network(c) for c in ("10.0.1.7/32", "fd00::7/128")]),
    host_id=st.sampled_from(["h1", "h2"]),
    confirmed=st.booleans(),
    lender=st.sampled_from(["h1", "h3"]),
)
BLOCKS = CLAIMS | LOANS
NETWORKS = st.builds(
    lambda name, mtu: Network.parse({"name": name, "pools": ["10.0.0.0/16"], "mtu": mtu}),
    st.sampled_from(["blue", "red"]),
    st.sampled_from([0, 1400]),
)


def stored(value: Host | Block | Network) -> tuple[str, bytes]:
    if isinstance(value, Host):
        key = keys.host_key(value.id)
    elif isinstance(value, Block):
        key = keys.block_key(value.network, value.cidr)
    else:
        key = keys.network_key(value.name)
    return key, json.dumps(value.render()).encode()


GOOD = st.one_of(HOSTS, BLOCKS, NETWORKS).map(stored)
KEYS = GOOD.map(lambda pair: pair[0]) | st.just(f"{keys.BLOCKS}blue/10.0.1.0-024")
BAD = st.tuples(KEYS, st.sampled_from([b"", b"{", b'{"id": 3}']))
GONE = st.tuples(KEYS, st.none())
CHANGES = st.lists(GOOD | GONE, max_size=30)
ANY_CHANGES = st.lists(GOOD | GONE | BAD, max_size=30)
Change = tuple[str, bytes | None]


def events(changes: list[Change], first: int) -> list[Event]:
    return [
        Event(key, None if value is None else Entry(key, value, revision, revision))
        for revision, (key, value) in enumerate(changes, first)
    ]


def batches(all_events: list[Event], cuts: set[int], first: int) -> list[Batch]:
    """Cut the events into batches, some of them without events."""
    edges = sorted({0, *(cut for cut in cuts if cut <= len(all_events)), len(all_events)})
    return [Batch(first)] + [
        Batch(first - 1 + end, tuple(all_events[start:end]))
        for start, end in itertools.pairwise(edges)
    ]


def folded(start: Cluster, changes: list[Change], cuts: set[int]) -> Cluster:
    first = start.revision + 1
    cluster = start
    for batch in batches(events(changes, first), cuts, first):
        cluster = fold(cluster, batch)
    return replace(cluster, revision=start.revision + len(changes))


def listing_after(changes: list[Change], revision: int) -> Listing:
    left: dict[str, Entry] = {}
    for event in events(changes, 1):
        left.pop(event.key, None)
        if event.entry is not None:
            left[event.key] = event.entry
    return Listing(revision, tuple(left[key] for key in sorted(left)))


CUTS = st.sets(st.integers(0, 30))


@given(changes=CHANGES, cuts=CUTS)
def test_folding_changes_in_any_portions_gives_what_a_listing_gives(
    changes: list[Change], cuts: set[int]
):
    start = from_listing(Listing(0, ()), "s")
    listed = from_listing(listing_after(changes, len(changes)), "s")
    assert folded(start, changes, cuts) == listed


@given(changes=ANY_CHANGES, cuts=CUTS)
def test_bad_values_do_not_make_the_portions_matter(changes: list[Change], cuts: set[int]):
    start = from_listing(Listing(0, ()), "s")
    assert folded(start, changes, cuts) == folded(start, changes, set())


@given(changes=ANY_CHANGES)
def test_problems_and_good_values_are_those_of_a_listing(changes: list[Change]):
    """Only the last good form of a bad value remembers the path: a listing cannot know it."""
    cluster = folded(from_listing(Listing(0, ()), "s"), changes, set())
    listed = from_listing(listing_after(changes, len(changes)), "s")
    assert cluster.problems == listed.problems
    bad = {problem.subject for problem in cluster.problems}
    for host_id, host in cluster.hosts.items():
        assert listed.hosts.get(host_id) == host or f"key {keys.host_key(host_id)}" in bad
    assert listed.hosts.keys() <= cluster.hosts.keys()
    assert listed.blocks.keys() <= cluster.blocks.keys()


@given(before=CHANGES, changes=ANY_CHANGES, cuts=CUTS)
def test_portions_do_not_matter_while_a_former_store_stands(
    before: list[Change], changes: list[Change], cuts: set[int]
):
    former = from_listing(listing_after(before, 100), "s1")
    start = from_listing(Listing(0, ()), "s2", former)
    assert folded(start, changes, cuts) == folded(start, changes, set())


@given(before=CHANGES, changes=CHANGES)
def test_a_replaced_store_loses_nothing_that_the_new_one_did_not_take(
    before: list[Change], changes: list[Change]
):
    former = from_listing(listing_after(before, 100), "s1")
    listing = listing_after(changes, len(changes))
    cluster = from_listing(listing, "s2", former)
    present = from_listing(listing, "s2")
    for table in ("hosts", "networks", "reservations"):
        assert getattr(cluster, table) == {**getattr(former, table), **getattr(present, table)}
    taken = [(block.network, block.cidr) for block in present.blocks.values()]
    for identity, block in former.blocks.items():
        lost = any(
            identity[0] == network and identity[1].version == cidr.version
            and identity[1].overlaps(cidr)
            for network, cidr in taken
        )  # fmt: skip
        assert lost or cluster.blocks[identity] == block
    assert bool(cluster.problems) == bool(cluster.standing)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)
FIELDS = st.sampled_from(
    ["id", "name", "underlay", "macs", "network", "cidr", "host", "state", "pools", "addressing",
     "attachment", "backend", "mtu", "reason", "ipv4"]
)  # fmt: skip
OBJECTS = st.dictionaries(FIELDS, JSON | st.dictionaries(FIELDS, JSON), max_size=6)
ANY_KEYS = st.builds(
    "{}{}".format,
    st.sampled_from([keys.HOSTS, keys.BLOCKS, keys.NETWORKS, keys.RESERVATIONS, keys.CLUSTER]),
    st.text(max_size=10) | st.sampled_from(["h1", "blue", "blue/10.0.1.0-24"]),
)


@given(key=ANY_KEYS, value=OBJECTS.map(lambda data: json.dumps(data).encode()) | st.binary())
def test_nothing_that_a_store_can_hold_harms_what_is_well(key: str, value: bytes):
    host = stored(Host("other", "other"))
    good = from_listing(Listing(1, (Entry(*host, 1, 1),)), "s")
    cluster = fold(good, Batch(2, (Event(key, Entry(key, value, 2, 2)),)))
    assert cluster.hosts["other"] == good.hosts["other"]
    assert fold(cluster, Batch(3, (Event(key, None),))).problems == ()
