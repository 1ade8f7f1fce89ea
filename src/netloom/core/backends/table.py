"""The table of backends. Adding one: a module in this folder, a line here, its tests."""

from __future__ import annotations

from netloom.core.backends.bgp import BgpBackend
from netloom.core.backends.contract import Backend
from netloom.core.backends.host_gw import HostGwBackend
from netloom.core.backends.ipip import IpipBackend
from netloom.core.backends.per_pool import PerPoolBackend
from netloom.core.backends.udp import UdpBackend
from netloom.core.backends.vxlan import VxlanBackend

BACKENDS: dict[str, Backend] = {
    backend.name: backend
    for backend in (VxlanBackend(), HostGwBackend(), UdpBackend(), IpipBackend(), BgpBackend())
}
_PER_POOL = PerPoolBackend(BACKENDS)  # made of all the others
BACKENDS[_PER_POOL.name] = _PER_POOL
