"""``netloom node checksystem``: what of the kernel is there, tried, not looked up."""

from __future__ import annotations

import os
from ipaddress import ip_address, ip_interface
from pathlib import Path

import click

from netloom.cli.client import PATIENCE_S, Client
from netloom.cli.render import paint
from netloom.cli.settings import Settings
from netloom.core.neighbour_room import on_segment, setting, shortage
from netloom.kernel import preflight, sysctl
from netloom.kernel.commands import find
from netloom.model.addr import Family
from netloom.model.errors import NetloomError, Unavailable

#: Kinds of links, and what they are for.
_KINDS = (
    ("veth", "containers"),
    ("bridge", "attachment bridge"),
    ("vxlan", "backend vxlan"),
    ("ipip", "backend ipip"),
)
_FAMILIES: tuple[Family, ...] = (4, 6)
_NEEDED = ("veth", "bridge", "vxlan")
_PROGRAMS = (("nft", "the firewall", True), ("bird", "backend bgp", False))


def check(settings: Settings) -> int:
    """Print each part and whether it is there; return the exit code: 0 when all that is needed is.

    What only some backends need, and what is too small, is told and does not count.
    """
    click.echo(f"Checking kernel {os.uname().release}")
    missing = 0
    for problem in preflight.missing_rights():
        missing += _say(problem.subject, False, problem.text, problem.remedy, needed=True)
    for kind, purpose in _KINDS:
        problems = preflight.missing([kind])
        why = (problems[0].text, problems[0].remedy) if problems else ()
        missing += _say(f"{kind} ({purpose})", not problems, *why, needed=kind in _NEEDED)
    tun = Path("/dev/net/tun").exists()
    text = "" if tun else "there is no /dev/net/tun: modprobe tun"
    missing += _say("tun (backend udp)", tun, text, needed=False)
    for name, purpose, needed in _PROGRAMS:
        there = bool(find(name))
        text = "" if there else f"the program {name} is not installed"
        missing += _say(f"{name} ({purpose})", there, text, needed=needed)
    _say_room(settings)
    if missing:
        click.echo("System doesn't meet one or more minimum systems requirements to run Calico")
        return Unavailable.exit_code
    click.echo("System meets minimum system requirements to run Calico!")
    return 0


def _say_room(settings: Settings) -> None:
    """Print whether the kernel's neighbour tables have room for all hosts of the segment."""
    try:
        found = Client(settings.socket, PATIENCE_S).get("/v1/status")
    except NetloomError:
        found = None
    for family in _FAMILIES:
        name = f"neighbours IPv{family}"
        limit = sysctl.read_of_machine(setting(family))
        if limit is None:
            click.echo(f"  {name:<28} not known: the machine's own namespace is not in sight")
            continue
        if found is None:
            text = f"room for {limit}; no agent is there to say how many hosts there are"
            _say(name, True, text, needed=False)
            continue
        own = [ip_interface(each["address"]) for each in found["candidates"] if each["taken"]]
        peers = [ip_address(each) for peer in found["peers"] for each in peer["addresses"]]
        hosts = on_segment(own, peers, family)
        problem = shortage(family, int(limit), hosts, found["endpoints"])
        if problem is None:
            _say(name, True, f"room for {limit}, {hosts} hosts on the segment", needed=False)
        else:
            word = paint("SMALL", "red")
            click.echo(f"  {name:<28} {word}: {problem.text}\n    {problem.remedy}")


def _say(what: str, there: bool, text: str = "", remedy: str = "", *, needed: bool) -> int:
    word = paint("OK", "green") if there else paint("MISSING" if needed else "absent", "red")
    click.echo(f"  {what:<28} {word}{': ' + text if text else ''}")
    if remedy:
        click.echo(f"    {remedy}")
    return int(needed and not there)
