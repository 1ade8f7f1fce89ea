"""What one BGP session is, and how patient BGP is."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta

from netloom.core.resources.bgp_filter import BgpFilter
from netloom.core.resources.values import BGP_PORT
from netloom.model.addr import Family, IPAddress, IPNetwork

MESH = "node-to-node mesh"
GLOBAL = "global"
NODE = "node specific"
#: How the name of a session of each type begins; the rest is the peer's address.
NAME_PREFIXES = {"Mesh_": MESH, "Global_": GLOBAL, "Node_": NODE}


@dataclass(frozen=True, slots=True)
class Session:
    """One BGP session.

    ``name`` is BIRD's for it: letters, digits and '_'. ``local`` None leaves the choice of the own
    address to the routing table. ``accepts`` are the ranges whose routes are taken from another
    host; of anything inside them. A ``router`` is no host of this cluster: what it sends is taken,
    save what the plan protects. ``passive``: the neighbour opens it. ``password`` "" means none.

    ``local_as`` None is the plan's. ``transit``: it is also sent blocks that were learned, save
    those by way of a host in ``direct``, which tells them itself. ``client``: routes are reflected
    to it. ``next_hop`` is ``auto``, ``self`` or ``keep``. ``hops``: packets that came from further
    away are dropped (RFC 5082); 0 for no such limit. Of ``filters``, None lets nothing pass.
    ``reachable_by`` is a gateway on the way to the neighbour.
    """

    name: str
    local: IPAddress | None
    neighbour: IPAddress
    remote_as: int
    accepts: tuple[IPNetwork, ...]
    passive: bool = False
    password: str = field(default="", repr=False)
    router: bool = False
    port: int = BGP_PORT
    local_as: int | None = None
    transit: bool = False
    direct: tuple[IPAddress, ...] = ()
    client: bool = False
    next_hop: str = "auto"
    keepalive_s: int | None = None
    restart_s: int | None = None
    allowed_local_as: int = 0
    hops: int = 0
    filters: tuple[BgpFilter | None, ...] = ()
    reachable_by: IPAddress | None = None

    @property
    def family(self) -> Family:
        """The family of the session's addresses and of the routes that it carries."""
        return self.neighbour.version


@dataclass(frozen=True, slots=True)
class Timers:
    """How patient BGP is.

    ``connect``, ``retry``, ``error_*``: small, so that a mesh comes up in a second or two, and not
    so small that hosts without an answer are a storm. ``opening`` bounds how long a connection is
    kept whose other end has not opened its session: it may be one whose end could not be told, and
    until then its peer, come back, is not let in (BIRD would wait 240 s). ``restart_wait`` bounds
    how long a daemon that was killed waits for all peers before it routes anew (BIRD's own 240 s
    are a known plague): on a busy host their sessions take seconds, and some routers let nobody in
    for five after one ended (GoBGP's idle hold time). ``restart`` is how long peers keep the routes
    of one that restarts.
    """

    connect: timedelta = timedelta(seconds=1)
    retry: timedelta = timedelta(seconds=2)
    error_least: timedelta = timedelta(seconds=1)
    error_most: timedelta = timedelta(seconds=4)
    opening: timedelta = timedelta(seconds=20)
    hold: timedelta = timedelta(seconds=90)
    restart_wait: timedelta = timedelta(seconds=10)
    restart: timedelta = timedelta(seconds=120)


def session_name(prefix: str, address: IPAddress, port: int = BGP_PORT) -> str:
    """Return the name of the session with ``address``: ``Mesh_192_168_26_101``."""
    text = str(address).replace(".", "_").replace(":", "_").replace("%", "_")
    return prefix + text + (f"_port_{port}" if port != BGP_PORT else "")
