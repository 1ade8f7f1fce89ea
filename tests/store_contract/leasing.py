"""The part of the contract that is about leases."""

from __future__ import annotations

import time

import pytest
from tests.store_contract.patience import PATIENCE_S
from tests.store_contract.place import Place
from tests.store_contract.watching import events_until, put, said

from netloom.model.datastore import Put, Store, Transaction
from netloom.model.errors import InvalidConfig

LONG_S = 3600.0


def ended(store: Store, key: str) -> None:
    """Wait until ``key`` is gone, by watching it."""
    listing = store.list(key)
    if not listing.entries:
        return
    watch = store.watch(key, listing.revision)
    deadline = time.monotonic() + PATIENCE_S
    while store.get(key) is not None:
        assert time.monotonic() < deadline, f"{key} outlives its lease"
        watch.next(deadline - time.monotonic())
    watch.close()


def leased(store: Store, place: Place, *keys: str, others: tuple[str, ...] = ()) -> tuple[int, int]:
    """Write ``keys`` with a short lease, ``others`` without; return the lease and the revision.

    On a busy machine a lease may be over before it is used: then it is tried with a longer one.
    """
    ttl_s = place.least_ttl_s
    while True:
        lease = store.grant(ttl_s)
        puts = [Put(key, b"", lease) for key in keys] + [Put(key, b"") for key in others]
        try:
            return lease, store.commit(Transaction(puts)).revision
        except InvalidConfig:
            assert ttl_s < PATIENCE_S, "a new lease is refused"
            ttl_s *= 2


def outlives(store: Store, ttl_s: float) -> bool:
    """Tell whether a lease that is kept alive outlives one that is not.

    False, too, where it was not kept alive in time, as on a machine that stood still.
    """
    began = time.monotonic()
    kept, left = store.grant(ttl_s), store.grant(ttl_s)
    try:
        store.commit(Transaction([Put("/kept", b"", kept), Put("/left", b"", left)]))
    except InvalidConfig:
        assert time.monotonic() - began >= ttl_s, "a new lease is refused"
        return False
    watch = store.watch("/left", store.list("/left").revision)
    while store.get("/left") is not None:
        before, began = began, time.monotonic()
        if not store.keep_alive(kept):
            assert time.monotonic() - before >= ttl_s, "it ended before its time"
            return False
        watch.next(ttl_s / 6)
    watch.close()
    there = store.get("/kept") is not None
    assert there or time.monotonic() - began >= ttl_s, "it ended before its time"
    store.revoke(kept)  # its end is a revision: it shall be none of another test's
    return there


class LeaseContract:
    """Keys with a lease go, in one revision, when the lease ends."""

    def test_a_lease_is_never_zero_and_each_is_another(self, store: Store):
        leases = {store.grant(LONG_S) for _ in range(20)}
        assert len(leases) == 20
        assert 0 not in leases

    def test_a_leased_key_names_its_lease(self, store: Store):
        lease = store.grant(LONG_S)
        store.commit(Transaction([Put("/alive/h1", b"", lease)]))
        entry = store.get("/alive/h1")
        assert entry is not None
        assert entry.lease == lease

    def test_keys_go_when_their_lease_ends_and_a_watch_sees_it(self, store: Store, place: Place):
        _, revision = leased(store, place, "/l/1", "/l/2", others=("/l/stays",))
        watch = store.watch("/l/", revision)
        gone = events_until(watch, revision + 1)
        assert sorted(said(gone)) == [("/l/1", None), ("/l/2", None)]
        assert [entry.key for entry in store.list("/l/").entries] == ["/l/stays"]

    def test_reading_after_the_end_finds_nothing_even_without_a_watch(
        self, store: Store, place: Place
    ):
        leased(store, place, "/l/1")
        deadline = time.monotonic() + PATIENCE_S
        while store.get("/l/1") is not None:  # each look takes a moment; no watch helps here
            assert time.monotonic() < deadline
        assert store.list("/l/").entries == ()

    def test_keep_alive_starts_the_time_anew(self, store: Store, place: Place):
        ttl_s = place.least_ttl_s * 3
        while not outlives(store, ttl_s):
            assert ttl_s < PATIENCE_S, "never kept alive in time"
            ttl_s *= 2

    def test_keep_alive_after_the_end_is_false(self, store: Store, place: Place):
        lease, _ = leased(store, place, "/l")
        ended(store, "/l")
        assert store.keep_alive(lease) is False

    def test_keep_alive_of_an_unknown_lease_is_false(self, store: Store):
        assert store.keep_alive(123456789) is False

    def test_revoke_deletes_the_keys_at_once_in_one_revision(self, store: Store):
        lease = store.grant(LONG_S)
        done = store.commit(Transaction([Put("/r/1", b"", lease), Put("/r/2", b"", lease)]))
        store.revoke(lease)
        listing = store.list("/r/")
        assert listing.entries == ()
        assert listing.revision == done.revision + 1
        assert store.keep_alive(lease) is False

    def test_revoking_twice_or_the_unknown_is_well(self, store: Store):
        lease = store.grant(LONG_S)
        before = store.list("").revision
        store.revoke(lease)
        store.revoke(lease)
        store.revoke(987654321)
        assert store.list("").revision == before

    def test_a_put_with_an_unknown_lease_is_refused_and_writes_nothing(self, store: Store):
        with pytest.raises(InvalidConfig, match="lease"):
            store.commit(Transaction([Put("/a", b""), Put("/b", b"", 4711)]))
        assert store.list("").entries == ()

    def test_a_put_with_a_revoked_lease_is_refused(self, store: Store):
        lease = store.grant(LONG_S)
        store.revoke(lease)
        with pytest.raises(InvalidConfig, match="lease"):
            store.commit(Transaction([Put("/a", b"", lease)]))

    def test_a_put_without_lease_frees_the_key_of_it(self, store: Store):
        lease = store.grant(LONG_S)
        store.commit(Transaction([Put("/a", b"1", lease)]))
        put(store, "/a", b"2")
        store.revoke(lease)
        entry = store.get("/a")
        assert entry is not None
        assert (entry.value, entry.lease) == (b"2", 0)

    def test_a_put_with_another_lease_moves_the_key(self, store: Store):
        first, second = store.grant(LONG_S), store.grant(LONG_S)
        store.commit(Transaction([Put("/a", b"1", first)]))
        store.commit(Transaction([Put("/a", b"2", second)]))
        store.revoke(first)
        assert store.get("/a") is not None
        store.revoke(second)
        assert store.get("/a") is None

    def test_a_lease_outlives_the_object_that_asked_for_it(self, place: Place, store: Store):
        other = place.open()
        lease = other.grant(LONG_S)
        other.commit(Transaction([Put("/a", b"", lease)]))
        other.close()
        assert store.keep_alive(lease)
        assert store.get("/a") is not None

    @pytest.mark.parametrize("ttl_s", [0, -1])
    def test_a_lease_without_time_is_refused(self, store: Store, ttl_s: float):
        with pytest.raises(InvalidConfig):
            store.grant(ttl_s)
