"""Whether the kernel's neighbour tables have room for all that a host talks to directly.

There is one table per family for the whole machine, all network namespaces included, and an entry
in it for each host of the segment and for each container of this host that was talked to. Past
``gc_thresh2`` entries the kernel throws away what rests for five seconds, past ``gc_thresh3`` it
refuses new ones, and packets to these neighbours are lost. What an agent enters for good (the far
ends of vxlan) does not count (net/core/neighbour.c, since Linux 5.0).
"""

from __future__ import annotations

from collections.abc import Iterable

from netloom.model.addr import Family, IPAddress, IPInterface
from netloom.model.view import Problem

#: Of a table no more than this part is for hosts and containers: gateways and other machines of
#: the segment have entries, too, and at half of it the kernel begins to throw entries away.
_PART = 2
_LEAST_LIMIT = 1024


def setting(family: Family, number: int = 3) -> str:
    """Return the name of a limit below /proc/sys/net."""
    return f"ipv{family}/neigh/default/gc_thresh{number}"


def on_segment(own: Iterable[IPInterface], peers: Iterable[IPAddress], family: Family) -> int:
    """Return how many of the peers' addresses are on a segment that this host is on."""
    segments = {each.network for each in own if each.version == family}
    return sum(1 for each in set(peers) if any(each in segment for segment in segments))


def shortage(family: Family, limit: int, hosts: int, containers: int) -> Problem | None:
    """Return what is wrong with a table of ``limit`` entries for so many neighbours, or None."""
    wanted = _PART * (hosts + containers)
    if wanted <= limit:
        return None
    better = max(_LEAST_LIMIT, 1 << (2 * wanted - 1).bit_length())
    second, third = ("net." + setting(family, n).replace("/", ".") for n in (2, 3))
    return Problem(
        "warning",
        f"neighbours IPv{family}",
        f"{third} is {limit}, for the whole machine: too few for {hosts} hosts on the segment and "
        f"{containers} containers here; packets to some of them will be lost",
        f"sysctl -w {second}={better // 2} {third}={better}, and the same in /etc/sysctl.d",
    )
