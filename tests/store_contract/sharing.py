"""The part of the contract that is about several objects and processes on one store."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.store_contract.patience import PATIENCE_S
from tests.store_contract.place import Place
from tests.store_contract.watching import events_until, put, said

from netloom.model.datastore import Store

WORKER = str(Path(__file__).with_name("worker.py"))


def worker(verb: str, url: str, *arguments: object) -> subprocess.Popen[str]:
    """Start another process on the store at ``url``; see ``worker.py``."""
    return subprocess.Popen(
        [sys.executable, WORKER, verb, url, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen[str]) -> str:
    """Wait for the process, which must end well, and return what it said."""
    try:
        output, complaint = process.communicate(timeout=PATIENCE_S * 5)
    finally:
        process.kill()
    assert process.returncode == 0, complaint
    return output


class SharingContract:
    """What one does all see, and nobody loses anything."""

    def test_what_one_object_commits_another_reads(self, place: Place, store: Store):
        other = place.open()
        revision = put(other, "/a", b"hello")
        entry = store.get("/a")
        other.close()
        assert entry is not None
        assert (entry.value, entry.mod_revision) == (b"hello", revision)

    def test_a_watch_sees_what_another_object_commits(self, place: Place, store: Store):
        watch = store.watch("/", store.list("/").revision)
        other = place.open()
        last = put(other, "/a", b"hello")
        other.close()
        assert said(events_until(watch, last)) == [("/a", b"hello")]

    def test_a_watch_in_another_process_sees_every_change_in_order(
        self, place: Place, store: Store
    ):
        start = store.list("/").revision
        process = worker("follow", place.url, "/f/", start, start + 100)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        for number in range(100):
            put(store, f"/f/{number % 3}", b"%d" % number)
        lines = finish(process).splitlines()
        assert lines == [f"/f/{number % 3} {number}" for number in range(100)]

    def test_a_counter_that_many_processes_raise_loses_nothing(self, place: Place, store: Store):
        processes = [worker("count", place.url, "/counter", 40) for _ in range(6)]
        for process in processes:
            finish(process)
        entry = store.get("/counter")
        assert entry is not None
        assert entry.value == b"240"
        assert entry.mod_revision - entry.create_revision == 239
