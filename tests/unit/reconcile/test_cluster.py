"""From a listing and changes to a cluster: what parses, what does not, what stands."""

from __future__ import annotations

import ipaddress
import json
from dataclasses import replace
from typing import Any

import pytest

from netloom.model import keys
from netloom.model.datastore import Batch, Entry, Event, Listing
from netloom.model.errors import Bug
from netloom.model.host import Block, Host, Reservation
from netloom.model.network import Network
from netloom.model.view import Cluster
from netloom.reconcile.cluster import fold, from_listing, release

BLUE = Network.parse({"name": "blue", "pools": ["10.244.0.0/16", "fd00:10::/48"]})
H1 = Host("h1", "one", ipaddress.ip_address("192.0.2.1"), None, {"blue": "02:00:00:00:00:01"})
H2 = Host("h2", "two", ipaddress.ip_address("192.0.2.2"))
B1 = Block("blue", ipaddress.ip_network("10.244.1.0/24"), "h1", True)
B2 = Block("blue", ipaddress.ip_network("10.244.2.0/24"), "h2", False)
B6 = Block("blue", ipaddress.ip_network("fd00:10:0:1::/64"), "h1", True)
R1 = Reservation("blue", ipaddress.ip_network("10.244.9.0/24"), "printers")


def key_of(value: Any) -> str:
    match value:
        case Host():
            return keys.host_key(value.id)
        case Block():
            return keys.block_key(value.network, value.cidr)
        case Network():
            return keys.network_key(value.name)
        case _:
            return keys.reservation_key(value.network, value.cidr)


def entry(value: Any, revision: int = 1) -> Entry:
    return raw(key_of(value), json.dumps(value.render()).encode(), revision)


def raw(key: str, value: bytes, revision: int = 1) -> Entry:
    return Entry(key, value, revision, revision)


def listing(*entries: Entry, revision: int = 10) -> Listing:
    return Listing(revision, tuple(sorted(entries, key=lambda e: e.key)))


def put(entry: Entry) -> Event:
    return Event(entry.key, entry)


def full(store_id: str = "s1", revision: int = 10) -> Cluster:
    values = (BLUE, H1, H2, B1, B2, B6, R1)
    return from_listing(listing(*map(entry, values), revision=revision), store_id)


def subjects(cluster: Cluster) -> list[str]:
    return [problem.subject for problem in cluster.problems]


class TestListing:
    def test_every_table_is_filled_under_its_identity(self):
        cluster = full()
        assert cluster.networks == {"blue": BLUE}
        assert cluster.hosts == {"h1": H1, "h2": H2}
        assert cluster.blocks == {(b.network, b.cidr): b for b in (B1, B2, B6)}
        assert cluster.reservations == {("blue", R1.cidr): R1}
        assert (cluster.revision, cluster.store_id) == (10, "s1")
        assert cluster.problems == ()
        assert cluster.standing == frozenset()

    def test_keys_of_a_newer_version_are_passed_over(self):
        cluster = from_listing(listing(raw(keys.CLUSTER + "weather/h1", b"\xff")), "s1")
        assert cluster == Cluster(10, "s1")

    @pytest.mark.parametrize(
        "value",
        [
            b"",
            b"\xff\xfe",
            b"not json",
            b"[]",
            b"null",
            b"[" * 100_000,
            b'{"id": "h1", "underlay": {"ipv4": "nowhere"}}',
            b'{"id": "h1", "segments": "blue"}',
            b'{"id": "other"}',
        ],
    )
    def test_a_value_that_does_not_parse_is_a_problem_of_its_key_alone(self, value: bytes):
        cluster = from_listing(listing(entry(H2), entry(B1), raw(keys.host_key("h1"), value)), "s1")
        assert cluster.hosts == {"h2": H2}
        assert list(cluster.blocks.values()) == [B1]
        assert subjects(cluster) == ["key /netloom/v1/cluster/hosts/h1"]
        assert cluster.problems[0].severity == "error"
        assert cluster.problems[0].remedy

    def test_records_of_a_newer_agent_are_read_and_what_is_new_in_them_is_left_alone(self):
        newer = {"ofANewerVersion": {"a": [1]}}
        host = H2.render() | newer
        host["underlay"] |= newer
        block = B1.render() | newer
        cluster = from_listing(
            listing(
                raw(keys.host_key("h2"), json.dumps(host).encode()),
                raw(keys.block_key(B1.network, B1.cidr), json.dumps(block).encode()),
            ),
            "s1",
        )
        assert (cluster.hosts, list(cluster.blocks.values())) == ({"h2": H2}, [B1])
        assert not cluster.problems

    @pytest.mark.parametrize(
        "segment",
        [
            "10.244.1.0",
            "10.244.1.7-24",
            "10.244.1.0-99",
            "",
            "10.244.1.0-024",
            "fd00:10:0:1:0::-64",
        ],
    )
    def test_a_key_that_does_not_parse_is_a_problem(self, segment: str):
        key = f"{keys.BLOCKS}blue/{segment}"
        cluster = from_listing(listing(raw(key, json.dumps(B1.render()).encode())), "s1")
        assert cluster.blocks == {}
        assert subjects(cluster) == [f"key {key}"]

    def test_a_value_under_another_ones_key_names_the_proper_key(self):
        wrong = raw(keys.block_key("blue", B2.cidr), json.dumps(B1.render()).encode())
        cluster = from_listing(listing(wrong), "s1")
        assert cluster.blocks == {}
        assert keys.block_key("blue", B1.cidr) in cluster.problems[0].text


