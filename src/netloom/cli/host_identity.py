"""A host's identity: made once out of the machine's own, kept on disk, never changed."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from netloom.model.addr import derived_name
from netloom.model.host import parse_host_id

MACHINE_ID = Path("/etc/machine-id")


def remembered_host_id(state_dir: Path, host_name: str) -> str:
    """Return the id in ``<state dir>/host-id``; write one first if there is none.

    Of several processes that come first at once, one writes and all return the same. Where we may
    not write, the id that would be written is returned.
    """
    place = state_dir / "host-id"
    with suppress(FileNotFoundError, NotADirectoryError, PermissionError):
        return parse_host_id(place.read_text("utf-8").strip(), str(place))
    fresh = _new_host_id(host_name)
    mine = state_dir / f".host-id.{os.getpid()}"
    try:
        state_dir.mkdir(parents=True, exist_ok=True, mode=0o755)
        with mine.open("w", encoding="utf-8") as file:
            file.write(fresh + "\n")
            file.flush()
            os.fsync(file.fileno())
        with suppress(FileExistsError):
            os.link(mine, place)  # in one step, and never over another's
        return parse_host_id(place.read_text("utf-8").strip(), str(place))
    except OSError:
        return fresh
    finally:
        with suppress(OSError):
            mine.unlink()


def _new_host_id(host_name: str) -> str:
    """Make an id from the machine's id and name, else from chance.

    machine-id(5) asks to show only a hash of it. The name is in it as cloned machines often share
    their machine-id.
    """
    machine = ""
    with suppress(OSError):
        machine = MACHINE_ID.read_text(encoding="utf-8").strip()
    if not machine:
        machine = os.urandom(16).hex()
    return derived_name("", "netloom-host", machine, host_name, digits=16)
