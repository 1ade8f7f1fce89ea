"""What verbs print: aligned tables, JSON, YAML; colour only where a person looks.

Nothing is ever cut: what a person needs to copy is there in full, however narrow the terminal.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import IO, Any

OUTPUTS = ("table", "json", "yaml")
_CODES = {"bold": "1", "red": "31", "green": "32", "yellow": "33", "dim": "2"}
#: What a terminal obeys or a reader cannot see: control characters, and turns of the direction.
_UNSEEN = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ufeff]")
#: What :func:`paint` writes, between texts of others.
_PAINTED = re.compile(rf"(\033\[(?:0|{'|'.join(_CODES.values())})m)")


def emit(output: str, document: Any, text: Callable[[], str]) -> None:
    """Print ``document`` as JSON or YAML, or what ``text`` returns as the table form."""
    if output == "json":
        print(json.dumps(document, indent=2, default=plain))
    elif output == "yaml":
        import yaml

        # By way of JSON: only plain types, and no anchors for values that occur twice.
        print(
            yaml.safe_dump(json.loads(json.dumps(document, default=plain)), sort_keys=False), end=""
        )
    else:
        print(shown(text()))


def plain(value: object) -> Any:
    """Return what JSON shall hold for a value that it does not know."""
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, (set, frozenset)):
        return sorted(value)
    return str(value)


@dataclass
class Table:
    """Rows under headers. ``right`` names the columns (by header) that are aligned to the right."""

    headers: Sequence[str]
    right: frozenset[str] = frozenset()
    rows: list[list[str]] = field(default_factory=list)

    def add(self, *cells: object) -> None:
        """Add one row; a cell of several lines makes a row of several lines. None shows as '-'."""
        self.rows.append(
            ["-" if cell is None or cell == "" else shown(str(cell)) for cell in cells]
        )

    def render(self, indent: str = "") -> str:
        """Return the table; columns are two blanks apart, no blanks at a line's end."""
        lines = [[bold(header) for header in self.headers]]
        for row in self.rows:
            lines += _lines(row)
        widths = [max(width(line[column]) for line in lines) for column in range(len(self.headers))]
        return "\n".join(indent + self._line(line, widths).rstrip() for line in lines)

    def _line(self, cells: list[str], widths: list[int]) -> str:
        parts = []
        for header, cell, room in zip(self.headers, cells, widths, strict=True):
            blank = " " * (room - width(cell))
            parts.append(blank + cell if header in self.right else cell + blank)
        return "  ".join(parts)


def boxed(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table in a frame, headings centred, numbers to the right, as calicoctl has it."""
    body = [[visible(cell) for cell in row] for row in rows]
    widths = [max(map(width, column)) for column in zip(headings, *body, strict=True)]
    edge = "+" + "+".join("-" * (room + 2) for room in widths) + "+"

    def line(cells: Iterable[str]) -> str:
        return "|" + "|".join(f" {cell} " for cell in cells) + "|"

    head = line(_centred(each, room) for each, room in zip(headings, widths, strict=True))
    lines = [line(map(_aligned, row, widths)) for row in body]
    return "\n".join([edge, head, edge, *lines, *([edge] if lines else [])])


def _centred(text: str, room: int) -> str:
    """Put what cannot be halved on the right."""
    left = (room - width(text)) // 2
    return " " * left + text + " " * (room - width(text) - left)


def _aligned(text: str, room: int) -> str:
    blank = " " * (room - width(text))
    return blank + text if text.isdecimal() else text + blank


def pairs(items: Iterable[tuple[str, object]], indent: str = "") -> str:
    """Return ``name  value`` lines with the values under one another; empty ones are left out."""
    rows = [(name, shown(str(value))) for name, value in items if value not in (None, "")]
    room = max((len(name) for name, _ in rows), default=0)
    hang = "\n" + indent + " " * (room + 2)
    return "\n".join(
        f"{indent}{bold(name)}{' ' * (room - len(name))}  {value.replace(chr(10), hang)}"
        for name, value in rows
    )


def visible(text: str) -> str:
    """Return ``text`` with what a terminal would obey written out, as Python writes it."""
    return _UNSEEN.sub(lambda found: repr(found[0])[1:-1], text)


def shown(text: str, stream: IO[str] | None = None) -> str:
    """Return ``text`` as a terminal may have it: our own colours and ends of lines stay."""
    ours = coloured(stream or sys.stdout)
    parts = _PAINTED.split(text)
    return "".join(
        part if ours and number % 2 else "\n".join(map(visible, part.split("\n")))
        for number, part in enumerate(parts)
    )


def counted(number: int, noun: str) -> str:
    """Return a number and its noun, in the plural unless it is one: ``2 addresses``."""
    if number == 1:
        return f"1 {noun}"
    if noun.endswith("ry"):
        return f"{number} {noun[:-1]}ies"
    return f"{number} {noun}{'es' if noun.endswith('s') else 's'}"


def bold(text: str) -> str:
    """Return ``text`` in bold on a terminal."""
    return paint(text, "bold")


def paint(text: str, colour: str, stream: IO[str] | None = None) -> str:
    """Return ``text`` in a colour if ``stream`` (stdout) is a terminal that wants any."""
    if not text or not coloured(stream or sys.stdout):
        return text
    return f"\033[{_CODES[colour]}m{text}\033[0m"


def coloured(stream: IO[str]) -> bool:
    """Tell whether to colour: on a terminal, unless NO_COLOR is set (no-color.org)."""
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return False
    return stream.isatty()


def width(text: str) -> int:
    """Return how many columns ``text`` takes; colour takes none."""
    total, inside = 0, False
    for sign in text:
        if sign == "\033":
            inside = True
        elif inside:
            inside = sign != "m"
        else:
            total += 1
    return total


def _lines(row: list[str]) -> list[list[str]]:
    cells = [cell.split("\n") for cell in row]
    height = max(len(cell) for cell in cells)
    return [[cell[n] if n < len(cell) else "" for cell in cells] for n in range(height)]
