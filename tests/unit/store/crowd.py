"""Fifty processes that open one absent store at the same moment. Not a test."""

from __future__ import annotations

import os
import sys
import traceback

from netloom.model.datastore import Put, Transaction
from netloom.store.sqlite import SqliteStore


def member(number: int, start: int, url: str) -> None:
    """Wait for the start, open the store, write three keys, say which store it was."""
    os.read(start, 1)  # ends when the last writer of the pipe is gone
    store = SqliteStore(url.removeprefix("sqlite://"), busy_s=60)  # all of them want to write
    for key in "abc":
        store.commit(Transaction([Put(f"/{number}/{key}", b"%d" % number)]))
    sys.stdout.write(f"{store.store_id}\n")
    sys.stdout.flush()


def main(url: str, size: int) -> int:
    """Fork the crowd, start it, and return how many of it failed."""
    reader, writer = os.pipe()
    children = []
    for number in range(size):
        child = os.fork()
        if child == 0:
            os.close(writer)
            try:
                member(number, reader, url)
            except BaseException:  # noqa: BLE001 - a child says why it failed and ends here
                traceback.print_exc()
                os._exit(1)
            os._exit(0)
        children.append(child)
    os.close(writer)
    return sum(os.waitpid(child, 0)[1] != 0 for child in children)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2])))
