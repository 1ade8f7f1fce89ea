"""``netloom node diags``: what explains a host's state, in one file to send to who helps."""

from __future__ import annotations

import io
import json
import tarfile
import tempfile
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import click

from netloom.cli.client import PATIENCE_S, Client
from netloom.cli.settings import Settings
from netloom.kernel import commands
from netloom.model.errors import NetloomError

#: Name in the file → the command whose output it holds.
COMMANDS = {
    "date": ("date",),
    "hostname": ("hostname",),
    "links": ("ip", "-details", "link", "show"),
    "addresses": ("ip", "address", "show"),
    "routes": ("ip", "route", "show", "table", "all"),
    "routes6": ("ip", "-6", "route", "show", "table", "all"),
    "rules": ("ip", "rule", "show"),
    "neighbours": ("ip", "neighbour", "show"),
    "fdb": ("bridge", "fdb", "show"),
    "nft": ("nft", "list", "ruleset"),
    "iptables": ("iptables-save", "-c"),
    "sockets": ("ss", "-a", "-n"),
    "modules": ("lsmod",),
}
#: Paths of the agent's API → name in the file.
ANSWERS = {"/v1/status": "status.json", "/v1/plan": "plan.json", "/v1/bgp": "bgp.json"}
#: What is kept of each log: its end.
MOST_BYTES = 8 << 20
_SECRET = "password"  # noqa: S105 - the word by which a line with a secret is known


def gather(settings: Settings, log_dir: str) -> None:
    """Write the file and say where it is; what cannot be had is noted in its place."""
    now = datetime.now()
    name = now.strftime("diags-%Y%m%d_%H%M%S")
    path = Path(tempfile.mkdtemp(prefix="netloom-")) / f"{name}.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        for inside, text in _parts(settings, Path(log_dir)):
            click.echo(f"Dumping {inside}")
            data = text.encode()
            info = tarfile.TarInfo(f"{name}/{inside}")
            info.size, info.mtime = len(data), int(now.timestamp())
            archive.addfile(info, io.BytesIO(data))
    path.chmod(0o600)  # logs and rules are nobody else's business
    click.echo(f"\nDiags saved to {path}")


def _parts(settings: Settings, log_dir: Path) -> Iterator[tuple[str, str]]:
    for name, command in COMMANDS.items():
        yield name, _output(command)
    client = Client(settings.socket, PATIENCE_S)
    for url, name in ANSWERS.items():
        try:
            yield name, json.dumps(client.get(url), indent=2)
        except NetloomError as error:
            yield name, f"{error}\n"
    config = settings.run_dir / "bird" / "bird.conf"
    if config.exists():
        lines = config.read_text(encoding="utf-8").splitlines()
        kept = [line if _SECRET not in line else "  # a password is left out" for line in lines]
        yield "bird.conf", "\n".join(kept)
    for log in sorted(log_dir.glob("*.log")):
        yield f"logs/{log.name}", _end_of(log)


def _end_of(path: Path) -> str:
    """Return the end of a log, however long it has become."""
    try:
        with path.open("rb") as source:
            size = source.seek(0, io.SEEK_END)
            source.seek(max(0, size - MOST_BYTES))
            return source.read().decode("utf-8", errors="replace")
    except OSError as error:
        return f"{error}\n"


def _output(command: tuple[str, ...]) -> str:
    try:
        return commands.run(*command).output
    except NetloomError as error:
        return f"{error}\n"
