"""``netloom ping``: the matrix of who reaches whom, between hosts and between containers."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click

from netloom.cli.cluster import ClusterStore, opened
from netloom.cli.options import output_option, with_settings
from netloom.cli.render import Table, emit, paint, pairs
from netloom.cli.settings import Settings
from netloom.kernel import namespaces
from netloom.kernel.echo import Echo, echo
from netloom.model.addr import IPAddress, parse_address
from netloom.model.errors import Unavailable

#: So many columns with names; beyond that they are numbered, with a legend.
MOST_NAMED = 10
_AT_ONCE = 8
_LONG_ID = re.compile(r"[0-9a-f]{13,}")


@dataclass(frozen=True, slots=True)
class Point:
    """A host or container: its name for people, its addresses, and its namespace if it is here.

    ``netns`` "" is the namespace we run in, None one that is on another machine.
    """

    name: str
    addresses: tuple[IPAddress, ...]
    netns: str | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """One cell of the matrix."""

    source: str
    target: str
    echo: Echo

    def render(self) -> dict[str, Any]:
        """Return the cell's JSON form."""
        return {
            "from": self.source,
            "to": self.target,
            "address": str(self.echo.address),
            "reached": self.echo.rtt_ms is not None,
            "rttMs": None if self.echo.rtt_ms is None else round(self.echo.rtt_ms, 3),
            "reason": self.echo.reason,
        }


@click.command(
    epilog="""\b
Examples:
  netloom ping
  netloom ping --lab lab
"""
)
@click.option("--lab", "lab_name", metavar="NAME", help="Ping from every host of a lab.")
@click.option(
    "--timeout",
    "patience_s",
    type=click.FloatRange(0.1, 60),
    default=1.5,
    show_default=True,
    metavar="SECONDS",
    help="How long an answer may take.",
)
@output_option
@with_settings("datastore", "state_dir", "host_id", "host_name")
def ping(lab_name: str | None, patience_s: float, output: str, settings: Settings) -> None:
    """Show who reaches whom, between hosts and between containers.

    From this host and the containers on it to every host and container in the datastore; with
    --lab from every host and container of a lab. Exit code 0 when all are reached, else 6.
    """
    points = lab_points(lab_name) if lab_name else cluster_points(settings)
    answers = matrix(points, patience_s)
    document = {"answers": [answer.render() for answer in answers]}
    emit(output, document, lambda: screen(points, answers))
    if not answers or any(answer.echo.rtt_ms is None for answer in answers):
        sys.exit(Unavailable.exit_code)


def cluster_points(settings: Settings) -> list[Point]:
    """Return the cluster's hosts and containers; those of this host can be pinged from."""
    with opened(settings) as cluster:
        points = []
        for host in sorted(cluster.cluster.hosts.values(), key=lambda one: (one.name, one.id)):
            here = host.id == settings.host_id
            addresses = tuple(a for a in (host.underlay4, host.underlay6) if a)
            points.append(Point(host.name, addresses, "" if here else None))
            points += _containers(cluster, host.id, host.name, here)
    if not any(point.netns == "" for point in points):
        points.insert(0, Point(settings.host_name, (), ""))  # an onlooker: no host of the cluster
    return points


def _containers(cluster: ClusterStore, host_id: str, host_name: str, here: bool) -> list[Point]:
    """Return a host's containers, each with the addresses of all its interfaces."""
    found: dict[str, Point] = {}
    for one in cluster.endpoints:
        if one.host_id == host_id and one.attached:
            name = f"{host_name}/{_short(one.container_id)}"
            netns = one.netns if here and Path(one.netns).exists() else None
            known = found.setdefault(name, Point(name, (), netns))
            found[name] = replace(known, addresses=known.addresses + one.addresses)
    return [found[name] for name in sorted(found)]


def lab_points(name: str) -> list[Point]:
    """Return a lab's hosts and containers. Raises InvalidConfig when there is no such lab."""
    from netloom.lab.lab import Lab

    points = []
    for host in Lab.open(name).hosts:
        own = tuple(one.ip for one in host.node.interfaces[0].addresses)
        points.append(Point(host.name, own, str(namespaces.path(host.namespace))))
        for container in host.containers():
            addresses = tuple(parse_address(text, "address") for text in container.addresses)
            netns = str(namespaces.path(container.namespace))
            points.append(Point(container.name, addresses, netns))
    return points


def matrix(points: Sequence[Point], patience_s: float) -> list[Answer]:
    """Ping from every point that is here to all addresses of all others, all sources at once.

    A point that has addresses of one family only is not asked for the other.
    """
    sources = [point for point in points if point.netns is not None]

    def ask(source: Point) -> list[Answer]:
        spoken = {address.version for address in source.addresses} or {4, 6}
        others = [
            (point, address)
            for point in points
            if point is not source
            for address in point.addresses
            if address.version in spoken
        ]
        asking = _asking([address for _, address in others], patience_s)
        found = namespaces.in_namespace(source.netns, asking) if source.netns else asking()
        return [Answer(source.name, target.name, found[address]) for target, address in others]

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return [answer for answers in pool.map(ask, sources) for answer in answers]


def _asking(addresses: list[IPAddress], patience_s: float) -> Callable[[], dict[IPAddress, Echo]]:
    return lambda: echo(addresses, patience_s=patience_s)


def screen(points: Sequence[Point], answers: Sequence[Answer]) -> str:
    """Return the matrix, what it amounts to, and every pair that failed with its reason."""
    if not answers:
        return "nobody to ping: no other host and no container is known yet"
    columns = [(point.name, address) for point in points for address in point.addresses]
    cells = {(a.source, a.target, a.echo.address): a.echo for a in answers}
    numbered = len(columns) > MOST_NAMED
    heads = [
        f"[{number}]" if numbered else f"{name}\n{address}"
        for number, (name, address) in enumerate(columns, 1)
    ]
    table = Table(("FROM \\ TO", *(head.split("\n")[0] for head in heads)))
    if not numbered:
        table.add("", *(str(address) for _, address in columns))
        table.rows[0][0] = ""
    for source in dict.fromkeys(answer.source for answer in answers):
        row = [_cell(cells.get((source, *column)), numbered) for column in columns]
        table.add(source, *row)
    parts = [table.render()]
    if numbered:
        legend = ((f"[{n}]", f"{name} {address}") for n, (name, address) in enumerate(columns, 1))
        parts.append(pairs(legend))
    return "\n\n".join([*parts, _summary(answers)])


def _cell(found: Echo | None, numbered: bool) -> str:
    if found is None:
        return "-"  # itself, or of a family that it does not have
    if found.rtt_ms is None:
        return paint("NO", "red")
    return paint("ok" if numbered else f"{found.rtt_ms:.2f} ms", "green")


def _summary(answers: Iterable[Answer]) -> str:
    every = list(answers)
    failed = [answer for answer in every if answer.echo.rtt_ms is None]
    lines = [f"{len(every) - len(failed)} of {len(every)} reached"]
    for answer in failed:
        lines.append(
            f"{answer.source} -> {answer.target} {answer.echo.address}: {answer.echo.reason}"
        )
    return "\n".join(lines)


def _short(container_id: str) -> str:
    """Return a container's id as engines show it: twelve digits of a long one."""
    return container_id[:12] if _LONG_ID.fullmatch(container_id) else container_id
