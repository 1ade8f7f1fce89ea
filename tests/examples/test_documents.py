"""Every ```console block of the documents runs, and prints what the document says.

A block holds commands after ``# `` and what they print. Blocks of one document are one session in
one shell. Printed lines are compared with numbers, MAC addresses and spacing set aside, since those
differ from run to run; a line ``...`` stands for any number of lines.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = [
    path
    for path in [
        "README.md",
        *(f"docs/{file.name}" for file in sorted((ROOT / "docs").glob("*.md"))),
    ]
    if "```console" in (ROOT / path).read_text()
]
_MAC = re.compile(r"\b[0-9a-f]{2}(:[0-9a-f]{2}){5}\b")
_INTERFACE = re.compile(r"\b(cali|veth)[0-9a-f]{8,}\b")
_MARK = "@@ command {} @@"


@dataclass
class Command:
    """One command of a document, and the lines that it is said to print."""

    text: str
    line: int
    printed: list[str] = field(default_factory=list)


def commands(document: str) -> list[Command]:
    """Return the commands of all ```console blocks."""
    found: list[Command] = []
    inside = False
    for number, line in enumerate(document.splitlines(), 1):
        if line.startswith("```"):
            inside = line == "```console"
        elif inside and line.startswith("# "):
            found.append(Command(line[2:], number))
        elif inside and line.strip():
            found[-1].printed.append(line)
    return found


def shape(line: str) -> str:
    """Return what of a line is the same in every run."""
    line = _INTERFACE.sub(r"\1", _MAC.sub("MAC", line))
    return " ".join(re.sub(r"\d+(\.\d+)*", "N", line).split())


def session(found: list[Command]) -> str:
    """Return the script: each command's output begins with a line that names it."""
    lines = ["exec 2>&1"]
    for number, command in enumerate(found):
        text = command.text.replace("--lab lab", "--lab $NETLOOM_LAB")
        lines += [f"echo '{_MARK.format(number)}'", text, 'echo "@@ code $? @@"']
    return "\n".join(lines)


def missing(command: Command, output: str) -> list[str]:
    """Return the lines that the document promises and the command did not print, in any order."""
    there = [shape(line) for line in output.splitlines()]
    return [line for line in command.printed if line != "..." and shape(line) not in there]


@pytest.mark.parametrize("name", DOCUMENTS)
def test_what_the_document_shows_is_what_happens(shell: Callable, name: str) -> None:
    found = commands((ROOT / name).read_text())
    assert found, f"{name} has no ```console block"
    done = shell("bash", "-c", session(found), cwd=ROOT)
    for number, command in enumerate(found):
        where = f"{name}:{command.line}: # {command.text}"
        _, mark, rest = done.stdout.partition(_MARK.format(number) + "\n")
        assert mark, f"{where}: was not reached\n{done.stdout}"
        output, _, code = rest.partition("@@ code ")
        assert code.startswith("0 "), f"{where}: code {code[:3]}\n{output}"
        assert not missing(command, output), f"{where} printed\n{output}"


@pytest.mark.parametrize(
    ("document", "output", "absent"),
    [
        ("# a\nroute 10.244.1.0/24 dev x", "route 10.244.7.0/24  dev x", []),
        ("# a\nroute 10.244.1.0/24 dev x", "route 10.244.7.0/24 dev y", ["route"]),
        ("# a\n...\nlast", "first\nsecond\nlast", []),
        ("# a\nlladdr 0a:00:00:00:00:01", "lladdr fe:dc:ba:98:76:54", []),
    ],
)
def test_a_line_that_is_not_printed_is_found_and_a_number_does_not_matter(
    document: str, output: str, absent: list[str]
) -> None:
    """The comparison itself can fail."""
    [command] = commands(f"```console\n{document}\n```")
    assert [line.split()[0] for line in missing(command, output)] == absent
