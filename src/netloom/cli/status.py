"""``netloom status``: one screen that says whether this host is well, and what to do if not."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import click

from netloom.cli.client import PATIENCE_S, Client
from netloom.cli.options import output_option, with_settings
from netloom.cli.render import Table, bold, counted, emit, paint, pairs
from netloom.cli.settings import Settings
from netloom.model.errors import Unavailable
from netloom.model.kernel import KINDS

Document = Mapping[str, Any]
_COUNTS_WIDTH = 76
#: What people call a kind of kernel object where the kind's own name is none.
_KIND_NAMES = {"fdb": "FDB entry", "nft": "nft table"}


@click.command(epilog="Example: netloom status && echo all is well")
@output_option
@with_settings("socket")
def status(output: str, settings: Settings) -> None:
    """Show on one screen whether this host is well, and why not.

    Exit code 0 when nothing needs a person, 6 when something does.
    """
    found = Client(settings.socket, PATIENCE_S).get("/v1/status")
    emit(output, found, lambda: screen(found, datetime.now(UTC)))
    if not found["well"]:
        sys.exit(Unavailable.exit_code)


def screen(found: Document, now: datetime) -> str:
    """Return the screen of a status document; ``now`` is what ages are counted to."""
    parts = [_head(found, now), _networks(found), _peers(found), _problems(found)]
    return "\n\n".join(part for part in parts if part)


def _head(found: Document, now: datetime) -> str:
    store, kernel = found["store"], found["kernel"]
    well = paint("well", "green") if found["well"] else paint("NOT WELL", "red")
    ready = "" if found["ready"] else ", not ready to attach containers"
    state = store["state"]
    state = state if state == "connected" else paint(state, "red")
    connection = f"revision {store['revision']}, {state} since {_age(store['since'], now)}"
    if store["error"]:
        connection += f": {store['error']}"
    # The reason names the address it is for; without one the bare address must do.
    underlay = found["underlay_reason"] or ", ".join(found["underlay"].values()) or "none"
    return pairs(
        [
            ("host", f"{bold(found['host_name'])} ({found['host_id']}): {well}{ready}"),
            (
                "agent",
                f"netloom {found['version']}, process {found['pid']}, "
                f"up {_age(found['started'], now)}",
            ),
            ("underlay", underlay),
            ("store", f"{store['url']}\n{connection}"),
            ("kernel", _kernel(store, kernel, now)),
            ("repaired", _counts(kernel["repaired"]) or "nothing so far"),
            ("containers", counted(found["endpoints"], "attached interface")),
        ]
    )


def _kernel(store: Document, kernel: Document, now: datetime) -> str:
    lag = store["revision"] - kernel["revision"]
    behind = paint(f", {lag} behind the store", "yellow") if lag > 0 else ""
    applied = f", applied {_age(kernel['last_apply'], now)} ago" if kernel["last_apply"] else ""
    lines = [f"revision {kernel['revision']}{behind}{applied}", _counts(kernel["objects"])]
    lines += [paint(f"refused: {text}", "red") for text in kernel["failing"]]
    return "\n".join(line for line in lines if line)


def _networks(found: Document) -> str:
    table = Table(("NETWORK", "BACKEND", "ATTACHMENT", "MTU", "BLOCK", "IN USE"))
    table.right = frozenset({"MTU", "IN USE"})
    for net in found["networks"]:
        used = [_used(block) for block in net["blocks"]]
        table.add(
            net["name"],
            "\n".join([net["backend"], *(f"from {old}" for old in net.get("retiring", ()))]),
            net["attachment"],
            net["mtu_bytes"],
            "\n".join(str(block["cidr"]) for block in net["blocks"]),
            "\n".join(used),
        )
    return table.render() if table.rows else "no networks"


def _used(block: Document) -> str:
    lent = f" ({block['lent']} lent)" if block.get("lent") else ""
    return f"{block.get('used', 0)} of {block.get('size', '?')}{lent}"


def _peers(found: Document) -> str:
    table = Table(("PEER", "ADDRESS", "BLOCK", "REACHED BY", "STATE"))
    for peer in found["peers"]:
        state = paint(peer["problem"], "red") if peer["problem"] else "ok"
        table.add(
            peer["name"],
            "\n".join(peer["addresses"]),
            "\n".join(peer["blocks"]),
            _ways(peer),
            state,
        )
    return table.render() if table.rows else "no peers"


def _ways(peer: Document) -> str:
    """Return how a peer is reached: where several networks lead there, a line for each."""
    ways = peer.get("paths", {})
    if len(ways) < 2:
        return str(peer["path"])
    return "\n".join(f"{network}: {way}" for network, way in ways.items())


def _problems(found: Document) -> str:
    lines = []
    for problem in found["problems"]:
        colour = "red" if problem["severity"] == "error" else "yellow"
        label = paint(problem["severity"] + ":", colour)
        lines.append(f"{label} {problem['subject']}: {problem['text']}")
        if problem["remedy"]:
            lines.append(f"  remedy: {problem['remedy']}")
    return "\n".join(lines)


def _counts(counts: Mapping[str, int]) -> str:
    known = [kind for kind in KINDS if kind in counts]  # always in the same order
    kinds = known + sorted(set(counts) - set(known))
    named = ((counts[kind], _KIND_NAMES.get(kind, kind)) for kind in kinds)
    # Lines end between the counts, never inside one.
    each = [
        counted(count, name).replace(" ", "\N{NO-BREAK SPACE}") for count, name in named if count
    ]
    lines = textwrap.wrap(", ".join(each), _COUNTS_WIDTH)
    return "\n".join(lines).replace("\N{NO-BREAK SPACE}", " ")


def _age(moment: str, now: datetime) -> str:
    """Return how long ago an ISO 8601 time was: ``12 s``, ``3 min``, ``5 h``, ``2 days``."""
    try:
        seconds = max(0.0, (now - datetime.fromisoformat(moment)).total_seconds())
    except (ValueError, TypeError):
        return moment or "an unknown time"
    for size, unit in ((86400, "days"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
