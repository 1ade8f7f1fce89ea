"""How much a device takes in one piece, to cut it into packets by itself.

A sender that does not know the limit of a card further on sends larger pieces, and its host cuts
each of them before the card: that costs more than all else on the way. The host's own sockets know
their card; those in a container know their cable only, so the cable gets the card's limits.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

#: Limits below count as none said: hardly a packet with its headers fits, and kernels refuse to
#: give a device less room than those headers take.
_LEAST_BYTES = 2048


@dataclass(frozen=True, slots=True)
class Gso:
    """A device's limits, as ``ip -d link`` shows them: gso_max_size and gso_max_segs."""

    max_bytes: int
    max_segments: int


#: What every device begins with; a cable is not given more, since what lies behind it has no more.
BY_DEFAULT = Gso(65536, 65535)


def least(limits: Iterable[Gso]) -> Gso:
    """Return what all of these devices take, at most what they do by default."""
    told = [each for each in limits if each.max_bytes >= _LEAST_BYTES and each.max_segments]
    return Gso(
        min(each.max_bytes for each in (*told, BY_DEFAULT)),
        min(each.max_segments for each in (*told, BY_DEFAULT)),
    )
