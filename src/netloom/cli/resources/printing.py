"""How resources are printed: tables as Go's tabwriter makes them, YAML, JSON, columns of choice."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Any

import yaml

from netloom.cli.render import visible, width
from netloom.cli.resources.columns import cell, columns_of, headings
from netloom.core.resources.contract import Picture
from netloom.core.resources.table import KINDS
from netloom.model.errors import InvalidConfig
from netloom.model.fields import nearest
from netloom.model.resource import API_VERSION, Resource

FORMS = ("ps", "wide", "yaml", "json")
_CUSTOM = "custom-columns="
#: Signs that YAML takes for the end of a line or for nothing, or a terminal for an order.
_BREAKS = re.compile("[\x7f-\x9f\u2028-\u202e\u2066-\u2069\ufeff]")
_LEAST, _PADDING = 5, 3
_LONGEST = 80  # of a cell in the plain table; `-o wide` shows it whole


def form_of(word: str) -> str:
    """Return the form that ``-o`` asks for; ``-o=yaml`` is ``-o yaml``. Raises InvalidConfig."""
    form = word.removeprefix("=")
    if form in FORMS or (form.startswith(_CUSTOM) and form != _CUSTOM):
        return form
    hint = nearest(form, (*FORMS, _CUSTOM + "NAME"))
    if form.rstrip("=") == _CUSTOM.rstrip("="):
        hint = f"name the columns: -o {_CUSTOM}NAME,LABELS"
    if form.startswith("go-template"):
        hint = "Go's templates are not available here; use -o json with a tool of your own, e.g. jq"
    raise InvalidConfig(f"output: {form!r} is not known", field="output", value=form, hint=hint)


def rendered(form: str, resources: Sequence[Resource], picture: Picture, *, whole: bool) -> str:
    """Return resources in one of the forms; ``whole``: one was asked for by name, so no list."""
    if form in ("yaml", "json"):
        documents = [_document(resource, picture) for resource in resources]
        data: Any = documents[0] if whole and len(documents) == 1 else _list(resources, documents)
        if form == "json":
            return json.dumps(data, indent=2)
        return as_yaml(data).rstrip("\n")
    tables = []
    for kind, group in groupby(resources, key=lambda resource: resource.kind):
        chosen = _chosen(form, kind)
        rows = [[cell(heading, each, picture) for heading in chosen] for each in group]
        tables.append(tabbed([list(chosen), *rows], cut=form == "ps"))
    return "\n".join(tables)


def as_yaml(data: Any) -> str:
    """Return data as YAML that reads as the same; letters stay what they are where that is safe."""
    plain = not _BREAKS.search(json.dumps(data, ensure_ascii=False, default=str))
    return str(yaml.safe_dump(data, sort_keys=False, width=1 << 16, allow_unicode=plain))


def tabbed(rows: Iterable[Sequence[str]], *, cut: bool = False) -> str:
    """Return rows as a tabwriter with padding 3 does: every cell is padded, the last one too."""
    told = [[visible(text) for text in row] for row in rows]
    cells = [[_shortened(text) if cut else text for text in row] for row in told]
    widths = [
        max(max(map(width, column)) + _PADDING, _LEAST) for column in zip(*cells, strict=True)
    ]
    lines = []
    for row in cells:
        padded = (text + " " * (room - width(text)) for text, room in zip(row, widths, strict=True))
        lines.append("".join(padded))
    return "\n".join(lines) + "\n"


def _chosen(form: str, kind: str) -> tuple[str, ...]:
    if not form.startswith(_CUSTOM):
        namespaced = ("NAMESPACE",) if KINDS[kind].namespaced else ()
        return (*namespaced, *columns_of(kind, wide=form == "wide"))
    known = headings(kind)
    chosen = tuple(word.strip().upper() for word in form.removeprefix(_CUSTOM).split(","))
    for heading in chosen:
        if heading not in known:
            raise InvalidConfig(
                f"output: {kind} has no column {heading!r}",
                field="output",
                value=form,
                hint=nearest(heading, known),
            )
    return chosen


def _document(resource: Resource, picture: Picture) -> dict[str, Any]:
    data = resource.render()
    version = KINDS[resource.kind].version(picture, resource)
    if version:
        data["metadata"]["resourceVersion"] = str(version)
    plain: dict[str, Any] = json.loads(json.dumps(data))
    return plain


def _list(resources: Sequence[Resource], documents: list[dict[str, Any]]) -> dict[str, Any]:
    kinds = {resource.kind for resource in resources}
    kind = f"{next(iter(kinds))}List" if len(kinds) == 1 else "List"
    return {"apiVersion": API_VERSION, "kind": kind, "items": documents}


def _shortened(text: str) -> str:
    return text if len(text) <= _LONGEST else text[:_LONGEST] + "..."
