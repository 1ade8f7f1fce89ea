"""What of the cluster concerns this host alone: its blocks, and who has its address as well.

Kept from picture to picture, so that one host that joins thousands costs no look at all of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from netloom.model.addr import IPAddress, IPNetwork
from netloom.model.host import Block, Host
from netloom.model.tables import replaced
from netloom.model.view import Cluster


class OwnPart:
    """One host's part of the pictures that it was shown with :meth:`look`; for one thread.

    ``blocks`` are the host's own of all networks, pending ones too; ``twins`` the other hosts that
    have one of its addresses.
    """

    def __init__(self, host_id: str) -> None:
        self.blocks: tuple[Block, ...] = ()
        self.twins: tuple[Host, ...] = ()
        self._host_id = host_id
        self._hosts: Mapping[str, Host] = MappingProxyType({})
        self._blocks: Mapping[tuple[str, IPNetwork], Block] = MappingProxyType({})
        self._addresses: frozenset[IPAddress | None] = frozenset()

    def look(self, cluster: Cluster, own: Host) -> None:
        """See what is new in ``cluster``, and with the addresses of ``own``."""
        gone, come = replaced(self._blocks, cluster.blocks)
        self._blocks = cluster.blocks
        self.blocks = (
            *(block for block in self.blocks if block not in gone),
            *(block for block in come if block.host_id == self._host_id),
        )
        addresses = frozenset((own.underlay4, own.underlay6)) - {None}
        if addresses != self._addresses:
            self._addresses, self._hosts, self.twins = addresses, MappingProxyType({}), ()
        left, joined = replaced(self._hosts, cluster.hosts)
        self._hosts = cluster.hosts
        self.twins = (
            *(host for host in self.twins if host not in left),
            *(host for host in joined if host.id != self._host_id and self._is_twin(host)),
        )

    def _is_twin(self, host: Host) -> bool:
        return host.underlay4 in self._addresses or host.underlay6 in self._addresses
