"""Resources from files, as users write them: several documents, lists, and errors with their line.

The YAML is that of Kubernetes' tools: ``12:34`` and dates are texts, only true and false are flags.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from netloom.core.resources.contract import Kind
from netloom.core.resources.table import KINDS, kind_called
from netloom.core.resources.v1 import modern
from netloom.model.errors import InvalidConfig
from netloom.model.fields import Fields, nearest
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


class _Loader(yaml.SafeLoader):
    """YAML 1.2's idea of what is a number, a flag or a text, as Kubernetes' tools have it."""


_Loader.yaml_implicit_resolvers = {
    sign: [
        (tag, pattern)
        for tag, pattern in resolvers
        if tag.rpartition(":")[2] not in ("timestamp", "int", "bool")
    ]
    for sign, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:int",
    re.compile(r"(?:[-+]?(?:0|[1-9][0-9]*)|0x[0-9a-fA-F]+)$"),
    list("-+0123456789"),
)
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile(r"(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF")
)


def read(
    filenames: Sequence[str], *, namespace: str = "", recursive: bool = False
) -> list[Document]:
    """Read all documents of files, folders and, for ``-``, standard input. Raises InvalidConfig."""
    documents = []
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
    loader = _Loader(text)
    try:
        while loader.check_node():
            node = loader.get_node()
            data = loader.construct_document(node)
            lines = dict(_lines(node))
            if data is not None:
                yield from _documents(data, place, lines, namespace)
    except yaml.YAMLError as error:
        raise InvalidConfig(f"{place}: {error}", field="filename", value=place) from None
    except RecursionError:
        raise InvalidConfig(
            f"{place}: it is nested too deeply", field="filename", value=place
        ) from None
    finally:
        loader.dispose()


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
        if kind not in KINDS:
            raise InvalidConfig(
                f"kind: there is no kind of resource called {kind!r}",
                field="kind",
                value=kind,
                hint=nearest(str(kind), KINDS),
            )
        known = kind_called(str(kind))
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
    for item, prefix in items:
        own = {
            path.removeprefix(prefix): line
            for path, line in lines.items()
            if path.startswith(prefix) or path + "." == prefix
        }
        if prefix:
            own[""] = lines.get(prefix.rstrip("."), 0)
        yield document(item, place, own, namespace)


def _texts(filename: str, recursive: bool) -> Iterator[tuple[str, str]]:
    if filename == "-":
        yield "standard input", sys.stdin.read()
        return
    path = Path(filename)
    try:
        if path.is_dir():
            found = path.rglob("*") if recursive else path.iterdir()
            for each in sorted(found):
                if each.suffix in SUFFIXES:
                    yield str(each), each.read_text(encoding="utf-8")
        else:
            yield filename, path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise InvalidConfig(f"{filename}: {reason}", field="filename", value=filename) from None


def _asked_version(value: object) -> int:
    if value in (None, ""):
        return 0
    if isinstance(value, int) or (isinstance(value, str) and value.isdigit()):
        return int(value)
    raise InvalidConfig(
        f"metadata.resourceVersion: {value!r} is not a revision",
        field="metadata.resourceVersion",
        value=value,
        hint="leave it out, or keep what `netloom get -o yaml` printed",
    )


def _lines(node: Any, path: str = "") -> Iterator[tuple[str, int]]:
    yield path, node.start_mark.line + 1
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if isinstance(key, yaml.ScalarNode):
                inner = f"{path}.{key.value}" if path else str(key.value)
                yield from _lines(value, inner)
                yield inner, key.start_mark.line + 1
    elif isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            yield from _lines(item, f"{path}[{index}]")


def _located(error: InvalidConfig, place: str, lines: Mapping[str, int]) -> InvalidConfig:
    path = error.field
    while path and path not in lines:
        path = path[: max(path.rfind("."), path.rfind("["), 0)]
    line = lines.get(path, 0)
    before = f"{place}:{line}: " if place and line else f"{place}: " if place else ""
    return InvalidConfig(before + str(error), field=error.field, value=error.value, hint=error.hint)
