"""Selectors over labels, in Calico's grammar: ``role == 'web' && !has(frozen)``.

::

    all()  global()  has(k)  k == 'v'  k != 'v'  k in {'a', 'b'}  k not in {'a'}
    k contains 'v'  k starts with 'v'  k ends with 'v'  !x  x && y  x || y  (x)

``&&`` binds closer than ``||``; strings stand in single or double quotes and know no escapes; no
text at all means ``all()``. A comparison that denies (``!=``, ``not in``) holds where the label is
absent, every other one does not. Source: reference/calico.md §1.1.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NoReturn, Protocol

from netloom.model.errors import InvalidConfig

Labels = Mapping[str, str]

_LABEL = r"[A-Za-z0-9_./-]+"
_TOKEN = re.compile(
    r"\s*(?:(?P<string>'[^']*'|\"[^\"]*\")"
    r"|(?P<call>(?:all|global)\(\s*\)|has\(\s*" + _LABEL + r"\s*\))"
    r"|(?P<compare>==|!=|(?:not\s+in|in|contains|starts\s+with|ends\s+with)(?![A-Za-z0-9_./-]))"
    r"|(?P<sign>&&|\|\||[!(){},])"
    r"|(?P<label>" + _LABEL + r"))"
)
#: More than people write; a limit keeps a hostile text from exhausting the stack.
_DEEPEST = 100


class Term(Protocol):
    """A part of a selector that holds for some labels."""

    def matches(self, labels: Labels) -> bool:
        """Tell whether it holds."""
        ...


@dataclass(frozen=True, slots=True)
class All:
    """``all()`` and ``global()``."""

    def matches(self, labels: Labels) -> bool:
        """Hold always."""
        return True


@dataclass(frozen=True, slots=True)
class Has:
    """``has(label)``."""

    label: str

    def matches(self, labels: Labels) -> bool:
        """Tell whether the label is there, whatever its value."""
        return self.label in labels


@dataclass(frozen=True, slots=True)
class Comparison:
    """``label OPERATOR values``; every operator but ``in`` and ``not in`` has one value."""

    label: str
    operator: str
    values: frozenset[str]

    def matches(self, labels: Labels) -> bool:
        """Compare the label's value."""
        value = labels.get(self.label)
        if self.operator in ("!=", "not in"):
            return value is None or value not in self.values
        if value is None:
            return False
        if self.operator in ("==", "in"):
            return value in self.values
        (wanted,) = self.values
        if self.operator == "contains":
            return wanted in value
        return (
            value.startswith(wanted) if self.operator == "starts with" else value.endswith(wanted)
        )


@dataclass(frozen=True, slots=True)
class Not:
    """``!term``."""

    term: Term

    def matches(self, labels: Labels) -> bool:
        """Hold where the term does not."""
        return not self.term.matches(labels)


@dataclass(frozen=True, slots=True)
class Joined:
    """Terms joined by ``&&`` (``every``) or by ``||``."""

    every: bool
    terms: tuple[Term, ...]

    def matches(self, labels: Labels) -> bool:
        """Tell whether all, or any, of the terms hold."""
        found = (term.matches(labels) for term in self.terms)
        return all(found) if self.every else any(found)


@dataclass(frozen=True, slots=True)
class Selector:
    """A parsed selector and the text it was parsed from."""

    text: str
    term: Term

    def matches(self, labels: Labels) -> bool:
        """Tell whether ``labels`` are selected."""
        return self.term.matches(labels)

    @classmethod
    def parse(cls, text: object, where: str) -> Selector:
        """Parse ``text``. Raises InvalidConfig naming ``where`` and the position, from 1."""
        if not isinstance(text, str):
            raise InvalidConfig(
                f"{where}: {text!r} is not a selector",
                field=where,
                value=text,
                hint="write a text such as role == 'web'",
            )
        if not text.strip():
            return cls(text, All())
        return cls(text, _Parser(text, where).whole())


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str
    position: int


def _tokens(text: str) -> Iterator[_Token]:
    """Yield the tokens; what is none is of kind ``bad``; the last is of kind ``end``."""
    position, length = 0, len(text.rstrip())
    while position < length:
        found = _TOKEN.match(text, position)
        if found is None or found.lastgroup is None:
            start = position + len(text[position:]) - len(text[position:].lstrip())
            yield _Token("bad", text[start], start)
            return
        kind = found.lastgroup
        yield _Token(
            kind,
            " ".join(found[kind].split()) if kind == "compare" else found[kind],
            found.start(kind),
        )
        position = found.end()
    yield _Token("end", "", length)


class _Parser:
    """Recursive descent over the tokens of one text."""

    def __init__(self, text: str, where: str) -> None:
        self._text, self._where = text, where
        self._tokens = list(_tokens(text))
        self._place = 0
        self._depth = 0

    def whole(self) -> Term:
        """Return the term of the whole text."""
        term = self._any()
        if self._now.kind != "end":
            self._refuse("'&&', '||' or the end")
        return term

    @property
    def _now(self) -> _Token:
        return self._tokens[self._place]

    def _take(self) -> _Token:
        token = self._now
        self._place += 1
        return token

    def _takes(self, sign: str) -> bool:
        if self._now.kind == "sign" and self._now.text == sign:
            self._place += 1
            return True
        return False

    def _any(self) -> Term:
        terms = [self._every()]
        while self._takes("||"):
            terms.append(self._every())
        return terms[0] if len(terms) == 1 else Joined(False, tuple(terms))

    def _every(self) -> Term:
        terms = [self._one()]
        while self._takes("&&"):
            terms.append(self._one())
        return terms[0] if len(terms) == 1 else Joined(True, tuple(terms))

    def _one(self) -> Term:
        self._depth += 1
        if self._depth > _DEEPEST:
            self._refuse(f"at most {_DEEPEST} levels")
        try:
            if self._takes("!"):
                return Not(self._one())
            if self._takes("("):
                term = self._any()
                if not self._takes(")"):
                    self._refuse("')'")
                return term
            if self._now.kind == "call":
                return _called(self._take().text)
            return self._comparison()
        finally:
            self._depth -= 1

    def _comparison(self) -> Term:
        # A label may be called `in` or `contains`: what begins a comparison is a label.
        if self._now.kind not in ("label", "compare") or not re.fullmatch(_LABEL, self._now.text):
            self._refuse("a label, a call such as has(x), '!' or '('")
        label = self._take().text
        if self._now.kind != "compare":
            self._refuse("==, !=, in, not in, contains, starts with or ends with")
        operator = self._take().text
        if operator not in ("in", "not in"):
            return Comparison(label, operator, frozenset({self._string()}))
        if not self._takes("{"):
            self._refuse("'{'")
        values: set[str] = set()
        while not self._takes("}"):
            if values and not self._takes(","):
                self._refuse("',' or '}'")
            values.add(self._string())
        return Comparison(label, operator, frozenset(values))

    def _string(self) -> str:
        if self._now.kind != "string":
            self._refuse("a quoted string")
        return self._take().text[1:-1]

    def _refuse(self, wanted: str) -> NoReturn:
        token = self._now
        found = repr(token.text) if token.text else "the end"
        raise InvalidConfig(
            f"{self._where}: {self._text!r}: position {token.position + 1}: expected {wanted}, "
            f"found {found}",
            field=self._where,
            value=self._text,
            hint="e.g. role == 'web' && has(zone)",
        )


def _called(text: str) -> Term:
    name, _, inside = text.partition("(")
    return Has(inside.rstrip(")").strip()) if name == "has" else All()
