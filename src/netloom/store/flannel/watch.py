"""Watching flannel's keys as our records."""

from __future__ import annotations

import time
from collections.abc import Callable

from netloom.model import keys
from netloom.model.datastore import Batch, Entry, Event, Watch
from netloom.store.flannel.held import Holder
from netloom.store.flannel.holding import Holding
from netloom.store.flannel.picture import Picture

#: For so long a lease that vanished under a host of ours may yet be put back by that host, which
#: does so as soon as it hears of it: one that is reached again looks within two seconds, or a few
#: more where the machine is busy.
GRACE_S = 10.0
Change = tuple[str, Entry | None]


class FlannelWatch:
    """A watch below ``cluster/``: the changes of the records that raw changes make.

    An own lease that vanishes is put back before anybody hears of it. That another host of ours
    lost its lease, which is not that it was given back, is told only when the host let ``GRACE_S``
    pass without putting it back: its containers are there all the while.
    """

    def __init__(
        self,
        raw: Watch,
        picture: Picture,
        holding: Holding,
        prefix: str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._raw = raw
        self._clock = clock
        self._picture = picture
        self._holding = holding
        self._prefix = prefix
        self._revision = 0
        #: Vanished leases of others: until when they may come back, and what to tell then.
        self._doubted: dict[str, tuple[float, list[Change]]] = {}

    def next(self, timeout_s: float | None = None) -> Batch | None:
        """Block until something changed; None when ``timeout_s`` passed or the watch has ended."""
        batch = self._raw.next(self._patience(timeout_s))
        if batch is not None and batch.compacted:
            return batch
        self._revision = batch.revision if batch else self._revision
        changes = [(event.key, event.entry) for event in batch.events] if batch else []
        changes = self._believed(self._without_losses(changes))
        if batch is None and not changes:
            return None
        form = self._picture.form
        if any(key in (form.config, form.backend, form.deleted) for key, _ in changes):
            self._holding.due = True
        changed = self._picture.apply(changes)
        self._holding.note(self._picture)
        events = [
            Event(key, self._picture.records.get(key))
            for key in sorted(changed)
            if key.startswith(self._prefix)
        ]
        return Batch(self._revision, tuple(events))

    def close(self) -> None:
        """End the watch; idempotent, callable from any thread."""
        self._raw.close()

    def _patience(self, timeout_s: float | None) -> float | None:
        """Return how long to wait for the store: no longer than a doubt lasts."""
        if not self._doubted:
            return timeout_s
        left_s = min(until for until, _ in self._doubted.values()) - self._clock()
        return max(0.0, left_s if timeout_s is None else min(left_s, timeout_s))

    def _believed(self, changes: list[Change]) -> list[Change]:
        """Leave out vanished leases that may come back; add those that did not, in time."""
        form, last, now = self._picture.form, dict(changes), self._clock()
        believed: list[Change] = []
        for key, entry in changes:
            if not key.startswith((form.subnets, form.holders)):
                believed.append((key, entry))
                continue
            segment = key.removeprefix(form.subnets).removeprefix(form.holders)
            if entry is None and self._may_return(segment, last):
                self._doubted.setdefault(segment, (now + GRACE_S, []))[1].append((key, None))
                continue
            believed += self._doubted.pop(segment, (now, []))[1]
            believed.append((key, entry))
        for segment, (until, _) in list(self._doubted.items()):
            if until <= now:
                believed += self._doubted.pop(segment)[1]
        return believed

    def _may_return(self, segment: str, last: dict[str, Entry | None]) -> bool:
        """Tell whether a lease is of another host of ours, which is a part of the cluster still."""
        form, held = self._picture.form, self._picture.held.get(segment)
        if held is None:
            return False
        noted = self._picture.raw.get(form.holders + segment)
        unread = held.lease is None and noted is not None  # then the note alone says whose it is
        holder = Holder.parse(noted.value) if unread and noted else held.holder
        if holder is None or holder.host_id == self._holding.host_id:
            return False
        host = form.raw(keys.host_key(holder.host_id))
        return last.get(host, self._picture.raw.get(host)) is not None

    def _without_losses(self, changes: list[Change]) -> list[Change]:
        """Put back own leases whose last change is that they are gone; leave those changes out."""
        form, last = self._picture.form, dict(changes)
        kept: set[str] = set()
        for key, entry in last.items():
            if entry is not None or not key.startswith((form.subnets, form.holders)):
                continue
            segment = key.removeprefix(form.subnets).removeprefix(form.holders)
            if segment in kept or self._holding.put_back(segment):
                kept.add(segment)
        spared = {place + segment for segment in kept for place in (form.subnets, form.holders)}
        return [(key, entry) for key, entry in changes if key not in spared]


class RenamedWatch:
    """A watch of what stands elsewhere unchanged: only the keys are called otherwise."""

    def __init__(self, raw: Watch, ours: Callable[[str], str]) -> None:
        self._raw = raw
        self._ours = ours

    def next(self, timeout_s: float | None = None) -> Batch | None:
        """Block until something changed; None when ``timeout_s`` passed or the watch has ended."""
        batch = self._raw.next(timeout_s)
        if batch is None or not batch.events:
            return batch
        return Batch(batch.revision, tuple(renamed(event, self._ours) for event in batch.events))

    def close(self) -> None:
        """End the watch; idempotent, callable from any thread."""
        self._raw.close()


class StaleWatch:
    """A watch from a revision whose state is not known any more: list again."""

    def __init__(self, revision: int) -> None:
        self._revision = revision
        self._ended = False

    def next(self, timeout_s: float | None = None) -> Batch | None:
        """Return once that the history is gone, then nothing."""
        if not self._ended:
            self._ended = True
            return Batch(self._revision, compacted=True)
        if timeout_s:
            time.sleep(min(timeout_s, 0.1))
        return None

    def close(self) -> None:
        """End the watch; idempotent."""
        self._ended = True


def renamed(event: Event, ours: Callable[[str], str]) -> Event:
    """Return an event under our key."""
    key, entry = ours(event.key), event.entry
    if entry is None:
        return Event(key, None)
    return Event(
        key,
        Entry(key, entry.value, entry.create_revision, entry.mod_revision, entry.lease),
    )
