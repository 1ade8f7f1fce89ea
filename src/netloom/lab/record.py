"""What is written down of a lab: enough to find, list and remove it, also after a crash.

A lab is a directory below ``/run/netloom/lab`` (``NETLOOM_LAB_DIR``)::

    lab.json                     name, owner, phase and topology; the first thing written
    store/cluster.db             the hosts' common store
    hosts/<host>/agent.json      the agent's process
    hosts/<host>/agent.log
    hosts/<host>/netloom.yaml    the agent's settings
    hosts/<host>/state, run      the agent's directories
    hosts/<host>/bin, cni        the CNI executable, and what the runtime remembers
    hosts/<host>/containers/<name>.json, .log

The directory is made before anything else and removed after everything else: while a part of a lab
is there, its directory is. Each file is replaced as a whole, so that a reader sees the old or the
new one. Only root may look inside.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from netloom.lab.names import parse_lab_name
from netloom.lab.processes import Process
from netloom.model.errors import Conflict, InvalidConfig, NotPermitted
from netloom.model.fields import Fields, nearest

BUILDING, UP = "building", "up"


def root() -> Path:
    """Return the directory of all labs."""
    return Path(os.environ.get("NETLOOM_LAB_DIR", "/run/netloom/lab"))


@dataclass(frozen=True, slots=True)
class Record:
    """``lab.json``. A lab with an ``owner`` is to be swept when that process is dead.

    While a lab is ``building`` its owner is the builder; afterwards it is None for labs of the
    command line, and the test run for labs of tests.
    """

    name: str
    phase: str
    created: str
    document: Mapping[str, Any]
    owner: Process | None = None

    @property
    def abandoned(self) -> bool:
        """Tell whether whoever should have finished or removed it is dead."""
        return self.owner is not None and not self.owner.alive

    @classmethod
    def parse(cls, data: object) -> Record:
        """Parse what :meth:`render` writes."""
        fields = Fields(data, "lab.json")
        owner = fields.take("owner")
        record = cls(
            name=parse_lab_name(fields.take_required("name"), "lab.json.name"),
            phase=fields.take_str("phase"),
            created=fields.take_str("created"),
            document=fields.take_map("document"),
            owner=Process.parse(owner) if owner else None,
        )
        fields.done()
        return record

    def render(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "name": self.name,
            "phase": self.phase,
            "created": self.created,
            "document": dict(self.document),
            "owner": self.owner.render() if self.owner else None,
        }


def directory(name: str) -> Path:
    """Return where the lab called ``name`` is or would be."""
    return root() / name


def names() -> list[str]:
    """Return the names of all labs that have a directory, whole or not."""
    try:
        found = [entry.name for entry in root().iterdir() if entry.is_dir()]
        return sorted(name for name in found if not name.startswith("."))
    except FileNotFoundError:
        return []
    except PermissionError:
        raise NotPermitted(f"may not read {root()}", hint="run as root") from None


def reserve(record: Record) -> Path:
    """Make the lab's directory with ``lab.json`` in it; return the directory.

    It appears under its name with the file inside or not at all. Raises Conflict when the name is
    taken.
    """
    root().mkdir(mode=0o700, parents=True, exist_ok=True)
    remove_drafts()
    target = directory(record.name)
    draft = root() / f".{record.name}.{os.getpid()}"
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(mode=0o700)
    write_json(draft / "lab.json", record.render())
    try:
        # Onto a directory with something in it rename fails, and each lab's has lab.json.
        draft.rename(target)
    except OSError:
        shutil.rmtree(draft, ignore_errors=True)
        raise Conflict(
            f"a lab called {record.name} exists",
            hint=f"remove it with `netloom lab down --name {record.name}`, "
            "or choose another name with --name",
        ) from None
    return target


def load(name: str) -> Record:
    """Read a lab's record. Raises InvalidConfig naming the nearest lab when there is none."""
    try:
        return Record.parse(json.loads((directory(name) / "lab.json").read_text("utf-8")))
    except PermissionError:
        raise NotPermitted(f"may not read {directory(name)}", hint="run as root") from None
    except (OSError, ValueError):
        known = names()
        hint = nearest(name, known) if known else "make one with `netloom lab up`"
        raise InvalidConfig(
            f"there is no lab called {name}", field="name", value=name, hint=hint
        ) from None


def write_json(path: Path, data: object) -> None:
    """Replace the file at ``path`` as a whole."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with open(handle, "w", encoding="utf-8") as file:
        json.dump(data, file, indent=2)
        file.write("\n")
    draft.replace(path)


def read_json(path: Path) -> Any:
    """Return what the file at ``path`` holds, or None when there is none or it is cut short."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def remove(name: str) -> None:
    """Remove the lab's directory; absent is well. ``lab.json`` goes last."""
    target = directory(name)
    for entry in target.iterdir() if target.exists() else ():
        if entry.name == "lab.json":
            continue
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry, ignore_errors=True)
        else:
            entry.unlink(missing_ok=True)
    shutil.rmtree(target, ignore_errors=True)
    remove_drafts(name)


def remove_drafts(name: str = "*") -> None:
    """Remove what those left that died while they reserved ``name``, or any name."""
    for draft in root().glob(f".{name}.*") if root().exists() else ():
        _, _, pid = draft.name.rpartition(".")
        if pid.isdecimal() and Process.of(int(pid)) is None:
            shutil.rmtree(draft, ignore_errors=True)
