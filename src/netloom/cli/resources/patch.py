"""``netloom patch`` and ``netloom label``: a part of one resource."""

from __future__ import annotations

import json
from typing import Any

import click

from netloom.cli.options import with_settings
from netloom.cli.resources import files, notation
from netloom.cli.resources.editor import Editor, edit, missing
from netloom.cli.resources.given import namespace_of, namespace_option
from netloom.cli.settings import Settings
from netloom.core.resources.table import kind_called
from netloom.model.errors import Conflict, InvalidConfig


@click.command(epilog='Example: netloom patch bgppeer tor -p \'{"spec": {"asNumber": 64513}}\'')
@click.argument("kind")
@click.argument("name")
@click.option("-p", "--patch", "text", required=True, metavar="JSON", help="As JSON or YAML.")
@click.option(
    "-t",
    "--type",
    "form",
    default="strategic",
    show_default=True,
    type=click.Choice(("strategic", "merge", "json")),
    help="strategic and merge: RFC 7396; json: RFC 6902, a list of operations.",
)
@namespace_option
@with_settings("datastore")
def patch(kind: str, name: str, text: str, form: str, namespace: str, settings: Settings) -> None:
    """Merge a patch into a resource: objects are merged, null removes, all else replaces."""
    parts = [data for data, _ in notation.load(text, "patch")]
    change = parts[0] if len(parts) == 1 else None
    if form == "json":
        _edit(kind, name, namespace, settings, lambda data: operated(data, change))
    elif isinstance(change, dict):
        _edit(kind, name, namespace, settings, lambda data: merged(data, change))
    else:
        raise InvalidConfig(
            f"patch: {text!r} is not an object",
            field="patch",
            value=text,
            hint='e.g. \'{"spec": {"asNumber": 64513}}\'; a list of operations is --type json',
        )
    click.echo(f"Successfully patched 1 '{kind_called(kind).name}' resource")


@click.command(epilog="Example: netloom label node h1 rack=7; netloom label node h1 rack --remove")
@click.argument("kind")
@click.argument("name")
@click.argument("labels", nargs=-1, required=True, metavar="KEY=VALUE...|KEY...")
@click.option("--overwrite", is_flag=True, help="Also where the label has another value.")
@click.option("--remove", is_flag=True, help="Take the labels away.")
@namespace_option
@with_settings("datastore")
def label(
    *,
    kind: str,
    name: str,
    labels: tuple[str, ...],
    overwrite: bool,
    remove: bool,
    namespace: str,
    settings: Settings,
) -> None:
    """Give labels to a resource, or take them away."""

    def change(data: dict[str, Any]) -> dict[str, Any]:
        present: dict[str, str] = data["metadata"].setdefault("labels", {})
        for text in labels:
            key, sign, value = text.partition("=")
            if remove:
                present.pop(key, None)
            elif not sign:
                raise InvalidConfig(
                    f"labels: {text!r} is not key=value",
                    field="labels",
                    value=text,
                    hint="write rack=7, or add --remove",
                )
            elif present.get(key, value) != value and not overwrite:
                raise Conflict(
                    f"label {key} is {present[key]!r} already",
                    hint="add --overwrite to change it",
                )
            else:
                present[key] = value
        return data

    _edit(kind, name, namespace, settings, change)
    done = "removed" if remove else "set"
    plural = "label" if len(labels) == 1 else "labels"
    click.echo(
        f"Successfully {done} {plural} {', '.join(labels)} on {kind_called(kind).name}({name})"
    )


def operated(data: Any, operations: Any) -> Any:
    """Return ``data`` after a list of operations, as RFC 6902 says. Raises InvalidConfig."""
    import jsonpatch  # only here: other verbs do without it

    try:
        if not isinstance(operations, list):
            raise jsonpatch.InvalidJsonPatch("it is not a list of operations")
        return jsonpatch.JsonPatch(operations).apply(data)
    except (jsonpatch.JsonPatchException, jsonpatch.JsonPointerException) as error:
        raise InvalidConfig(
            f"patch: {str(error) or type(error).__name__}",
            field="patch",
            value=operations,
            hint='e.g. \'[{"op": "replace", "path": "/spec/asNumber", "value": 64513}]\'',
        ) from None
    except (TypeError, KeyError, ValueError, AttributeError) as error:
        raise InvalidConfig(
            f"patch: it does not fit the resource: {error}",
            field="patch",
            value=operations,
            hint="look at the resource with -o json: paths are those of it",
        ) from None


def merged(target: Any, change: Any) -> Any:
    """Return ``target`` with ``change`` merged in, as RFC 7396 says."""
    if not isinstance(change, dict):
        return change
    result = dict(target) if isinstance(target, dict) else {}
    for key, value in change.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merged(result.get(key), value)
    return result


def _edit(kind: str, name: str, namespace: str, settings: Settings, change: Any) -> None:
    known = kind_called(kind)
    inside = namespace_of(known, namespace)

    def write(editor: Editor) -> None:
        found = editor.find(known, inside, name)
        if found is None:
            raise missing(known, inside, name)
        data = json.loads(json.dumps(found.render()))
        wanted = files.document(change(data), "", {})
        if wanted.resource.identity != found.identity:
            raise InvalidConfig(
                "metadata.name: a resource keeps its kind and name",
                field="metadata.name",
                value=wanted.resource.name,
                hint="create another one",
            )
        paths = [text.partition(": ")[0] for text in known.whole(wanted.resource)]
        before, after = found.render(), wanted.resource.render()
        editor.replace(wanted, untouched=[p for p in paths if _at(before, p) == _at(after, p)])
        kept = editor.find(known, inside, name)
        if kept is not None and kept.labels != wanted.resource.labels:
            raise InvalidConfig(
                f"metadata.labels: {known.name} keeps no labels",
                field="metadata.labels",
                value=dict(wanted.resource.labels),
                hint="nodes do, and all that is kept as a document of its own",
            )

    for note in edit(settings, write).notes:
        click.echo(f"note: {note}", err=True)


def _at(data: Any, path: str) -> Any:
    """Return what stands at a dotted path; None where nothing does."""
    for name in path.split("."):
        data = data.get(name) if isinstance(data, dict) else None
    return data
