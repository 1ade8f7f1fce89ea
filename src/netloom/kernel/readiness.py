"""New links that can send when their ADD is done: a container's first packet is not lost.

A link that got its carrier is switched on by the kernel in the background, up to a second later.
Until then what is sent over it is dropped, a bridge takes nothing from that port, and a bridge with
no other port sends nothing either. From Linux 6.8 on the kernel does it at once for the link that
it is asked about (``rtnl_getlink`` in net/core/rtnetlink.c); for older ones there is the wait.
"""

from __future__ import annotations

import time
from collections.abc import Iterable

from netloom.kernel import encode_link, wire
from netloom.kernel.netlink import Netlink
from netloom.kernel.wire import attributes

#: The kernel's own limit is a second; what is not ready by then has another reason.
_PATIENCE_S = 2.0
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.0005, 0.02


def await_ready(netlink: Netlink, indexes: Iterable[int]) -> None:
    """Return once the links can send, in this order: a bridge has its carrier from its port.

    A link without a carrier, or gone, is not waited for: its other end is down or another's doing.
    """
    deadline_s = time.monotonic() + _PATIENCE_S
    for index in indexes:
        pause_s = _FIRST_PAUSE_S
        while _is_switched_on_later(netlink, index) and time.monotonic() < deadline_s:
            time.sleep(pause_s)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)


def _is_switched_on_later(netlink: Netlink, index: int) -> bool:
    ack, payloads = netlink.query(encode_link.get_numbered(index))
    if ack.errno or not payloads:
        return False
    _, _, _, flags, _ = wire.LINK_HEADER.unpack_from(payloads[0])
    fields = dict(attributes(payloads[0], wire.LINK_HEADER.size))
    state = fields.get(wire.IFLA_OPERSTATE, b"\0")[0]
    return bool(flags & wire.IFF_LOWER_UP) and state not in (
        wire.IF_OPER_UNKNOWN,
        wire.IF_OPER_UP,
    )
