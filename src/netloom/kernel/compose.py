"""One host's kernel, whole: each kind of object goes to the part that speaks its language."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from pathlib import Path

from netloom.core.ownership import is_in_birds_name
from netloom.kernel.admissions import Admissions
from netloom.kernel.bird.daemon import BIRD_KINDS, BirdDaemon
from netloom.kernel.events import NetlinkEvents
from netloom.kernel.nft import NftTables
from netloom.kernel.rtnetlink import RT_KINDS, RtKernel
from netloom.kernel.sysctl import Sysctls
from netloom.kernel.tc import Qdiscs
from netloom.kernel.udp.proxies import UDP_KINDS, UdpProxies
from netloom.model.kernel import ALIAS_PREFIX, BIRD_PROTOCOL, KernelObject, Link, Peer, Route
from netloom.reconcile.contracts import Change, Outcome

Apply = Callable[[Sequence[Change]], list[Outcome]]


class HostKernel:
    """The kernel of the network namespace that the calling thread is in; implements ``Kernel``.

    ``run_dir`` is where our helper processes listen; without it there can be none. One thread at a
    time, except for :meth:`check` and :meth:`check_peer`, which any may call.
    """

    def __init__(self, run_dir: Path | None = None) -> None:
        self._rt = RtKernel()
        self._nft = NftTables()
        self._admissions = Admissions()
        self._sysctls = Sysctls()
        self._qdiscs = Qdiscs()
        self._proxies = UdpProxies(run_dir / "udp" if run_dir else None)
        self._bird = BirdDaemon(run_dir / "bird" if run_dir else None, self._bird_routes)
        proxies = self._proxies.apply
        self._apply: dict[str, Apply] = {
            **dict.fromkeys(RT_KINDS, self._rt.apply),
            "nft": self._nft.apply,
            "admission": self._admissions.apply,
            "sysctl": self._sysctls.apply,
            "qdisc": self._qdiscs.apply,
            **dict.fromkeys(UDP_KINDS, proxies),
            **dict.fromkeys(BIRD_KINDS, self._bird.apply),
        }

    def events(self) -> NetlinkEvents:
        """Return the notifications of what other hands do to this kernel; the caller closes it."""
        return NetlinkEvents(self._rt.known, [self._rt.port], (self._proxies, self._bird))

    @property
    def unpacking(self) -> frozenset[str]:
        """The devices of UDP proxies whose peers' packets this kernel unpacks by itself."""
        return self._proxies.unpacking

    def close(self) -> None:
        """Close the sockets; what stands in the kernel stays; idempotent."""
        self._rt.close()
        self._proxies.close()
        self._bird.close()

    def read(self, kinds: Iterable[str]) -> list[KernelObject]:
        """Read the objects of ``kinds`` (see ``Kernel.read``)."""
        wanted = frozenset(kinds)
        found = self._rt.read(wanted)
        if "nft" in wanted:
            found += self._nft.read()
        if "admission" in wanted:
            found += self._admissions.read()
        if "sysctl" in wanted:
            found += self._sysctls.read()
        if "qdisc" in wanted:
            found += self._qdiscs.read(self._our_links())
        return found + self._proxies.read(wanted) + self._bird.read(wanted)

    def apply(self, changes: Sequence[Change]) -> list[Outcome]:
        """Try every change in order; neighbours that one part can do go to it together.

        Our nftables table leans on nothing and nothing leans on it, and `nft` is a process of its
        own: it runs beside the rest.
        """
        runs = [
            (apply, list(run))
            for apply, run in groupby(changes, key=lambda c: self._apply[c.obj.kind_name])
        ]
        if len(runs) == 1:
            return runs[0][0](runs[0][1])
        with ThreadPoolExecutor(1, "nft") as beside:
            later = {
                place: beside.submit(apply, run)
                for place, (apply, run) in enumerate(runs)
                if run[0].obj.kind_name == "nft"
            }
            done = {
                place: apply(run) for place, (apply, run) in enumerate(runs) if place not in later
            }
        done |= {place: outcomes.result() for place, outcomes in later.items()}
        return [outcome for place in range(len(runs)) for outcome in done[place]]

    def want_sysctls(self, names: Iterable[str]) -> None:
        """Name the sysctls that :meth:`read` shall report; absent ones are left out."""
        self._sysctls.want(names)

    def check_peer(self, peer: Peer) -> list[str]:
        """Compare a container's interior with ``peer``; each difference is one sentence."""
        return self._rt.check_peer(peer)

    def check(self, obj: KernelObject) -> list[str]:
        """Compare what :meth:`read` does not show of ``obj``: the far end of a veth pair."""
        return self.check_peer(obj.peer) if isinstance(obj, Link) and obj.peer else []

    def _bird_routes(self) -> bool:
        """Tell whether routes of a BIRD stand in the main table."""
        return any(
            isinstance(route, Route)
            and route.protocol == BIRD_PROTOCOL
            and not is_in_birds_name(route)
            for route in self._rt.read({"route"})
        )

    def _our_links(self) -> frozenset[str]:
        """Return our links as last read or written: limits are read after them."""
        links = self._rt.known.links.values()
        return frozenset(link.name for link in links if link.alias.startswith(ALIAS_PREFIX))
