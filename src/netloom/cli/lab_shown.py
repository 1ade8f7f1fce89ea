"""What the verbs of ``netloom lab`` show: progress, labs as a table, what does not work in one."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from netloom.cli.render import Table, paint

if TYPE_CHECKING:
    from netloom.lab.lab import Lab


def say(text: str) -> None:
    """Write one line of progress to stderr."""
    click.echo(f"{paint('·', 'dim', sys.stderr)} {text}", err=True)


def tell_problems(made: Lab) -> bool:
    """Say what the hosts' agents find wrong; True when something does not work somewhere."""
    failed = False
    for host in made.hosts:
        for problem in host.status()["problems"] if host.agent else ():
            failed |= problem["severity"] == "error"
            colour = "red" if problem["severity"] == "error" else "yellow"
            label = paint(f"{problem['severity']}:", colour, sys.stderr)
            click.echo(f"{label} {host.name}: {problem['subject']}: {problem['text']}", err=True)
            if problem["remedy"]:
                click.echo(f"  remedy: {problem['remedy']}", err=True)
    return failed


def table(labs: list[dict[str, Any]]) -> str:
    """Return labs with their hosts and containers, each in a line of its own."""
    shown = Table(["LAB", "HOST", "NAMESPACE", "ADDRESSES", "AGENT"])
    for each in labs:
        phase = "" if each["phase"] == "up" else f" ({each['phase']})"
        for host in each["hosts"]:
            addresses = [
                f"{address} {interface['name']}"
                for interface in host["interfaces"]
                for address in interface["addresses"]
            ]
            shown.add(
                each["name"] + phase,
                host["name"],
                host["namespace"],
                "\n".join(addresses),
                _agent_cell(host["agent"]),
            )
            for container in host["containers"]:
                name = f"{host['name']}/{container['name']}"
                cells = ", ".join(container["addresses"])
                shown.add(each["name"], name, container["namespace"], cells, None)
    return shown.render()


def _agent_cell(agent: Mapping[str, Any]) -> str:
    if agent["pid"] is None:
        return paint("not running", "red")
    state = paint("ready", "green") if agent["ready"] else paint("not ready", "yellow")
    return f"{state} pid {agent['pid']}"
