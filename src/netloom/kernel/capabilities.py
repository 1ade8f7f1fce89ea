"""What a process may do, as the kernel numbers it (capabilities(7))."""

from __future__ import annotations

from pathlib import Path

NET_BIND_SERVICE = 10
NET_ADMIN = 12
SYS_ADMIN = 21


def holds(capability: int, process: int | str = "thread-self") -> bool:
    """Tell whether a process, by default the calling thread, has a capability in effect.

    Of one that is gone it is false.
    """
    try:
        text = Path(f"/proc/{process}/status").read_text("utf-8", "replace")
    except OSError:
        return False
    held = next(line.split()[1] for line in text.splitlines() if line.startswith("CapEff:"))
    return bool(int(held, 16) >> capability & 1)
