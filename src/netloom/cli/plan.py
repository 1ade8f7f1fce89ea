"""``netloom plan``: the kernel changes that the agent would make now, without making them."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

import click

from netloom.cli.client import Client
from netloom.cli.options import output_option, with_settings
from netloom.cli.render import emit, paint
from netloom.cli.settings import Settings

CHANGES_FOUND = 10
_COLOURS = {"add": "green", "replace": "yellow", "delete": "red"}
_SIGNS = {"add": "+", "replace": "~", "delete": "-"}


@click.command(epilog="Example: netloom plan --check || echo the kernel differs")
@click.option("--check", is_flag=True, help="Exit with 10 when there are changes.")
@output_option
@with_settings("socket")
def plan(check: bool, output: str, settings: Settings) -> None:
    """Show the kernel changes that would be made now, in their order."""
    found = Client(settings.socket).get("/v1/plan")
    emit(output, found, lambda: screen(found))
    if check and found["changes"]:
        sys.exit(CHANGES_FOUND)


def screen(found: Mapping[str, Any]) -> str:
    """Return a plan as a person reads it: one change a line, then what stands in the way."""
    lines = [_change(change) for change in found["changes"]]
    count = len(lines)
    at = f"at revision {found['revision']}"
    if count:
        lines.append(f"{count} change{'s' if count > 1 else ''} {at}")
    else:
        lines.append(f"nothing to change: the kernel is as it should be {at}")
    for problem in found["problems"]:
        colour = "red" if problem["severity"] == "error" else "yellow"
        label = paint(problem["severity"] + ":", colour)
        remedy = f"\n  remedy: {problem['remedy']}" if problem["remedy"] else ""
        lines.append(f"{label} {problem['subject']}: {problem['text']}{remedy}")
    return "\n".join(lines)


def _change(change: Mapping[str, Any]) -> str:
    verb = change["verb"]
    text = paint(f"{_SIGNS.get(verb, '?')} {change['object']}", _COLOURS.get(verb, "bold"))
    return f"{text}  ({change['reason']})" if change["reason"] else text
