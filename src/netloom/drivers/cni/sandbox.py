"""The container's network namespace: which path the agent can open for the one the caller means.

A runtime may live in a mount namespace of its own, where ``/run/netns/x`` is another file than the
agent sees. The front tells the inode behind the path, so the agent can tell; then it goes by way of
the front's process (``/proc/<pid>/root``), whose view is the runtime's.
"""

from __future__ import annotations

import os

from netloom.drivers.cni import codes
from netloom.drivers.cni.errors import CniError

HOST = "/proc/self/ns/net"


def resolve(path: str, inode: str, caller: int, *, allow_own: bool = False) -> str:
    """Return a path by which the agent can open the namespace that the caller calls ``path``.

    ``inode`` is ``device:inode`` as the caller sees it, "" if it could not look; ``caller`` its
    process id or 0. ``allow_own`` lets the agent's own namespace pass (CNI_NETNS_OVERRIDE).

    Raises CniError 8 when there is no such file here or the namespace is the host's own.
    """
    candidates = [path, f"/proc/{caller}/root{path}"] if caller else [path]
    for candidate in candidates:
        seen = identity(candidate)
        if seen and inode in ("", seen):
            if seen == identity(HOST) and not allow_own:
                raise CniError(
                    codes.INVALID_NETNS,
                    f"CNI_NETNS: {path} is the host's own network namespace",
                    "a container in the host's namespace needs no network of its own",
                )
            return candidate
    if not inode:
        raise CniError(
            codes.INVALID_NETNS,
            f"CNI_NETNS: there is no {path}",
            "the container has ended, or the path is misspelt",
        )
    raise CniError(
        codes.INVALID_NETNS,
        f"CNI_NETNS: {path} is another file to the agent than to its caller",
        "let the agent see the runtime's mounts: no PrivateMounts= in netloom.service",
    )


def identity(path: str) -> str:
    """Return ``device:inode`` of a file, "" if there is none."""
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return ""
    return f"{status.st_dev}:{status.st_ino}"
