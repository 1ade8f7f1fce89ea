"""Resources from files, as users write them: several documents, lists, and errors with their line.

``notation`` reads the text; here it becomes resources.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from netloom.cli.resources import notation
from netloom.core.resources.contract import Kind
from netloom.core.resources.table import kind_named
from netloom.core.resources.v1 import modern
from netloom.model.errors import InvalidConfig
from netloom.model.fields import Fields
from netloom.model.resource import API_VERSION, Resource

#: What a folder's files are read by.
SUFFIXES = (".yaml", ".yml", ".json")
DEFAULT_NAMESPACE = "default"


@dataclass(frozen=True, slots=True)
class Document:
    """One resource as it was written, and where.

    ``version`` is the ``resourceVersion`` that it asks for, 0 for none. ``lines`` maps dotted
    paths of its fields to lines of ``place``, counted from 1.
    """

    kind: Kind
    resource: Resource
    version: int = 0
    place: str = ""
    lines: Mapping[str, int] = field(default_factory=dict)

    def located(self, error: InvalidConfig) -> InvalidConfig:
        """Return the error with file and line before it."""
        return _located(error, self.place, self.lines)


def read(
    filenames: Sequence[str], *, namespace: str = "", recursive: bool = False
) -> list[Document]:
    """Read all documents of files, folders and, for ``-``, standard input. Raises InvalidConfig."""
    documents = []
    if list(filenames).count("-") > 1:
        raise InvalidConfig(
            "filename: standard input can be read only once",
            field="filename",
            value=list(filenames),
            hint="say -f - once",
        )
    for filename in filenames:
        for place, text in _texts(filename, recursive):
            documents += list(parse(text, place, namespace))
    if not documents:
        raise InvalidConfig(
            f"filename: there is no resource in {', '.join(filenames)}",
            field="filename",
            value=list(filenames),
            hint="a document begins with apiVersion and kind; several are parted by ---",
        )
    return documents


def parse(text: str, place: str, namespace: str = "") -> Iterator[Document]:
    """Yield the documents in ``text``; a list's items are documents. Raises InvalidConfig."""
    for data, lines in notation.load(text, place):
        yield from _documents(data, place, lines, namespace)


def document(data: object, place: str, lines: Mapping[str, int], namespace: str = "") -> Document:
    """Return one document, checked on its own. Raises InvalidConfig with file and line."""
    try:
        if isinstance(data, Mapping) and data.get("apiVersion") == "v1":
            data = modern(data)
        fields = Fields(data, "")
        version = fields.take("apiVersion")
        kind = fields.take_required("kind")
        if version is not None and version != API_VERSION:
            raise InvalidConfig(
                f"apiVersion: {version!r} is not known",
                field="apiVersion",
                value=version,
                hint=f"write {API_VERSION}",
            )
        known = kind_named(kind)
        resource = Resource.parse(data)
        if known.namespaced and not resource.namespace:
            resource = replace(resource, namespace=namespace or DEFAULT_NAMESPACE)
        asked = _asked_version(fields.take_map("metadata").get("resourceVersion"))
        known.whole(resource)
    except InvalidConfig as error:
        raise _located(error, place, lines) from None
    return Document(known, resource, asked, place, lines)


def _documents(
    data: object, place: str, lines: Mapping[str, int], namespace: str
) -> Iterator[Document]:
    items: Iterable[tuple[object, str]] = ((data, ""),)
    if isinstance(data, Mapping) and isinstance(data.get("items"), list):
        items = ((item, f"items[{i}].") for i, item in enumerate(data["items"]))
    elif isinstance(data, list):
        items = ((item, f"[{i}].") for i, item in enumerate(data))
    own = _by_item(lines)
    for item, prefix in items:
        mine = own.get(prefix, {}) if prefix else lines
        yield document(item, place, mine, namespace)


def _by_item(lines: Mapping[str, int]) -> dict[str, dict[str, int]]:
    """Part lines by the item of a list that they are of: ``items[0].spec`` -> ``items[0].``."""
    parted: dict[str, dict[str, int]] = {}
    for path, line in lines.items():
        head, closed, rest = path.partition("]")
        if closed and head.startswith(("items[", "[")):
            parted.setdefault(f"{head}].", {})[rest.removeprefix(".")] = line
    return parted


def _texts(filename: str, recursive: bool) -> Iterator[tuple[str, str]]:
    path = Path(filename)
    try:
        if filename == "-":
            yield "standard input", sys.stdin.read()
        elif path.is_dir():
            found = path.rglob("*") if recursive else path.iterdir()
            for each in sorted(found):
                if each.suffix in SUFFIXES and each.is_file():
                    yield str(each), each.read_text(encoding="utf-8")
        else:
            yield filename, path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        if isinstance(error, OSError):
            place, reason, hint = error.filename or filename, error.strerror, "see what is there"
        else:
            place, reason, hint = filename, f"is not UTF-8: {error}", "save it as UTF-8"
        raise InvalidConfig(
            f"{place}: {reason}", field="filename", value=filename, hint=hint
        ) from None


def _asked_version(value: object) -> int:
    if value in (None, ""):
        return 0
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 20:
        return int(value)
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    raise InvalidConfig(
        f"metadata.resourceVersion: {value!r} is not a revision",
        field="metadata.resourceVersion",
        value=value,
        hint="leave it out, or keep what `netloom get -o yaml` printed",
    )


def _located(error: InvalidConfig, place: str, lines: Mapping[str, int]) -> InvalidConfig:
    path = error.field
    while path and path not in lines:
        path = path[: max(path.rfind("."), path.rfind("["), 0)]
    line = lines.get(path, 0)
    before = f"{place}:{line}: " if place and line else f"{place}: " if place else ""
    return InvalidConfig(before + str(error), field=error.field, value=error.value, hint=error.hint)
