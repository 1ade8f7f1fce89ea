"""``netloom apply``, ``create``, ``replace``, ``delete``: resources from files, all or none."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import click

from netloom.cli.options import with_settings
from netloom.cli.resources.editor import Editor, edit
from netloom.cli.resources.files import Document
from netloom.cli.resources.given import Given, with_files
from netloom.cli.settings import Settings
from netloom.core.resources.table import kind_called
from netloom.model.errors import InvalidConfig

dry_run_option = click.option("--dry-run", is_flag=True, help="Check all, write nothing.")


@click.command(epilog="Example: netloom apply -f peers.yaml")
@with_files(required=True)
@dry_run_option
@with_settings("datastore")
def apply(*, given: Given, dry_run: bool, settings: Settings) -> None:
    """Make the resources in files true: create what is not there, replace what is."""
    _change("applied", given.documents(), dry_run, settings)


@click.command(epilog="Example: netloom create -f pool.yaml")
@with_files(required=True)
@click.option("--skip-exists", is_flag=True, help="Leave alone those that exist.")
@dry_run_option
@with_settings("datastore")
def create(
    *,
    given: Given,
    skip_exists: bool,
    dry_run: bool,
    settings: Settings,
) -> None:
    """Create the resources in files; refused when one exists."""
    _change("created", given.documents(), dry_run, settings, skip=skip_exists)


@click.command(
    epilog="Example: netloom get bgppeer tor -o yaml > tor.yaml; netloom replace -f tor.yaml"
)
@with_files(required=True)
@dry_run_option
@with_settings("datastore")
def replace(*, given: Given, dry_run: bool, settings: Settings) -> None:
    """Replace resources by those in files; refused when one does not exist."""
    _change("replaced", given.documents(), dry_run, settings)


@click.command(epilog="Example: netloom delete bgppeer rack1-tor")
@click.argument("kind", required=False)
@click.argument("names", nargs=-1, metavar="[NAME]...")
@with_files(required=False)
@click.option("--skip-not-exists", is_flag=True, help="Absent is well.")
@dry_run_option
@with_settings("datastore")
def delete(
    *,
    kind: str | None,
    names: tuple[str, ...],
    given: Given,
    skip_not_exists: bool,
    dry_run: bool,
    settings: Settings,
) -> None:
    """Delete resources by kind and name, or those that files name."""
    if bool(kind) == bool(given) or (kind and not names):
        raise click.UsageError("say a kind and a name, or -f FILE")
    if kind:
        known = kind_called(kind)
        doomed = [(known, given.inside(known), name, 0) for name in names]
    else:
        documents = given.documents()
        doomed = [(d.kind, d.resource.namespace, d.resource.name, d.version) for d in documents]

    def remove(editor: Editor) -> None:
        for each, inside, name, version in doomed:
            if skip_not_exists and editor.find(each, inside, name) is None:
                continue
            editor.delete(each, inside, name, version)

    _tell(edit(settings, remove, dry_run=dry_run), "deleted", dry_run)


def _change(
    done: str, documents: list[Document], dry_run: bool, settings: Settings, skip: bool = False
) -> None:
    _refuse_twice(documents)

    def write(editor: Editor) -> None:
        act = {"applied": editor.apply, "created": editor.create, "replaced": editor.replace}[done]
        for document in documents:
            resource = document.resource
            if skip and editor.find(document.kind, resource.namespace, resource.name):
                continue
            act(document)

    create = not dry_run and done != "replaced"
    _tell(edit(settings, write, create=create, dry_run=dry_run), done, dry_run)


def _tell(editor: Editor, done: str, dry_run: bool) -> None:
    for note in editor.notes:
        click.echo(f"note: {note}", err=True)
    kinds = Counter(resource.kind for resource in editor.changed)
    if not kinds:
        click.echo("Nothing to do")
    for kind, count in kinds.items():
        click.echo(
            f"{count} '{kind}' resource(s) would be {done}; nothing was written"
            if dry_run
            else f"Successfully {done} {count} '{kind}' resource(s)"
        )


def _refuse_twice(documents: Sequence[Document]) -> None:
    """Refuse two documents of one resource: which of them is meant?"""
    seen: dict[tuple[str, str, str], Document] = {}
    for document in documents:
        identity = document.resource.identity
        if identity in seen:
            first = seen[identity]
            raise document.located(
                InvalidConfig(
                    f"metadata.name: {document.kind.name}({document.resource.name}) stands in "
                    f"{first.place}:{first.lines.get('', 0)} as well",
                    field="metadata.name",
                    value=document.resource.name,
                    hint="leave one of them out",
                )
            )
        seen[identity] = document
