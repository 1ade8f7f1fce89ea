"""``netloom node checksystem``: what of the kernel is there, tried, not looked up."""

from __future__ import annotations

import os
from pathlib import Path

import click

from netloom.cli.render import paint
from netloom.kernel import preflight
from netloom.kernel.commands import find
from netloom.model.errors import Unavailable

#: Kinds of links, and what they are for.
_KINDS = (
    ("veth", "containers"),
    ("bridge", "attachment bridge"),
    ("vxlan", "backend vxlan"),
    ("ipip", "backend ipip"),
)
_NEEDED = ("veth", "bridge", "vxlan")
_PROGRAMS = (("nft", "the firewall", True), ("bird", "backend bgp", False))


def check() -> int:
    """Print each part and whether it is there; return the exit code: 0 when all that is needed is.

    What only some backends need is told and does not count.
    """
    click.echo(f"Checking kernel {os.uname().release}")
    missing = 0
    for problem in preflight.missing_rights():
        missing += _say(problem.subject, False, problem.text, needed=True)
    for kind, purpose in _KINDS:
        problems = preflight.missing([kind])
        text = problems[0].text if problems else ""
        missing += _say(f"{kind} ({purpose})", not problems, text, needed=kind in _NEEDED)
    tun = Path("/dev/net/tun").exists()
    text = "" if tun else "there is no /dev/net/tun: modprobe tun"
    missing += _say("tun (backend udp)", tun, text, needed=False)
    for name, purpose, needed in _PROGRAMS:
        there = bool(find(name))
        text = "" if there else f"the program {name} is not installed"
        missing += _say(f"{name} ({purpose})", there, text, needed=needed)
    if missing:
        click.echo("System doesn't meet one or more minimum systems requirements to run Calico")
        return Unavailable.exit_code
    click.echo("System meets minimum system requirements to run Calico!")
    return 0


def _say(what: str, there: bool, text: str, *, needed: bool) -> int:
    word = paint("OK", "green") if there else paint("MISSING" if needed else "absent", "red")
    click.echo(f"  {what:<28} {word}{': ' + text if text else ''}")
    return int(needed and not there)
