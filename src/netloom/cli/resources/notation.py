"""The notation of documents: YAML and JSON as Kubernetes' tools read them, with their lines.

``12:34`` and dates are texts, only true and false are flags. What YAML allows and nobody means is
refused: a field given twice, a field whose name is no text, aliases that multiply.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import yaml

from netloom.model.errors import InvalidConfig

#: Values in one document, aliases counted as often as they stand there. Nobody writes as many.
_MOST_VALUES = 1_000_000
_OF_YAML = "tag:yaml.org,2002:"
_NOT_OF_JSON = ("binary", "timestamp", "set", "omap", "pairs")
_LONGEST_NUMBER = 400  # what a document may hold, and Python turns into digits again
_STRING, _MERGE = "tag:yaml.org,2002:str", "tag:yaml.org,2002:merge"
_SURROGATE = re.compile("[\ud800-\udfff]")


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


def load(text: str, place: str) -> Iterator[tuple[Any, dict[str, int]]]:
    """Yield each document that is not empty, with the lines of its fields' dotted paths, from 1.

    Raises InvalidConfig naming ``place`` and line.
    """
    if text.lstrip()[:1] in ("{", "["):
        text = text.replace("\t", " ")  # JSON is YAML but for tabs, which no string of JSON holds
    loader: _Loader | None = None
    try:
        loader = _Loader(text)
        while loader.check_node():
            node = loader.get_node()
            lines = dict(_Walk(place).lines(node))
            data = loader.construct_document(node)
            if data is not None:
                yield data, lines
    except yaml.MarkedYAMLError as error:
        raise _marked(error, place) from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise _wrong(f"{place}:{line}: {error.reason}") from None
    except (yaml.YAMLError, ValueError) as error:
        raise _wrong(f"{place}: {error}") from None
    except RecursionError:
        raise _wrong(f"{place}: it is nested too deeply") from None
    finally:
        if loader is not None:
            loader.dispose()


class _Walk:
    """One way through all values of a document."""

    def __init__(self, place: str) -> None:
        self._place, self._seen = place, 0

    def lines(self, node: Any, path: str = "") -> Iterator[tuple[str, int]]:
        """Yield (dotted path, line) of everything below ``node``. Raises InvalidConfig."""
        self._seen += 1
        if self._seen > _MOST_VALUES:
            self._refuse(node, f"more than {_MOST_VALUES} values", "do not nest aliases in aliases")
        self._check(node, path)
        yield path, node.start_mark.line + 1
        if isinstance(node, yaml.MappingNode):
            yield from self._fields(node, path)
        elif isinstance(node, yaml.SequenceNode):
            for index, item in enumerate(node.value):
                yield from self.lines(item, f"{path}[{index}]")
        elif _SURROGATE.search(node.value):
            node.value = self._whole(node)

    def _fields(self, node: Any, path: str) -> Iterator[tuple[str, int]]:
        known: dict[str, int] = {}
        for key, value in node.value:
            if key.tag not in (_STRING, _MERGE):
                said = key.value if isinstance(key, yaml.ScalarNode) else "a list or an object"
                hint = f'write it in quotes, "{said}"' if said else "give it a name"
                self._refuse(key, f"{path or 'document'}: {said} is no field's name", hint)
            name, line = str(key.value), key.start_mark.line + 1
            inner = f"{path}.{name}" if path else name
            if name in known and key.tag != _MERGE:
                self._refuse(
                    key, f"{inner}: stands in line {known[name]} as well", "leave one of them out"
                )
            known[name] = line
            yield from self.lines(value, inner)
            yield inner, line

    def _check(self, node: Any, path: str) -> None:
        """Refuse what YAML has and JSON, in which documents are kept, has not."""
        kind = node.tag.removeprefix(_OF_YAML)
        if kind in _NOT_OF_JSON:
            self._refuse(node, f"{path or 'document'}: {node.tag} is of no use", "write it plainly")
        if kind == "float" and node.value.lower().endswith((".nan", ".inf")):
            self._refuse(
                node, f"{path}: {node.value} is no number", "write one, or a text in quotes"
            )
        if kind == "int" and len(node.value) > _LONGEST_NUMBER:
            self._refuse(
                node, f"{path}: the number is too long", "write it in quotes if it is none"
            )

    def _whole(self, node: Any) -> str:
        r"""Return a text in which JSON wrote a character as two, ``\ud83d\ude00``, as it is."""
        try:
            whole: str = node.value.encode("utf-16", "surrogatepass").decode("utf-16")
        except UnicodeDecodeError:
            self._refuse(node, "half a character", "write the text itself in place of \\u escapes")
        return whole

    def _refuse(self, node: Any, text: str, hint: str) -> Any:
        line = node.start_mark.line + 1
        raise InvalidConfig(
            f"{self._place}:{line}: {text}", field="filename", value=self._place, hint=hint
        )


def _marked(error: yaml.MarkedYAMLError, place: str) -> InvalidConfig:
    """Return YAML's complaint on one line, the place of it first."""
    mark = error.problem_mark or error.context_mark
    where = f"{place}:{mark.line + 1}" if mark else place
    parts = [part for part in (error.problem, error.context) if part]
    hint = ""
    if "\\t" in (error.problem or ""):
        hint = "indent by blanks, not by tabs"
    return _wrong(f"{where}: {', '.join(parts)}", hint)


def _wrong(text: str, hint: str = "") -> InvalidConfig:
    return InvalidConfig(text, field="filename", hint=hint or "see that it is YAML or JSON")
