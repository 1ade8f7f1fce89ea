"""What the suite's other processes do: ``worker.py count|write|follow URL …``. Not a test."""

from __future__ import annotations

import sys

from patience import PATIENCE_S, opened

from netloom.model.datastore import Compare, Put, Store, Transaction


def count(store: Store, key: str, times: str) -> None:
    """Add one to the number under ``key``, ``times`` times, by compare and swap."""
    left = int(times)
    while left:
        entry = store.get(key)
        number, seen = (int(entry.value), entry.mod_revision) if entry else (0, 0)
        change = Transaction([Put(key, b"%d" % (number + 1))], [Compare(key, seen)])
        left -= store.commit(change).succeeded


def write(store: Store, name: str, width: str, rounds: str = "0") -> None:
    """Write pairs of equal values for ever (or ``rounds`` times), naming each once it stands."""
    number = 0
    while not int(rounds) or number < int(rounds):
        number += 1
        keys = [f"/{name}/{index}" for index in range(int(width))]
        store.commit(Transaction([Put(key, b"%d" % number) for key in keys]))
        print(number, flush=True)


def follow(store: Store, prefix: str, after: str, last: str) -> None:
    """Print what a watch sees from revision ``after`` until ``last`` is seen."""
    watch = store.watch(prefix, int(after))
    print("ready", flush=True)
    seen = 0
    while seen < int(last):
        batch = watch.next(PATIENCE_S)
        if batch is None or batch.compacted:
            sys.exit(f"nothing more after revision {seen}")
        for event in batch.events:
            print(event.key, (event.entry.value if event.entry else b"-").decode(), flush=True)
        seen = batch.revision


if __name__ == "__main__":
    verb, url, *arguments = sys.argv[1:]
    {"count": count, "write": write, "follow": follow}[verb](opened(url), *arguments)
