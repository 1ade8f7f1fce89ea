"""A document's ```console blocks, typed: they run, and print what the document says.

A block holds commands after ``# `` and what they print. Blocks of one document are one session in
one shell. Printed lines are compared with numbers, MAC addresses and spacing set aside, since those
differ from run to run; a line ``...`` stands for any number of lines.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
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


def documents() -> list[str]:
    """Return the documents that can be typed: those with a block."""
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    return [str(page.relative_to(ROOT)) for page in pages if commands(page.read_text())]


def needs_ipip(name: str) -> bool:
    """Tell whether what the document shows needs a kernel with module ipip."""
    found = commands((ROOT / name).read_text())
    return any("tunl0" in line for each in found for line in (each.text, *each.printed))


def check(
    shell: Callable[..., subprocess.CompletedProcess[str]], name: str, *, well: bool = True
) -> None:
    """Type the document ``name``: each command ends with 0 and prints what is said.

    ``well`` is False where the kernel lacks something that the document is not about: then a lab
    comes up with 6.
    """
    found = commands((ROOT / name).read_text())
    done = shell("bash", "-c", session(found), cwd=ROOT)
    for number, command in enumerate(found):
        where = f"{name}:{command.line}: # {command.text}"
        _, mark, rest = done.stdout.partition(_MARK.format(number) + "\n")
        assert mark, f"{where}: was not reached\n{done.stdout}"
        output, _, code = rest.partition("@@ code ")
        expected = "0" if well or not command.text.startswith("netloom lab up ") else "6"
        assert code.startswith(f"{expected} "), f"{where}: code {code[:3]}\n{output}"
        assert not missing(command, output), f"{where} printed\n{output}"
