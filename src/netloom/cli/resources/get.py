"""``netloom get``: resources, from the datastore; no agent is needed."""

from __future__ import annotations

import click

from netloom.cli.cluster import opened
from netloom.cli.options import with_settings
from netloom.cli.resources.editor import missing
from netloom.cli.resources.given import Given, with_files
from netloom.cli.resources.printing import form_of, rendered
from netloom.cli.settings import Settings
from netloom.core.resources.contract import Kind, Picture
from netloom.core.resources.table import KINDS, kind_called
from netloom.model.errors import InvalidConfig
from netloom.model.resource import Resource

EXAMPLES = """\b
Examples:
  netloom get bgppeers -o wide
  netloom get bgppeer rack1-tor -o yaml
  netloom get all
  netloom get bgppeers -o custom-columns=NAME,ASN
"""


@click.command(epilog=EXAMPLES)
@click.argument("kind", required=False)
@click.argument("names", nargs=-1, metavar="[NAME]...")
@with_files(required=False)
@click.option(
    "-o",
    "--output",
    default="ps",
    metavar="FORM",
    show_default=True,
    help="ps, wide, yaml, json or custom-columns=A,B.",
)
@click.option("-A", "-a", "--all-namespaces", is_flag=True, help="Of every namespace.")
@click.option("--export", is_flag=True, help="Without what only this cluster knows.")
@with_settings("datastore")
def get(
    *,
    kind: str | None,
    names: tuple[str, ...],
    given: Given,
    output: str,
    all_namespaces: bool,
    export: bool,
    settings: Settings,
) -> None:
    """Show resources of a kind, all of them or by name; `all` for every kind."""
    output = form_of(output)
    if bool(kind) == bool(given):
        raise click.UsageError("say a kind, e.g. `netloom get bgppeers`, or -f FILE")
    kinds = _kinds(kind, export) if kind else ()
    with opened(settings) as cluster:
        picture = cluster.picture()
    if given:
        documents = given.documents()
        if not documents:
            return
        wanted = [(d.kind, d.resource.namespace, d.resource.name) for d in documents]
    else:
        wanted = [(each, given.inside(each), name) for each in kinds for name in names]
    found = [_one(picture, *each) for each in wanted]
    if not wanted:
        found = [r for each in kinds for r in _all(picture, each, given, all_namespaces)]
    if export:
        found = [_exported(resource) for resource in found]
        picture = Picture(picture.cluster, picture.endpoints)
    click.echo(rendered(output, found, picture, whole=bool(wanted)) or _nothing(kinds))


def _kinds(word: str, export: bool) -> tuple[Kind, ...]:
    """Return the kinds that are asked for; an export of all is one that can be applied."""
    if word.lower() != "all":
        return (kind_called(word),)
    return tuple(kind for kind in KINDS.values() if not (export and kind.told))


def _one(picture: Picture, kind: Kind, namespace: str, name: str) -> Resource:
    found = kind.find(picture, namespace, name)
    if found is None:
        raise missing(kind, namespace, name)
    return found


def _all(picture: Picture, kind: Kind, given: Given, everywhere: bool) -> list[Resource]:
    inside = "" if everywhere else given.inside(kind)
    shown = kind.keeping.shown(picture)
    chosen = [each for each in shown if everywhere or each.namespace == inside]
    return sorted(chosen, key=lambda each: (each.namespace, each.name))


def _exported(resource: Resource) -> Resource:
    return Resource(
        resource.kind,
        resource.name,
        resource.spec,
        resource.namespace,
        resource.labels,
        resource.annotations,
    )


def _nothing(kinds: tuple[Kind, ...]) -> str:
    if len(kinds) != 1:
        raise InvalidConfig("there are no resources yet", hint="`netloom apply -f FILE` makes some")
    return rendered_heading(kinds[0])


def rendered_heading(kind: Kind) -> str:
    """Return the table of a kind without any rows."""
    from netloom.cli.resources.columns import columns_of
    from netloom.cli.resources.printing import tabbed

    return tabbed([columns_of(kind.name, wide=False)])
