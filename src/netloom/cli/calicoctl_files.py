"""``calicoctl validate`` and ``convert``: files alone, no datastore is asked."""

from __future__ import annotations

import json
from collections import Counter

import click

from netloom.cli.resources.given import Given, with_files
from netloom.cli.resources.printing import as_yaml
from netloom.model.resource import API_VERSION


@click.command(epilog="Example: calicoctl validate -f peers.yaml")
@with_files(required=True)
def validate(*, given: Given) -> None:
    """Check each resource in files on its own; `apply --dry-run` asks the datastore as well."""
    documents = given.documents()
    for each in documents:
        for path, sign, instead in (
            text.partition(": ") for text in each.kind.whole(each.resource)
        ):
            said = f"{each.kind.name}({each.resource.name}): {path} has no effect here"
            click.echo(f"note: {said}{sign}{instead}", err=True)
    for kind, count in Counter(each.kind.name for each in documents).items():
        click.echo(f"Successfully validated {count} '{kind}' resource(s)")


@click.command(epilog="Example: calicoctl convert -f v1.yaml -o yaml > v3.yaml")
@with_files(required=True)
@click.option("-o", "--output", type=click.Choice(("yaml", "json")), default="yaml")
def convert(*, given: Given, output: str) -> None:
    """Print the resources in files, those of v1 too, as v3 has them."""
    documents = given.documents()
    data = [json.loads(json.dumps(each.resource.render())) for each in documents]
    whole = data[0] if len(data) == 1 else {"apiVersion": API_VERSION, "kind": "List"}
    if len(data) > 1:
        whole["items"] = data
    if output == "json":
        click.echo(json.dumps(whole, indent=2))
    else:
        click.echo(as_yaml(whole), nl=False)
