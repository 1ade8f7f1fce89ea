"""Which kinds of links this kernel can make, found out without changing anything on the machine.

To ask for a link loads its module, and a module may bring devices of its own into every namespace
(ipip: ``tunl0``). So nothing is tried. A dump of links of one kind loads nothing: a kind that the
kernel does not have is no filter, and all links are shown, the loopback too (rtnl_dump_ifinfo in
net/core/rtnetlink.c). What is not there now may be loaded when it is asked for: that is told by the
list of the running kernel's modules (modules.dep(5)).
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from netloom.kernel import encode_link, tun, wire
from netloom.kernel.netlink import Netlink

#: The kinds that networks are made of.
KINDS = ("bridge", "ipip", "tun", "veth", "vxlan")
#: For how long an answer is as good as new: somebody may load a module meanwhile.
FRESH_S = 10.0
_ARPHRD_LOOPBACK = 772
_MODULES = Path("/lib/modules")
_LOADER = Path("/proc/sys/kernel")


class Devices:
    """What the kernel of this thread's namespace can make; calling it tells, kind by kind.

    A kind of which nobody here can tell, as in a container that does not see the modules, is left
    out. One that was there stays: its links may be asked for, whatever was unloaded since.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._looked_s = float("-inf")
        self._told: dict[str, bool] = {}

    def __call__(self) -> Mapping[str, bool]:
        """Return, by kind, whether a link of it can be made."""
        now = self._clock()
        if now - self._looked_s >= FRESH_S:
            self._looked_s = now
            left = [kind for kind in KINDS if not self._told.get(kind)]
            with Netlink() as netlink:
                found = {kind: _can_make(netlink, kind) for kind in left}
            self._told |= {kind: can for kind, can in found.items() if can is not None}
        return dict(sorted(self._told.items()))


def is_there(netlink: Netlink, kind: str) -> bool:
    """Tell whether the kernel has links of ``kind`` now, built in or loaded; it loads nothing."""
    links = netlink.dump(encode_link.dump(kind), f"links of type {kind}")
    types = {wire.LINK_HEADER.unpack_from(link)[1] for link in links}
    return _ARPHRD_LOOPBACK not in types


def listed(module: str, modules: Path = _MODULES) -> bool | None:
    """Tell whether the running kernel's modules have ``module``; None where there is no list."""
    index = modules / os.uname().release / "modules.dep"
    return f"/{module}.ko" in index.read_text("utf-8") if index.is_file() else None


def _can_make(netlink: Netlink, kind: str) -> bool | None:
    if kind == "tun" and not tun.PLACE.exists():
        return False  # links of this kind are made by it alone
    if is_there(netlink, kind):
        return True
    return listed(kind) if _loads_modules() else False


def _loads_modules() -> bool:
    """Tell whether the kernel can still load a module when something asks for it."""
    try:
        loader = (_LOADER / "modprobe").read_text("utf-8").strip()
        closed = (_LOADER / "modules_disabled").read_text("utf-8").strip() == "1"
    except OSError:
        return False  # a kernel without modules
    return bool(loader) and not closed
