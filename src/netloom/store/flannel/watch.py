"""Watching flannel's keys as our records."""

from __future__ import annotations

import time
from collections.abc import Callable

from netloom.model.datastore import Batch, Entry, Event, Watch
from netloom.store.flannel.holding import Holding
from netloom.store.flannel.picture import Picture


class FlannelWatch:
    """A watch below ``cluster/``: the changes of the records that raw changes make.

    An own lease that vanishes is put back before anybody hears of it.
    """

    def __init__(self, raw: Watch, picture: Picture, holding: Holding, prefix: str) -> None:
        self._raw = raw
        self._picture = picture
        self._holding = holding
        self._prefix = prefix

    def next(self, timeout_s: float | None = None) -> Batch | None:
        """Block until something changed; None when ``timeout_s`` passed or the watch has ended."""
        batch = self._raw.next(timeout_s)
        if batch is None or batch.compacted:
            return batch
        changes = [(event.key, event.entry) for event in batch.events]
        form = self._picture.form
        if any(key in (form.config, form.backend, form.deleted) for key, _ in changes):
            self._holding.due = True
        changed = self._picture.apply(self._without_losses(changes))
        self._holding.note(self._picture)
        events = [
            Event(key, self._picture.records.get(key))
            for key in sorted(changed)
            if key.startswith(self._prefix)
        ]
        return Batch(batch.revision, tuple(events))

    def close(self) -> None:
        """End the watch; idempotent, callable from any thread."""
        self._raw.close()

    def _without_losses(
        self, changes: list[tuple[str, Entry | None]]
    ) -> list[tuple[str, Entry | None]]:
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
