"""The filter tables of ``iptables-legacy``, which are none of nftables' and which nft cannot see.

They are there where somebody still uses that kind (Docker follows what ``iptables`` is on its
host). The kernel tells nobody when they change: they are looked at when everything is.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from netloom.core.iptables_save import TABLE, as_ruleset
from netloom.kernel import commands
from netloom.model.addr import Family
from netloom.model.errors import KernelRejected

#: Of the namespace that the calling thread is in. Asking iptables itself would make the table.
_NAMES = {4: "ip_tables_names", 6: "ip6_tables_names"}
_PROGRAMS = {4: "iptables-legacy", 6: "ip6tables-legacy"}
_LOCK_PATIENCE_S = 5


def stands(family: Family) -> bool:
    """Tell whether this kind of iptables has a filter table here."""
    try:
        return TABLE in Path("/proc/thread-self/net", _NAMES[family]).read_text("utf-8").split()
    except OSError:
        return False  # a kernel without it


def listed(family: Family) -> dict[str, Any]:
    """Return the table as nft's JSON would have it. Raises KernelRejected, Unavailable."""
    done = commands.run(f"{_PROGRAMS[family]}-save", "-t", TABLE)
    if done.code:
        raise KernelRejected("read", f"{_PROGRAMS[family]} {TABLE}", errno.EINVAL, done.complaint)
    return as_ruleset(done.output, family)


def commit(family: Family, verb: str, lines: Iterable[str]) -> None:
    """Carry out lines in the form of iptables-save, wholly or not at all. Raises KernelRejected."""
    script = "\n".join([f"*{TABLE}", *lines, "COMMIT", ""])
    restore = (f"{_PROGRAMS[family]}-restore", "--noflush", "--wait", str(_LOCK_PATIENCE_S))
    done = commands.run(*restore, stdin=script)
    if done.code:
        raise KernelRejected(verb, f"{_PROGRAMS[family]} {TABLE}", errno.EINVAL, done.complaint)
