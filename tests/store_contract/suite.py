"""The store contract as tests, for every implementation alike.

One subclasses :class:`StoreContract` and gives a ``place`` fixture (see ``test_sqlite.py``); then
every test here holds for it, unchanged.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.store_contract.leasing import LeaseContract
from tests.store_contract.place import Place
from tests.store_contract.sharing import SharingContract
from tests.store_contract.watching import WatchContract

from netloom.model.datastore import Compare, Delete, Put, Store, Transaction
from netloom.model.errors import InvalidConfig


def keys_of(store: Store, prefix: str) -> list[str]:
    return [entry.key for entry in store.list(prefix).entries]


class KeyContract:
    """get, list and commit."""

    def test_an_absent_key_is_none(self, store: Store):
        assert store.get("/nothing") is None

    def test_what_was_put_is_got(self, store: Store):
        done = store.commit(Transaction([Put("/a", b"one")]))
        entry = store.get("/a")
        assert done.succeeded
        assert entry is not None
        assert (entry.key, entry.value, entry.lease) == ("/a", b"one", 0)
        assert entry.create_revision == entry.mod_revision == done.revision

    def test_a_second_put_keeps_the_create_revision_and_raises_the_mod_revision(self, store: Store):
        first = store.commit(Transaction([Put("/a", b"1")]))
        second = store.commit(Transaction([Put("/a", b"2")]))
        entry = store.get("/a")
        assert entry is not None
        assert second.revision == first.revision + 1
        assert (entry.create_revision, entry.mod_revision) == (first.revision, second.revision)

    def test_a_key_that_was_deleted_and_put_again_is_created_anew(self, store: Store):
        store.commit(Transaction([Put("/a", b"1")]))
        store.commit(Transaction([Delete("/a")]))
        again = store.commit(Transaction([Put("/a", b"2")]))
        entry = store.get("/a")
        assert entry is not None
        assert entry.create_revision == again.revision

    def test_a_listing_is_sorted_and_holds_only_the_prefix(self, store: Store):
        names = ["/p/b", "/p/a", "/p/a/x", "/p", "/q", "/p0", "/p/B", "/p/ä"]
        store.commit(Transaction([Put(name, b"") for name in names]))
        assert keys_of(store, "/p/") == ["/p/B", "/p/a", "/p/a/x", "/p/b", "/p/ä"]
        assert keys_of(store, "/p") == ["/p", "/p/B", "/p/a", "/p/a/x", "/p/b", "/p/ä", "/p0"]
        assert keys_of(store, "/none/") == []

    def test_a_prefix_is_taken_literally(self, store: Store):
        names = ["/50%/a", "/50x/a", "/a_b/c", "/axb/c", "/[a]/x", "/a/x", "/*/x"]
        store.commit(Transaction([Put(name, b"") for name in names]))
        assert keys_of(store, "/50%/") == ["/50%/a"]
        assert keys_of(store, "/a_b/") == ["/a_b/c"]
        assert keys_of(store, "/[a]/") == ["/[a]/x"]
        assert keys_of(store, "/*/") == ["/*/x"]

    def test_the_empty_prefix_lists_everything(self, store: Store):
        names = ["\x01", "a", "\ud7ff", "\ue000", "\uffff", "\U0010ffff", "\U0010ffff\U0010ffff"]
        store.commit(Transaction([Put(name, b"") for name in names]))
        assert keys_of(store, "") == names

    @pytest.mark.parametrize("last", ["\x7f", "\ud7ff", "\uffff", "\U0010ffff"])
    def test_prefixes_at_the_ends_of_the_code_points_hold_just_their_keys(
        self, store: Store, last: str
    ):
        inside = [f"k{last}", f"k{last}a", f"k{last}\U0010ffff"]
        store.commit(Transaction([Put(name, b"") for name in [*inside, "k", "ka", "l"]]))
        assert keys_of(store, f"k{last}") == inside

    def test_a_listing_stands_at_the_revision_of_the_last_commit(self, store: Store):
        done = store.commit(Transaction([Put("/a", b"")]))
        assert store.list("/").revision == done.revision
        assert store.list("/elsewhere").revision == done.revision

    @pytest.mark.parametrize("size", [0, 1, 1000, 1 << 20])
    def test_values_are_bytes_of_any_kind_up_to_one_mebibyte(self, store: Store, size: int):
        value = bytes(range(256)) * (size // 256) + b"\0" * (size % 256)
        store.commit(Transaction([Put("/binary", value)]))
        entry = store.get("/binary")
        assert entry is not None
        assert entry.value == value

    def test_a_value_beyond_one_mebibyte_is_refused_by_name(self, store: Store):
        with pytest.raises(InvalidConfig, match="/much"):
            store.commit(Transaction([Put("/a", b""), Put("/much", bytes((1 << 20) + 1))]))
        assert keys_of(store, "") == []

    @pytest.mark.parametrize("key", ["", "a\0b", "\ud800"])
    def test_text_that_is_no_key_is_refused(self, store: Store, key: str):
        with pytest.raises(InvalidConfig):
            store.commit(Transaction([Put(key, b"")]))

    @pytest.mark.parametrize("key", ["/ünï/cödé", "/汉字", "/🚢", "/ space \n newline", "/'\"; --"])
    def test_keys_are_any_text(self, store: Store, key: str):
        store.commit(Transaction([Put(key, b"x")]))
        assert store.get(key) is not None
        assert keys_of(store, key[:2]) == [key]


class TransactionContract:
    """Compares and atomicity."""

    def test_absent_compares_as_zero(self, store: Store):
        create = Transaction([Put("/a", b"mine")], [Compare("/a", 0)])
        assert store.commit(create).succeeded
        assert not store.commit(create).succeeded

    def test_a_compare_fails_once_the_key_has_changed(self, store: Store):
        first = store.commit(Transaction([Put("/a", b"1")]))
        change = Transaction([Put("/a", b"2")], [Compare("/a", first.revision)])
        assert store.commit(change).succeeded
        refused = store.commit(change)
        assert not refused.succeeded
        assert refused.revision == store.list("").revision == first.revision + 1

    def test_a_compare_of_a_deleted_key_is_zero_again(self, store: Store):
        first = store.commit(Transaction([Put("/a", b"1")]))
        store.commit(Transaction([Delete("/a")]))
        assert not store.commit(Transaction([], [Compare("/a", first.revision)])).succeeded
        assert store.commit(Transaction([], [Compare("/a", 0)])).succeeded

    def test_one_compare_that_fails_stops_all_operations(self, store: Store):
        before = store.commit(Transaction([Put("/a", b"1"), Put("/b", b"1")]))
        refused = store.commit(
            Transaction(
                [Put("/a", b"2"), Delete("/b"), Put("/c", b"2")],
                [Compare("/a", before.revision), Compare("/c", 7)],
            )
        )
        assert not refused.succeeded
        assert [(e.key, e.value) for e in store.list("").entries] == [("/a", b"1"), ("/b", b"1")]
        assert refused.revision == before.revision

    def test_compares_may_name_keys_that_are_not_written(self, store: Store):
        guard = store.commit(Transaction([Put("/guard", b"")]))
        assert store.commit(
            Transaction([Put("/a", b"")], [Compare("/guard", guard.revision)])
        ).succeeded

    def test_all_operations_of_a_transaction_are_one_revision(self, store: Store):
        store.commit(Transaction([Put("/gone", b"")]))
        done = store.commit(Transaction([Put("/a", b""), Delete("/gone"), Put("/b", b"")]))
        entries = store.list("").entries
        assert [(e.key, e.mod_revision) for e in entries] == [
            ("/a", done.revision),
            ("/b", done.revision),
        ]

    def test_of_several_operations_on_one_key_the_last_counts(self, store: Store):
        done = store.commit(
            Transaction([Put("/a", b"1"), Put("/b", b"1"), Put("/a", b"2"), Delete("/b")])
        )
        assert [(e.key, e.value) for e in store.list("").entries] == [("/a", b"2")]
        assert store.list("").revision == done.revision

    def test_an_empty_transaction_changes_nothing_and_succeeds(self, store: Store):
        before = store.commit(Transaction([Put("/a", b"")]))
        done = store.commit(Transaction([]))
        assert done.succeeded
        assert done.revision == before.revision == store.list("").revision

    def test_deleting_the_absent_is_well_and_makes_no_revision(self, store: Store):
        before = store.commit(Transaction([Put("/a", b"")]))
        done = store.commit(Transaction([Delete("/b"), Delete("/c")]))
        assert done.succeeded
        assert done.revision == before.revision == store.list("").revision

    def test_a_put_of_the_same_value_is_a_change(self, store: Store):
        first = store.commit(Transaction([Put("/a", b"same")]))
        assert store.commit(Transaction([Put("/a", b"same")])).revision == first.revision + 1

    def test_a_refused_value_leaves_the_whole_transaction_undone(self, store: Store):
        with pytest.raises(InvalidConfig):
            store.commit(Transaction([Put("/a", b"ok"), Put("/b", bytes(2 << 20))]))
        assert store.get("/a") is None

    def test_a_large_transaction_is_one_revision_too(self, store: Store):
        done = store.commit(Transaction([Put(f"/many/{i:03}", b"x") for i in range(100)]))
        assert {e.mod_revision for e in store.list("/many/").entries} == {done.revision}


class StoreContract(
    KeyContract, TransactionContract, WatchContract, LeaseContract, SharingContract
):
    """The whole contract. A subclass gives ``place``."""

    @pytest.fixture
    def place(self) -> Place:
        raise NotImplementedError("an implementation says where its store is")

    @pytest.fixture
    def store(self, place: Place) -> Iterator[Store]:
        store = place.open()
        yield store
        store.close()

    def test_the_store_id_is_the_same_for_all_who_open_it(self, place: Place, store: Store):
        other = place.open()
        try:
            assert other.store_id == store.store_id != ""
        finally:
            other.close()

    def test_closing_twice_is_well(self, store: Store):
        store.watch("", 0)
        store.close()
        store.close()
