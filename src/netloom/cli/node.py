"""``netloom node``: this host as calicoctl's users run it and look at it."""

from __future__ import annotations

import os
from datetime import datetime
from typing import Any

import click

from netloom.cli.client import PATIENCE_S, Client
from netloom.cli.node_run import run
from netloom.cli.options import output_option, with_settings
from netloom.cli.render import boxed, emit
from netloom.cli.settings import Settings
from netloom.model.errors import NotPermitted, Unavailable

EXAMPLES = """\b
Examples:
  netloom node run
  netloom node status
  netloom node checksystem
  netloom node diags
"""
_HEADINGS = ("PEER ADDRESS", "PEER TYPE", "STATE", "SINCE", "INFO")
NOT_RUNNING = 1  # calicoctl's exit code, which scripts test for


@click.group(epilog=EXAMPLES)
def node() -> None:
    """Run this host's agent and look at it, as calicoctl's users do."""


node.add_command(run)


@node.command(epilog="Example: netloom node status")
@output_option
@with_settings("socket")
def status(output: str, settings: Settings) -> None:
    """Show whether the agent runs, and its BGP sessions.

    Ends with 1 when it does not run.
    """
    _require_root("node status")
    client = Client(settings.socket, PATIENCE_S)
    try:
        found = client.get("/v1/status")
    except Unavailable:
        if client.listened():
            raise
        click.echo("Calico process is not running.")
        raise click.exceptions.Exit(NOT_RUNNING) from None
    try:
        sessions, trouble = client.get("/v1/bgp"), ""
    except Unavailable as error:
        sessions, trouble = [], str(error)
    document = {
        "running": True,
        "pid": found["pid"],
        "underlay": found["underlay"],
        "underlay_reason": found["underlay_reason"],
        "candidates": found["candidates"],
        "sessions": sessions,
        "problem": trouble,
    }
    emit(output, document, lambda: _screen(document, datetime.now()))


@node.command(epilog="Example: netloom node checksystem")
@with_settings("socket")
def checksystem(settings: Settings) -> None:
    """Check that this machine's kernel can do what Netloom needs.

    Of the running agent it asks how many hosts there are, for whom the kernel needs room.
    """
    from netloom.cli.node_system import check

    raise click.exceptions.Exit(check(settings))


@node.command(epilog="Example: netloom node diags --log-dir /var/log/netloom")
@click.option(
    "--log-dir",
    metavar="DIR",
    default="/var/log/netloom",
    show_default=True,
    help="Logs to put in as well.",
)
@with_settings("socket", "run_dir")
def diags(log_dir: str, settings: Settings) -> None:
    """Gather what explains this host's state into one file."""
    from netloom.cli.node_diags import gather

    _require_root("node diags")
    gather(settings, log_dir)


def _screen(document: dict[str, Any], now: datetime) -> str:
    lines = ["Calico process is running."]
    for family in (4, 6):
        rows = [
            (each["peer"], each["type"], each["state"], _since(each["since"], now), each["info"])
            for each in document["sessions"]
            if each["family"] == family
        ]
        lines += ["", f"IPv{family} BGP status"]
        if document["problem"]:
            lines.append(f"The BGP backend process (BIRD) is not running: {document['problem']}")
        else:
            lines.append(boxed(_HEADINGS, rows) if rows else f"No IPv{family} peers found.")
    lines += ["", f"Underlay: {document['underlay_reason'] or 'none'}"]
    return "\n".join(lines)


def _since(text: str, now: datetime) -> str:
    """Return a time as BIRD's users know it: of today the hour, else the day."""
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        return text
    return when.strftime("%H:%M:%S" if when.date() == now.date() else "%Y-%m-%d")


def _require_root(what: str) -> None:
    if os.geteuid():
        raise NotPermitted(f"{what} needs root", hint=f"sudo netloom {what}")
