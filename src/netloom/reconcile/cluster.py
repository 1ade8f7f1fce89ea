"""The cluster as the store tells it: a listing parsed, then changes folded in, one by one.

Pure: values in, values out. Three laws hold, whatever the store says:

- *Path independence*: folding the same changes in any portions gives the same cluster, and it is
  the one that a listing of the result gives.
- *No harm*: a value that does not parse keeps its last good form, stands in ``problems`` under its
  key until it is mended or deleted, and touches nothing else.
- *Standing*: when the store is another than before (its id changed, or its revision went back)
  what only the former one said **stands**: it stays in the cluster, its keys in ``standing``, with
  a problem that says so. A key stops standing when the present store names it (agents register
  their host and blocks again by themselves), when another block takes part of a standing block's
  range, or when a person says so: :func:`release`, or an agent whose kept picture was removed. A
  restart is no such word: an agent may be upgraded in the middle of a disaster. A standing block
  that its host claims anew stands until the claim is confirmed: one that is pending takes nothing
  from anybody. Neither does a loan, which lies in its lender's block; a standing one goes when the
  range is another's. Deletions within one and the same store are meant and followed at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from netloom.core.ipam.blocks import overlap
from netloom.model import keys
from netloom.model.datastore import Batch, Entry, Listing
from netloom.model.errors import Bug
from netloom.model.host import Block
from netloom.model.view import Cluster, Problem
from netloom.reconcile.cluster_tables import (
    KEY_SUBJECT,
    TABLES,
    Identity,
    Place,
    Ranges,
    place,
    read,
    subject_of,
)

_STORE = "store"  # the subject of the problem that tells of a replaced store


def from_listing(listing: Listing, store_id: str, previous: Cluster | None = None) -> Cluster:
    """Return the cluster that a listing of ``keys.CLUSTER`` describes.

    ``previous`` is the last cluster there was, whose good forms and standing entries live on as
    the module's laws say.
    """
    before = previous or Cluster()
    change = _change_of_store(listing, store_id, before)
    candidates = frozenset(_keys_of(before)) if change else before.standing
    draft = _Draft(Cluster(listing.revision, store_id))
    for entry in listing.entries:
        draft.put(entry, before, candidates)
    standing = candidates.difference(entry.key for entry in listing.entries)
    for key in standing:
        draft.keep(key, before)
    draft.yield_to_present()
    if change:
        draft.store_problem = _standing_problem(change)
    else:
        draft.store_problem = _problems_by_subject(before).get(_STORE)
    return draft.cluster()


def fold(cluster: Cluster, batch: Batch) -> Cluster:
    """Return the cluster after ``batch``; costs a copy of the tables that it touches."""
    if batch.compacted:
        raise Bug("a compacted batch holds no changes: list again and call from_listing")
    if not batch.events:
        return replace(cluster, revision=batch.revision)
    draft = _Draft(cluster)
    for event in batch.events:
        if event.entry is None:
            draft.delete(event.key)
        else:
            draft.put(event.entry)
    draft.revision = batch.revision
    return draft.cluster()


def release(cluster: Cluster) -> Cluster:
    """Let go of all that stands from a former store; the user said so."""
    draft = _Draft(cluster)
    for key in cluster.standing:
        draft.forget(key)
    draft.standing = set()
    return draft.cluster()


def unreadable(cluster: Cluster) -> frozenset[str]:
    """Return the keys of which the last good form, if any, is in use."""
    subjects = (subject_of(problem) for problem in cluster.problems)
    return frozenset(s.removeprefix(KEY_SUBJECT) for s in subjects if s.startswith(KEY_SUBJECT))


class _Draft:
    """A cluster being changed. Tables are copied at their first change."""

    def __init__(self, base: Cluster) -> None:
        self._base = base
        self._tables: dict[str, dict[Identity, Any]] = {}
        self._problems: dict[str, Problem] | None = None
        self.revision = base.revision
        self.standing = set(base.standing)
        self.store_problem = _problems_by_subject(base).get(_STORE) if base.problems else None

    def put(
        self, entry: Entry, before: Cluster | None = None, candidates: Set[str] | None = None
    ) -> None:
        """Take the entry in, or keep its last good form (``before``'s) and note the problem.

        ``candidates`` are the keys that stand unless the present store names them.
        """
        where = place(entry.key)
        if where is None:
            return
        stood = entry.key in (self.standing if candidates is None else candidates)
        self.standing.discard(entry.key)
        value, problem = read(where, entry.key, entry.value)
        if problem is not None:
            self._complain(problem)
            if before is not None:
                self._keep_last_good(where, before)
            return
        self._settle(entry.key)
        is_block = where.table.name == "blocks"
        if stood and is_block and self._is_half(value, before or self._base):
            self.keep(entry.key, before or self._base)
            return
        self._table(where.table.name)[where.identity] = value
        if self.standing and not stood and is_block:
            self._yield_to([value])

    def delete(self, key: str) -> None:
        """Forget the key, its value and its problem."""
        self.standing.discard(key)
        self.forget(key)
        self._settle(key)

    def keep(self, key: str, before: Cluster) -> None:
        """Let the value that ``before`` had under ``key`` stand."""
        where = place(key)
        if where is not None and self._keep_last_good(where, before):
            self.standing.add(key)

    def forget(self, key: str) -> None:
        """Drop the value under ``key``."""
        where = place(key)
        if where is not None and where.problem is None:
            self._table(where.table.name).pop(where.identity, None)

    def yield_to_present(self) -> None:
        """Drop standing blocks whose range the present store gave to others."""
        if self.standing:
            blocks = self._tables.get("blocks", {}).values()
            self._yield_to(
                [b for b in blocks if keys.block_key(b.network, b.cidr) not in self.standing]
            )

    def cluster(self) -> Cluster:
        """Return the result."""
        problems = self._base.problems
        if self._problems is not None:
            problems = tuple(self._problems[subject] for subject in sorted(self._problems))
        if self._base.standing or self.standing:
            problems = tuple(problem for problem in problems if problem.subject != _STORE)
            if self.standing and self.store_problem:
                problems = (self.store_problem, *problems)
        changed: dict[str, Any] = {
            "revision": self.revision,
            "problems": problems,
            "standing": frozenset(self.standing),
        }
        for name, table in self._tables.items():
            changed[name] = MappingProxyType(table)
        return replace(self._base, **changed)

    @staticmethod
    def _is_half(claim: Block, before: Cluster) -> bool:
        """Tell whether a claim of a block that stands is pending: mostly its own host's."""
        was = before.blocks.get((claim.network, claim.cidr))
        return was is not None and was.confirmed and not claim.confirmed

    def _keep_last_good(self, where: Place, before: Cluster) -> bool:
        value = getattr(before, where.table.name).get(where.identity)
        if value is not None:
            self._table(where.table.name)[where.identity] = value
        return value is not None

    def _table(self, name: str) -> dict[Identity, Any]:
        table = self._tables.get(name)
        if table is None:
            base = getattr(self._base, name)
            # copying a dict copies its hashes; any other way hashes every address anew
            table = base.copy() if isinstance(base, MappingProxyType) else dict(base)
            self._tables[name] = table
        return table

    def _complain(self, problem: Problem) -> None:
        if self._problems is None:
            self._problems = _problems_by_subject(self._base)
        self._problems[subject_of(problem)] = problem

    def _settle(self, key: str) -> None:
        subject = KEY_SUBJECT + key
        if self._problems is None:
            if not any(subject_of(problem) == subject for problem in self._base.problems):
                return
            self._problems = _problems_by_subject(self._base)
        self._problems.pop(subject, None)

    def _yield_to(self, said: Iterable[Block]) -> None:
        """Drop what stands in a range that the present store gave away, by one of ``said``."""
        blocks = [block for block in said if block.confirmed and not block.lender]
        ranges = Ranges(blocks)
        for key in [key for key in self.standing if key.startswith(keys.BLOCKS)]:
            where = place(key)
            if where is None or not ranges.overlap(*where.identity):
                continue
            stands = self._table("blocks")[where.identity]
            if not (
                stands.lender and all(b.host_id == stands.lender for b in _over(stands, blocks))
            ):
                self.standing.discard(key)
                self.forget(key)


def _over(one: Block, blocks: Iterable[Block]) -> Iterable[Block]:
    return (b for b in blocks if b.network == one.network and overlap(b.cidr, one.cidr))


def _change_of_store(listing: Listing, store_id: str, before: Cluster) -> str:
    """Say how the store is another than ``before``'s; "" when it is the same or the first."""
    if not before.store_id:
        return ""
    if store_id != before.store_id:
        return f"its id changed from {before.store_id} to {store_id}"
    if listing.revision < before.revision:
        return f"its revision went back from {before.revision} to {listing.revision}"
    return ""


def _standing_problem(change: str) -> Problem:
    return Problem(
        "error",
        _STORE,
        f"the store was replaced or restored: {change}; what only the former one said stays in "
        "place until this one says it again",
        "create its networks again or bring the former store back; hosts and blocks come back with "
        "their agents; to let go of what is gone for good, stop this agent, remove cluster.json "
        "from its state directory, and start it",
    )


def _problems_by_subject(cluster: Cluster) -> dict[str, Problem]:
    return {subject_of(problem): problem for problem in cluster.problems}


def _keys_of(cluster: Cluster) -> Iterable[str]:
    for table in TABLES:
        entries: Mapping[Identity, Any] = getattr(cluster, table.name)
        for value in entries.values():
            yield table.to_key(value)