class TestFold:
    def test_a_put_and_a_delete_change_their_table_only(self):
        before = full()
        moved = replace(H1, underlay4=ipaddress.ip_address("192.0.2.77"))
        after = fold(before, Batch(12, (put(entry(moved)), Event(key_of(B2), None))))
        assert after.hosts == {"h1": moved, "h2": H2}
        assert set(after.blocks.values()) == {B1, B6}
        assert after.networks is before.networks
        assert after.revision == 12
        assert before.hosts["h1"] == H1, "the value before is frozen"

    def test_a_batch_without_events_moves_the_revision(self):
        assert fold(full(), Batch(99)) == replace(full(), revision=99)

    def test_deleting_what_was_never_there_is_well(self):
        assert fold(Cluster(1, "s1"), Batch(2, (Event(key_of(H1), None),))).hosts == {}

    def test_a_bad_value_keeps_the_last_good_form_until_it_is_mended(self):
        broken = fold(full(), Batch(11, (put(raw(key_of(H1), b"{")),)))
        assert broken.hosts["h1"] == H1
        assert subjects(broken) == [f"key {key_of(H1)}"]
        mended = fold(broken, Batch(12, (put(entry(replace(H1, name="uno"))),)))
        assert mended.hosts["h1"].name == "uno"
        assert mended.problems == ()

    def test_a_bad_value_that_is_deleted_takes_its_last_good_form_along(self):
        broken = fold(full(), Batch(11, (put(raw(key_of(H1), b"{")),)))
        gone = fold(broken, Batch(12, (Event(key_of(H1), None),)))
        assert "h1" not in gone.hosts
        assert gone.problems == ()

    def test_a_bad_value_after_a_delete_does_not_bring_the_old_form_back(self):
        events = (Event(key_of(H1), None), put(raw(key_of(H1), b"{")))
        assert "h1" not in fold(full(), Batch(12, events)).hosts

    def test_a_later_problem_of_the_same_key_replaces_the_earlier(self):
        once = fold(full(), Batch(11, (put(raw(key_of(H1), b"{")),)))
        twice = fold(once, Batch(12, (put(raw(key_of(H1), b"[]")),)))
        assert len(twice.problems) == 1
        assert "object" in twice.problems[0].text

    def test_deleting_a_key_that_is_no_proper_one_harms_no_other(self):
        odd = f"{keys.BLOCKS}blue/10.244.1.0-024"
        cluster = fold(full(), Batch(11, (put(raw(odd, json.dumps(B1.render()).encode())),)))
        assert subjects(cluster) == [f"key {odd}"]
        cluster = fold(cluster, Batch(12, (Event(odd, None),)))
        assert cluster.blocks[("blue", B1.cidr)] == B1
        assert cluster.problems == ()

    def test_a_compacted_batch_cannot_be_folded(self):
        with pytest.raises(Bug):
            fold(full(), Batch(5, compacted=True))

    def test_a_listing_again_keeps_last_good_forms_too(self):
        again = from_listing(listing(raw(key_of(H1), b"{"), entry(H2), revision=20), "s1", full())
        assert again.hosts == {"h1": H1, "h2": H2}
        assert subjects(again) == [f"key {key_of(H1)}"]

    def test_a_listing_again_of_the_same_store_follows_deletions(self):
        again = from_listing(listing(entry(H2), revision=20), "s1", full())
        assert again.hosts == {"h2": H2}
        assert again.blocks == {}
        assert again.problems == ()


