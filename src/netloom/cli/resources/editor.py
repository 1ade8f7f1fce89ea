"""Changing resources: all of a call's documents are checked, then written at once, or none is."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from netloom.cli.cluster import MAX_OPERATIONS, ClusterStore, Overtaken, opened
from netloom.cli.resources.files import Document
from netloom.cli.settings import Settings
from netloom.core.resources.contract import Kind, Misfits, Operation
from netloom.core.resources.table import KINDS
from netloom.model.datastore import Batch, Delete, Entry, Event, Put
from netloom.model.errors import Conflict, InvalidConfig, NetloomError
from netloom.model.keys import BLOCKS
from netloom.model.resource import Resource
from netloom.reconcile import cluster as fold

_ATTEMPTS = 10


@dataclass
class Editor:
    """Gathers changes on what the store said; each sees the ones before it.

    :meth:`commit` does them all in one transaction, which fails when anything that was looked at
    changed meanwhile.
    """

    store: ClusterStore
    changed: list[Resource] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.picture = self.store.picture()
        self._before = self.picture
        self._written: dict[tuple[str, str, str], Document] = {}
        self._operations: dict[str, Operation] = {}
        self._seen: set[str] = set()
        #: By which option a call is done again of which a part is done.
        self._skipping = ""

    def find(self, kind: Kind, namespace: str, name: str) -> Resource | None:
        """Return a resource as it stands after the changes so far."""
        return kind.find(self.picture, namespace, name)

    def create(self, document: Document) -> None:
        """Add a resource. Raises Conflict when it is there."""
        known = self._known(document)
        if known is not None:
            raise Conflict(
                f"{_title(known)} exists already",
                hint="change it with `netloom replace` or `netloom apply`",
            )
        self._skipping = " with --skip-exists"
        self._write(document, None)

    def replace(self, document: Document, *, untouched: Collection[str] = ()) -> None:
        """Write a resource over one that is there. Raises InvalidConfig when there is none.

        Of the dotted paths ``untouched`` no note is made: who writes has not spoken of them.
        """
        known = self._known(document)
        if known is None:
            raise missing(document.kind, document.resource.namespace, document.resource.name)
        self._write(document, known, untouched)

    def apply(self, document: Document) -> None:
        """Write a resource, whether it is there or not."""
        self._write(document, self._known(document))

    def delete(self, kind: Kind, namespace: str, name: str, version: int = 0) -> None:
        """Take a resource away. Raises InvalidConfig when there is none."""
        known = kind.find(self.picture, namespace, name)
        if known is None:
            raise missing(kind, namespace, name)
        self._skipping = " with --skip-not-exists"
        self._compare(kind, known, version)
        self._do(kind.keeping.removed(self.picture, known))
        self._written.pop(known.identity, None)
        self.changed.append(known)

    def settle(self) -> None:
        """See whether all fits together, once every change is made, in whichever order.

        Raises InvalidConfig for what was written and does not fit; what was there and fits no more
        is noted: its remedy may be the next thing to come.
        """
        for kind in KINDS.values():
            before: Misfits | None = None
            for identity, error in kind.misfits(self.picture).items():
                if identity in self._written:
                    raise self._written[identity].located(error)
                before = kind.misfits(self._before) if before is None else before
                if identity not in before:
                    resource = self.picture.cluster.resources[identity]
                    self.notes.append(f"{_title(resource)}: {error}; {error.hint}")

    def commit(self) -> None:
        """Write all changes at once. Raises Conflict when somebody was quicker.

        More than a store takes at once go one part after the other; who is interrupted is told how
        many were not made, and how the rest comes to be done.
        """
        operations = list(self._operations.values())
        looked_at = sorted(self._seen - self._operations.keys())
        for start in range(0, len(operations), MAX_OPERATIONS):
            part = operations[start : start + MAX_OPERATIONS]
            touched = [*(each.key for each in part), *(looked_at if not start else ())]
            try:
                self.store.commit(part, self.store.unchanged(*touched))
            except NetloomError as error:
                if not start:
                    raise
                left = operations[start:]
                text = f"{len(left)} of {len(operations)} changes were not made: {error}"
                kind = Conflict if isinstance(error, Conflict) else type(error)
                raise kind(text, hint=self._remedy(left)) from None

    def _remedy(self, left: Collection[Operation]) -> str:
        """Return what to do about the changes that are ``left`` when others were made."""
        if all(isinstance(each, Delete) and each.key.startswith(BLOCKS) for each in left):
            return (
                "what is left are blocks of pools that are gone: their hosts give them back, and "
                "`netloom ipam check` names those of hosts that do not run"
            )
        return f"do it again{self._skipping}: what is done stays so"

    def _known(self, document: Document) -> Resource | None:
        resource = document.resource
        return document.kind.find(self.picture, resource.namespace, resource.name)

    def _write(
        self, document: Document, known: Resource | None, untouched: Collection[str] = ()
    ) -> None:
        kind, resource = document.kind, document.resource
        try:
            if known is not None:
                self._compare(kind, known, document.version)
                resource = replace(resource, uid=known.uid, created=known.created)
            else:
                now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
                resource = replace(resource, uid=str(uuid.uuid4()), created=now)
            ignored = kind.whole(resource)
            operations = kind.keeping.written(self.picture, resource)
        except InvalidConfig as error:
            raise document.located(error) from None
        self._seen.update(kind.keeping.keys(self.picture, resource))
        self._do(operations)
        self._written[resource.identity] = document
        self.changed.append(resource)
        for path, sign, instead in (text.partition(": ") for text in ignored):
            if path not in untouched:
                self.notes.append(f"{_title(resource)}: {path} has no effect here{sign}{instead}")

    def _compare(self, kind: Kind, known: Resource, asked: int) -> None:
        self._seen.update(kind.keeping.keys(self.picture, known))
        version = kind.version(self.picture, known)
        if asked and asked != version:
            raise Conflict(
                f"{_title(known)}: it is at resourceVersion {version}, not {asked}: somebody has "
                "changed it since",
                hint="look at it again, or leave out metadata.resourceVersion to write over it",
            )

    def _do(self, operations: Iterable[Operation]) -> None:
        """Note the operations and see the cluster as it will be."""
        events = []
        for operation in operations:
            self._operations[operation.key] = operation
            entry = (
                Entry(operation.key, operation.value, 0, 0) if isinstance(operation, Put) else None
            )
            events.append(Event(operation.key, entry))
        cluster = self.picture.cluster
        batch = Batch(cluster.revision, tuple(events))
        self.picture = replace(self.picture, cluster=fold.fold(cluster, batch))


def edit(
    settings: Settings,
    change: Callable[[Editor], None],
    *,
    create: bool = False,
    dry_run: bool = False,
) -> Editor:
    """Have ``change`` gather changes, and write them; when somebody was quicker, all over again.

    So whoever names no ``resourceVersion`` never meets the agents' own writes. ``create``: in a
    store that need not be there yet. Returns the editor, for what it has to tell.
    """
    with opened(settings, create=create) as first:
        for left in reversed(range(_ATTEMPTS)):
            editor = Editor(ClusterStore(first.store))
            change(editor)
            editor.settle()
            if dry_run:
                return editor
            try:
                editor.commit()
            except Overtaken:
                if not left:
                    raise
            else:
                return editor
    raise AssertionError("the last attempt either returns or raises")


def missing(kind: Kind, namespace: str, name: str) -> InvalidConfig:
    """Return the error of a resource that is not there."""
    inside = f"{namespace}/" if namespace else ""
    return InvalidConfig(
        f"resource does not exist: {kind.name}({inside}{name})",
        field="metadata.name",
        value=name,
        hint=f"`netloom get {kind.plural}` lists those that do",
    )


def _title(resource: Resource) -> str:
    inside = f"{resource.namespace}/" if resource.namespace else ""
    return f"{resource.kind}({inside}{resource.name})"
