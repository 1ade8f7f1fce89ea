"""What of the cluster concerns this host alone: its blocks, and who has its address or name.

Kept from picture to picture, so that one host that joins thousands costs no look at all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

from netloom.model.addr import Family, IPAddress, IPNetwork
from netloom.model.host import Block, Host
from netloom.model.tables import Kept
from netloom.model.view import Cluster, Problem

#: A host that has not run for so long has no right to its address against one that is there.
GONE_S = 60.0


class OwnPart:
    """One host's part of the pictures that it was shown with :meth:`look`; for one thread.

    ``blocks`` are the host's own of all networks, pending ones too; ``twins`` the other hosts that
    have one of its addresses, by right or not; ``namesakes`` those that have its name.
    """

    def __init__(self, host_id: str) -> None:
        self.blocks: tuple[Block, ...] = ()
        self.twins: tuple[Host, ...] = ()
        self.namesakes: tuple[Host, ...] = ()
        self._host_id = host_id
        self._own = Kept[tuple[str, IPNetwork], Block](lambda block: block.host_id == host_id)
        self._alike = Kept[str, Host](self._is_alike)
        self._addresses: tuple[IPAddress, ...] = ()
        self._name = ""

    def look(self, cluster: Cluster, own: Host) -> None:
        """See what is new in ``cluster``, and with the addresses and the name of ``own``."""
        self.blocks = self._own.look(cluster.blocks)
        addresses = tuple(each for each in (own.underlay4, own.underlay6) if each is not None)
        if (addresses, own.name) != (self._addresses, self._name):
            self._addresses, self._name = addresses, own.name
            self._alike = Kept(self._is_alike)
        alike = self._alike.look(cluster.hosts)
        self.twins = tuple(host for host in alike if self._shared(host))
        self.namesakes = tuple(host for host in alike if host.name == own.name)

    def contested(
        self,
        before: Host | None,
        lost: Collection[Family],
        runs: Callable[[Host, float], bool],
    ) -> tuple[IPAddress, ...]:
        """Return which of the host's addresses are a twin's by right: nobody may reach it there.

        Who had an address first has it, until he has not run for a while: he may be back, from an
        upgrade for one. Of two that run and came at once it is the one with the lesser id. Who lost
        it from his card leaves it to who has it. ``before`` is what the host's record says so far,
        ``lost`` are the families of addresses that are gone; ``runs`` tells of a host whether it
        runs, or did until so many seconds ago.
        """
        had = (before.underlay4, before.underlay6) if before else ()
        found = set()
        for twin in self.twins:
            for address in self._shared(twin):
                holds = _holds(twin, address)
                if holds and address not in had:
                    theirs = runs(twin, GONE_S)
                else:
                    lesser = holds and twin.id < self._host_id
                    theirs = (lesser or address.version in lost) and runs(twin, 0)
                if theirs:
                    found.add(address)
        return tuple(sorted(found, key=lambda address: address.version))

    def doubtful(self, runs: Callable[[Host, float], bool]) -> list[Problem]:
        """Say which running hosts have this one's name: a resource that names it means both."""
        return [
            Problem(
                "warning",
                f"host {self._name}",
                f"another running host has this name, too ({host.id}): a Node or BGPPeer that "
                "names it means both",
                "give each host a name of its own (--host-name, or `calicoctl node run --name`)",
            )
            for host in self.namesakes
            if runs(host, 0)
        ]

    def problems(self, name: str, contested: Collection[IPAddress]) -> list[Problem]:
        """Say who has an address of this host, called ``name``, as well."""
        return [
            Problem(
                "error",
                f"host {name}",
                f"underlay address {address} is also host {twin.name}'s ({twin.id})"
                + (
                    ", which had it first: no host sends to this one there" * (address in contested)
                ),
                "give each host its own address, or name the right interface (--interface); a host "
                f"that is gone: netloom host forget {twin.name}",
            )
            for twin in self.twins
            for address in self._shared(twin)
        ]

    def _shared(self, host: Host) -> list[IPAddress]:
        return [a for a in self._addresses if _holds(host, a) or a in host.contested]

    def _is_alike(self, host: Host) -> bool:
        """Tell whether another host has an address of this one, or its name."""
        alike = host.name == self._name or bool(self._shared(host))
        return alike and host.id != self._host_id


def _holds(host: Host, address: IPAddress) -> bool:
    return address in (host.underlay4, host.underlay6)
