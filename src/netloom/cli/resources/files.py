"""Resources from files, as users write them: several documents, lists, and errors with their line.

``texts`` finds the text and ``notation`` reads it; here it becomes resources.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from netloom.cli.resources import notation, texts
from netloom.core.resources.contract import Kind
from netloom.core.resources.table import kind_named
from netloom.core.resources.v1 import modern
from netloom.model.errors import InvalidConfig
from netloom.model.fields import Fields, whole_number
from netloom.model.resource import API_VERSION, Resource

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
    filenames: Sequence[str],
    *,
    namespace: str = "",
    recursive: bool = False,
    skip_empty: bool = False,
) -> list[Document]:
    """Read all documents of files, folders and, for ``-``, standard input.

    With ``skip_empty`` there need not be any. Raises InvalidConfig, and NotPermitted for a file
    that may not be read.
    """
    documents = []
    if list(filenames).count("-") > 1:
        raise InvalidConfig(
            "filename: standard input can be read only once",
            field="filename",
            value=list(filenames),
            hint="say -f - once",
        )
    for filename in filenames:
        for place, text in texts.found(filename, recursive, skip_empty):
            documents += list(parse(text, place, namespace))
    if not documents and not skip_empty:
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
        _check_version(fields.take("apiVersion"), API_VERSION)
        kind = fields.take_required("kind")
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
        try:
            _check_list(data)
        except InvalidConfig as error:
            raise _located(error, place, lines) from None
        items = ((item, f"items[{i}].") for i, item in enumerate(data["items"]))
    elif isinstance(data, list):
        items = ((item, f"[{i}].") for i, item in enumerate(data))
    own = _by_item(lines)
    for item, prefix in items:
        mine = own.get(prefix, {}) if prefix else lines
        yield document(item, place, mine, namespace)


def _check_list(data: Mapping[str, object]) -> None:
    """Refuse what has items and says that it is something else than a list of them."""
    fields = Fields(data, "")
    fields.take("items")
    fields.take("metadata")
    _check_version(fields.take("apiVersion"), API_VERSION, "v1")
    kind = fields.take_str("kind", "List")
    if not kind.endswith("List"):
        raise InvalidConfig(
            f"kind: {kind!r} is no list, and there are items",
            field="kind",
            value=kind,
            hint=f"write List, or {kind}List",
        )
    fields.done()


def _check_version(version: object, *known: str) -> None:
    if version is not None and version not in known:
        raise InvalidConfig(
            f"apiVersion: {version!r} is not known",
            field="apiVersion",
            value=version,
            hint=f"write {known[0]}",
        )


def _by_item(lines: Mapping[str, int]) -> dict[str, dict[str, int]]:
    """Part lines by the item of a list that they are of: ``items[0].spec`` -> ``items[0].``."""
    parted: dict[str, dict[str, int]] = {}
    for path, line in lines.items():
        head, closed, rest = path.partition("]")
        if closed and head.startswith(("items[", "[")):
            parted.setdefault(f"{head}].", {})[rest.removeprefix(".")] = line
    return parted


def _asked_version(value: object) -> int:
    if value in (None, ""):
        return 0
    number = whole_number(value) if isinstance(value, str) else value
    if isinstance(number, int) and not isinstance(number, bool) and 0 <= number < 1 << 63:
        return number
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