class TestStanding:
    def test_an_empty_store_in_place_of_a_full_one_withdraws_nothing(self):
        cluster = from_listing(listing(revision=0), "s2", full())
        assert (cluster.revision, cluster.store_id) == (0, "s2")
        for table in ("networks", "hosts", "blocks", "reservations"):
            assert getattr(cluster, table) == getattr(full(), table)
        assert cluster.standing == {key_of(v) for v in (BLUE, H1, H2, B1, B2, B6, R1)}
        assert subjects(cluster) == ["store"]
        assert "its id changed from s1 to s2" in cluster.problems[0].text

    def test_a_revision_that_went_back_is_another_store_too(self):
        cluster = from_listing(listing(entry(BLUE), revision=3), "s1", full())
        assert cluster.hosts == full().hosts
        assert "its revision went back from 10 to 3" in cluster.problems[0].text
        assert key_of(BLUE) not in cluster.standing

    def test_the_first_listing_of_all_finds_no_former_store(self):
        assert from_listing(listing(), "s2", Cluster()).problems == ()

    def test_what_the_new_store_says_is_folded_over_the_old(self):
        moved = replace(H2, underlay4=ipaddress.ip_address("192.0.2.99"))
        cluster = from_listing(listing(entry(moved), revision=1), "s2", full())
        assert cluster.hosts == {"h1": H1, "h2": moved}
        assert key_of(H2) not in cluster.standing

    def test_a_key_stops_standing_when_it_comes_back(self):
        cluster = from_listing(listing(revision=0), "s2", full())
        for number, value in enumerate((BLUE, H1, H2, B1, B2, B6)):
            cluster = fold(cluster, Batch(number + 1, (put(entry(value)),)))
            assert key_of(value) not in cluster.standing
            assert subjects(cluster) == ["store"]
        cluster = fold(cluster, Batch(9, (put(entry(R1)),)))
        assert cluster == replace(full(), revision=9, store_id="s2")

    def test_a_key_that_came_back_can_be_deleted(self):
        cluster = from_listing(listing(revision=0), "s2", full())
        events = (put(entry(H1)), Event(key_of(H1), None))
        assert "h1" not in fold(cluster, Batch(2, events)).hosts

    def test_a_standing_block_yields_to_one_that_takes_part_of_its_range(self):
        standing = from_listing(listing(revision=0), "s2", full())
        for cidr in ("10.244.1.128/26", "10.244.0.0/22", "10.244.1.0/25"):
            rival = Block("blue", ipaddress.ip_network(cidr), "h9", True)
            by_fold = fold(standing, Batch(1, (put(entry(rival)),)))
            by_list = from_listing(listing(entry(rival), revision=1), "s2", full())
            assert ("blue", B1.cidr) not in by_fold.blocks
            assert by_fold == by_list
            assert ("blue", B6.cidr) in by_fold.blocks

    def test_a_block_of_another_network_or_range_does_not_touch_a_standing_one(self):
        standing = from_listing(listing(revision=0), "s2", full())
        for rival in (
            Block("red", B1.cidr, "h9", True),
            Block("blue", ipaddress.ip_network("10.244.3.0/24"), "h9", True),
            Block("blue", ipaddress.ip_network("fd00:10:0:2::/64"), "h9", True),
        ):
            cluster = fold(standing, Batch(1, (put(entry(rival)),)))
            assert {B1, B2, B6} <= set(cluster.blocks.values())
            assert cluster == from_listing(listing(entry(rival), revision=1), "s2", full())

    def test_a_standing_block_stands_until_a_claim_of_its_range_is_confirmed(self):
        """Its own host puts it back in two steps; between them nobody may lose the way there."""
        standing = from_listing(listing(revision=0), "s2", full())
        for claimant in ("h1", "h9"):
            pending = Block("blue", B1.cidr, claimant)
            by_fold = fold(standing, Batch(1, (put(entry(pending)),)))
            assert by_fold.blocks["blue", B1.cidr] == B1
            assert key_of(B1) in by_fold.standing
            assert by_fold == from_listing(listing(entry(pending), revision=1), "s2", full())
            confirmed = Block("blue", B1.cidr, claimant, True)
            after = fold(by_fold, Batch(2, (put(entry(confirmed)),)))
            assert after.blocks["blue", B1.cidr] == confirmed
            assert key_of(B1) not in after.standing
            withdrawn = fold(by_fold, Batch(2, (Event(key_of(B1), None),)))
            assert ("blue", B1.cidr) not in withdrawn.blocks

    def test_listing_the_new_store_again_goes_on_standing(self):
        first = from_listing(listing(revision=0), "s2", full())
        again = from_listing(listing(entry(H1), revision=5), "s2", first)
        assert again.standing == first.standing - {key_of(H1)}
        assert again.problems == first.problems

    def test_a_bad_value_in_the_new_store_keeps_the_old_form(self):
        cluster = from_listing(listing(raw(key_of(H1), b"?"), revision=1), "s2", full())
        assert cluster.hosts["h1"] == H1
        assert subjects(cluster) == ["store", f"key {key_of(H1)}"]
        assert key_of(H1) not in cluster.standing

    def test_release_lets_go_of_what_stands_and_keeps_the_rest(self):
        cluster = from_listing(listing(entry(BLUE), entry(H2), revision=2), "s2", full())
        free = release(cluster)
        assert free == from_listing(listing(entry(BLUE), entry(H2), revision=2), "s2")

    def test_release_of_nothing_changes_nothing(self):
        assert release(full()) == full()


def test_a_store_that_translates_says_itself_what_it_cannot_read():
    note = json.dumps({"unreadable": "/x/config: not JSON", "remedy": "mend it"}).encode()
    for key in (keys.network_key("blue"), keys.BLOCKS + "blue/no-cidr"):
        good = from_listing(
            Listing(1, (Entry(key_of(BLUE), json.dumps(BLUE.render()).encode(), 1, 1),)), "s"
        )
        after = fold(good, Batch(2, (Event(key, Entry(key, note, 1, 2)),)))
        (problem,) = after.problems
        assert (problem.text, problem.remedy) == ("/x/config: not JSON", "mend it")
        assert after.networks == good.networks
        assert fold(after, Batch(3, (Event(key, None),))).problems == ()
