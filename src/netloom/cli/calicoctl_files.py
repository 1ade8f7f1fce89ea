"""``calicoctl validate`` and ``convert``: files alone, no datastore is asked."""

from __future__ import annotations

import json
from collections import Counter

import click

from netloom.cli.resources import files
from netloom.cli.resources.change import from_files
from netloom.cli.resources.get import namespace_option, recursive_option
from netloom.cli.resources.printing import as_yaml
from netloom.model.resource import API_VERSION


@click.command(epilog="Example: calicoctl validate -f peers.yaml")
@from_files
@recursive_option
@namespace_option
def validate(filenames: tuple[str, ...], recursive: bool, namespace: str) -> None:
    """Check each resource in files on its own; `apply --dry-run` asks the datastore as well."""
    documents = files.read(filenames, namespace=namespace, recursive=recursive)
    for each in documents:
        for path, sign, instead in (
            text.partition(": ") for text in each.kind.whole(each.resource)
        ):
            said = f"{each.kind.name}({each.resource.name}): {path} has no effect here"
            click.echo(f"note: {said}{sign}{instead}", err=True)
    for kind, count in Counter(each.kind.name for each in documents).items():
        click.echo(f"Successfully validated {count} '{kind}' resource(s)")


@click.command(epilog="Example: calicoctl convert -f v1.yaml -o yaml > v3.yaml")
@from_files
@recursive_option
@click.option("-o", "--output", type=click.Choice(("yaml", "json")), default="yaml")
@namespace_option
def convert(filenames: tuple[str, ...], recursive: bool, output: str, namespace: str) -> None:
    """Print the resources in files, those of v1 too, as v3 has them."""
    documents = files.read(filenames, namespace=namespace, recursive=recursive)
    data = [json.loads(json.dumps(each.resource.render())) for each in documents]
    whole = data[0] if len(data) == 1 else {"apiVersion": API_VERSION, "kind": "List"}
    if len(data) > 1:
        whole["items"] = data
    if output == "json":
        click.echo(json.dumps(whole, indent=2))
    else:
        click.echo(as_yaml(whole), nl=False)
