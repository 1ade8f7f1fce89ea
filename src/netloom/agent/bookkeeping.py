"""The journal and the book's index of it, changed together: one transaction, then one step.

The journal is the truth and the index its picture in memory, built at start and after any write
whose outcome is unknown. Every change is one transaction of the journal, so that a crash leaves an
address either held or free. What a change is, ``agent/addresses`` and ``agent/lent`` know.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from netloom.agent import journal as records
from netloom.agent.index import Index
from netloom.model.addr import IPNetwork
from netloom.model.datastore import Compare, Delete, Put, Store, Transaction
from netloom.model.errors import Unavailable


class Bookkeeping:
    """One journal with its index. Safe for threads.

    The index is looked at under :meth:`looking`, and changed inside :meth:`turn` under
    :meth:`touching`. ``doubtful`` are keys of intents whose write may or may not have happened;
    nobody was promised them. ``given_up`` are blocks from which nothing is dealt any more.
    """

    def __init__(self, journal: Store) -> None:
        self._journal = journal
        #: Held by the one thread that changes the book, also while the journal writes.
        self._writing = threading.Lock()
        #: Held for moments only, to look at the index or to change it.
        self._lock = threading.Lock()
        self._listeners: list[Callable[[], None]] = []
        self._version = 0
        self._index = Index(records.read(journal))
        #: The journal may hold something else than the index says.
        self.stale = False
        self.doubtful: set[str] = set()
        self.given_up: frozenset[tuple[str, IPNetwork]] = frozenset()

    @property
    def version(self) -> int:
        """Count the changes since start."""
        with self._lock:
            return self._version

    def on_change(self, listener: Callable[[], None]) -> None:
        """Have ``listener`` called after every change, by the thread that made it."""
        with self._lock:
            self._listeners.append(listener)

    @contextmanager
    def looking(self) -> Iterator[Index]:
        """Look at the index, for a moment: it never waits for the journal."""
        with self._lock:
            yield self._index

    @contextmanager
    def standing_still(self) -> Iterator[Index]:
        """Look at the index while nobody changes it, nor is about to."""
        with self._writing, self._lock:
            yield self._index

    @contextmanager
    def turn(self) -> Iterator[Index]:
        """Let one thread at a time change the book; tell the listeners once it is done."""
        before = after = 0
        try:
            with self._writing:
                before = self._version
                try:
                    self._recover()
                    yield self._index
                finally:
                    after = self._version
        finally:
            if after != before:
                for listener in tuple(self._listeners):
                    listener()

    @contextmanager
    def touching(self) -> Iterator[Index]:
        """Change the index as one step for those who ask."""
        with self._lock:
            yield self._index
            self._version += 1

    def commit(self, operations: Sequence[Put | Delete], compares: Sequence[Compare] = ()) -> int:
        """Write; return the journal's revision. Raises Unavailable: the outcome is unknown then."""
        # However this ends, nobody trusts the index before it was seen to succeed.
        self.stale = True
        outcome = self._journal.commit(Transaction(operations, compares))
        if not outcome.succeeded:
            self.doubtful.clear()
            raise Unavailable(
                "the host's journal was changed by another process",
                hint="only the agent may write it; it is read anew, try again",
            )
        self.stale = False
        return outcome.revision

    def _recover(self) -> None:
        """After a write whose outcome is unknown: take back what nobody was promised, read again.

        Raises Unavailable while the journal cannot be used.
        """
        if not self.stale and not self.doubtful:
            return
        if self.doubtful:
            self.commit([Delete(key) for key in sorted(self.doubtful)])
            self.doubtful.clear()
        index = Index(records.read(self._journal))
        self.stale = False
        with self._lock:
            self._index = index
            self._version += 1
