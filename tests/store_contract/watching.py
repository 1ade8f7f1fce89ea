"""The part of the contract that is about watches."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest
from tests.store_contract.patience import PATIENCE_S
from tests.store_contract.place import Place

from netloom.model.datastore import Batch, Delete, Event, Put, Store, Transaction, Watch


def events_until(watch: Watch, revision: int) -> list[Event]:
    """Return the events of ``watch`` until it has seen ``revision``."""
    events: list[Event] = []
    deadline = time.monotonic() + PATIENCE_S
    last = 0
    while last < revision:
        batch = watch.next(deadline - time.monotonic())
        assert batch is not None, f"no more came after revision {last}, {revision} was awaited"
        assert not batch.compacted
        assert batch.revision > last
        last = batch.revision
        events.extend(batch.events)
    return events


def put(store: Store, key: str, value: bytes = b"") -> int:
    return store.commit(Transaction([Put(key, value)])).revision


def said(events: list[Event]) -> list[tuple[str, bytes | None]]:
    return [(event.key, event.entry.value if event.entry else None) for event in events]


def started(run: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread


class WatchContract:
    """A watch sees every change below its prefix once, in order, in whole revisions."""

    def test_list_and_watch_together_see_every_change_once_and_in_order(self, store: Store):
        put(store, "/w/before")
        listing = store.list("/w/")
        watch = store.watch("/w/", listing.revision)
        for number in range(50):
            put(store, f"/w/{number % 7}", b"%d" % number)
        store.commit(Transaction([Delete("/w/3")]))
        last = put(store, "/w/end")
        wanted = [(f"/w/{n % 7}", b"%d" % n) for n in range(50)]
        assert said(events_until(watch, last)) == [*wanted, ("/w/3", None), ("/w/end", b"")]

    def test_a_watch_from_an_earlier_revision_tells_what_was_in_between(self, store: Store):
        start = put(store, "/a", b"1")
        put(store, "/a", b"2")
        store.commit(Transaction([Delete("/a")]))
        last = put(store, "/a", b"3")
        watch = store.watch("/", start)
        assert said(events_until(watch, last)) == [("/a", b"2"), ("/a", None), ("/a", b"3")]

    def test_events_carry_the_entry_as_it_was_then(self, store: Store):
        listing = store.list("")
        first = put(store, "/a", b"1")
        second = put(store, "/a", b"2")
        entries = [event.entry for event in events_until(store.watch("", listing.revision), second)]
        assert [(e.value, e.create_revision, e.mod_revision) for e in entries if e] == [
            (b"1", first, first),
            (b"2", first, second),
        ]

    def test_a_transaction_is_never_torn_between_batches(self, store: Store):
        watch = store.watch("/t/", store.list("/t/").revision)
        for number in range(40):
            last = store.commit(
                Transaction([Put(f"/t/{k}", b"%d" % number) for k in range(5)])
            ).revision
        seen = 0
        while seen < last:
            batch = watch.next(PATIENCE_S)
            assert batch is not None
            by_revision: dict[int, int] = {}
            for event in batch.events:
                assert event.entry is not None
                revision = event.entry.mod_revision
                by_revision[revision] = by_revision.get(revision, 0) + 1
            assert set(by_revision.values()) <= {5}
            assert max(by_revision, default=batch.revision) <= batch.revision
            seen = batch.revision

    def test_other_prefixes_are_not_told(self, store: Store):
        watch = store.watch("/mine/", store.list("/mine/").revision)
        put(store, "/others/1")
        put(store, "/min")
        put(store, "/mine")
        put(store, "/mine0")
        last = put(store, "/mine/1")
        assert said(events_until(watch, last)) == [("/mine/1", b"")]

    def test_a_watch_of_everything_sees_everything(self, store: Store):
        watch = store.watch("", store.list("").revision)
        put(store, "a")
        last = put(store, "\U0010ffff")
        assert said(events_until(watch, last)) == [("a", b""), ("\U0010ffff", b"")]

    def test_progress_comes_in_the_end_when_only_others_change(self, store: Store):
        watch = store.watch("/quiet/", store.list("/quiet/").revision)
        last = put(store, "/loud/1")
        assert events_until(watch, last) == []

    def test_without_any_change_the_time_limit_ends_the_wait(self, store: Store):
        watch = store.watch("/", store.list("/").revision)
        assert watch.next(0.05) is None
        assert watch.next(0) is None

    def test_a_waiting_reader_is_woken_by_a_commit(self, store: Store):
        watch = store.watch("/", store.list("/").revision)
        batches: list[Batch | None] = []
        reader = started(lambda: batches.append(watch.next(PATIENCE_S)))
        put(store, "/a", b"now")
        reader.join(PATIENCE_S)
        assert batches[0] is not None
        assert said(list(batches[0].events)) == [("/a", b"now")]

    def test_close_wakes_a_blocked_reader(self, store: Store):
        watch = store.watch("/", store.list("/").revision)
        batches: list[Batch | None] = []
        reader = started(lambda: batches.append(watch.next(None)))
        watch.close()
        reader.join(PATIENCE_S)
        assert not reader.is_alive()
        assert batches == [None]

    def test_a_watch_may_be_closed_by_many_threads_at_once(self, store: Store):
        """Each close ends without an error, whoever came first; nothing is closed twice."""
        for _ in range(50):
            watch = store.watch("w/", store.list("w/").revision)
            errors: list[BaseException] = []
            start = threading.Barrier(8)

            def close(
                watch: Watch = watch,
                errors: list[BaseException] = errors,
                start: threading.Barrier = start,
            ) -> None:
                start.wait()
                try:
                    watch.close()
                except BaseException as error:  # noqa: BLE001 - the test shows it
                    errors.append(error)

            threads = [threading.Thread(target=close) for _ in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert errors == []

    def test_a_closed_watch_stays_closed(self, store: Store):
        watch = store.watch("/", store.list("/").revision)
        watch.close()
        watch.close()
        put(store, "/a")
        assert watch.next(0) is None

    def test_closing_the_store_ends_its_watches(self, store: Store):
        watch = store.watch("/", store.list("/").revision)
        reader = started(lambda: watch.next(None) and None)
        store.close()
        reader.join(PATIENCE_S)
        assert not reader.is_alive()

    def test_two_watches_see_the_same(self, store: Store):
        start = store.list("").revision
        first, second = store.watch("/", start), store.watch("/", start)
        for number in range(10):
            last = put(store, "/a", b"%d" % number)
        assert events_until(first, last) == events_until(second, last)

    def test_history_that_is_gone_ends_the_watch_as_compacted(self, store: Store, place: Place):
        start = put(store, "/a")
        put(store, "/a")
        place.forget_history()
        watch = store.watch("/", start)
        batch = watch.next(PATIENCE_S)
        assert batch is not None
        assert batch.compacted
        assert batch.events == ()
        assert watch.next(0) is None

    def test_a_watch_from_the_present_is_not_compacted(self, store: Store, place: Place):
        put(store, "/a")
        place.forget_history()
        watch = store.watch("/", store.list("/").revision)
        last = put(store, "/b")
        assert said(events_until(watch, last)) == [("/b", b"")]

    def test_a_watch_from_a_revision_to_come_is_compacted(self, store: Store):
        """The store's revision went back: an older copy of it was restored."""
        put(store, "/a")
        batch = store.watch("/", store.list("/").revision + 1000).next(PATIENCE_S)
        assert batch is not None
        assert batch.compacted

    @pytest.mark.parametrize("readers", [4])
    def test_many_readers_and_writers_in_threads_lose_nothing(self, store: Store, readers: int):
        start = store.list("/").revision
        watches = [store.watch("/n/", start) for _ in range(readers)]
        rounds, writers = 25, 4

        def write(name: int) -> None:
            for number in range(rounds):
                put(store, f"/n/{name}", b"%d" % number)

        threads = [started(lambda n=n: write(n)) for n in range(writers)]  # type: ignore[misc]
        results = [events_until(watch, start + rounds * writers) for watch in watches]
        for thread in threads:
            thread.join(PATIENCE_S)
        assert all(result == results[0] for result in results)
        for name in range(writers):
            mine = [value for key, value in said(results[0]) if key == f"/n/{name}"]
            assert mine == [b"%d" % number for number in range(rounds)]
