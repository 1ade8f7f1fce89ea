"""``subnet.env``: the file that tells a container engine on this host of the host's block.

Written after a turn of the engine, when the block, the MTU or the masquerading is another than what
the file says. It stays when the agent ends and while the store is away, as the block does.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from netloom.core.desired import Desired, Standing
from netloom.core.ipam.blocks import within
from netloom.core.ipam.draining import draining, stranded
from netloom.model.errors import NetloomError
from netloom.model.view import Problem
from netloom.store.flannel.subnet_env import SubnetEnv, write_file


class SubnetFile:
    """The file of one network on this host. ``network`` is its name.

    Where no network has that name and only one deals a block per host, that one is meant.
    """

    def __init__(self, path: Path, network: str) -> None:
        self._path = path
        self._network = network
        self._written = ""
        self.problems: tuple[Problem, ...] = ()

    def update(self, desired: Desired, labels: Mapping[str, str] | None = None) -> None:
        """Write the file if it says something else than ``desired``; what fails is a problem.

        ``labels`` are the host's, where they are known.
        """
        standing = self._standing(desired)
        text = content(standing, labels) if standing else ""
        if not text or (text == self._written and self._path.exists()):
            return
        try:
            write_file(self._path, text)
            self._written, self.problems = text, ()
        except NetloomError as error:
            self.problems = (Problem("error", str(self._path), str(error), error.hint),)

    def _standing(self, desired: Desired) -> Standing | None:
        named = desired.standing.get(self._network)
        if named is not None:
            return named
        dealing = [
            s for s in desired.standing.values() if s.network.addressing.mode == "host-block"
        ]
        return dealing[0] if len(dealing) == 1 else None


def content(standing: Standing, labels: Mapping[str, str] | None) -> str:
    """Return the file's text; "" while the host lacks a block of one of the families."""
    network = standing.network
    own = [block.cidr for block in standing.blocks if not block.lender]
    leaving = draining(network, own) | stranded(network, own, labels)
    held = sorted(own, key=lambda cidr: cidr in leaving)
    ranges, blocks = [], []
    for family in network.families:
        pools = [pool.cidr for pool in network.pools if pool.family == family]
        pairs = ((cidr, pool) for cidr in held for pool in pools if within(cidr, pool))
        block, pool = next(pairs, (None, None))
        if block is None or pool is None:
            return ""
        ranges.append(pool)
        blocks.append(block)
    masquerade = any(pool.nat_outgoing for pool in network.pools)
    mtu = standing.backend.mtu_bytes
    return SubnetEnv.of_blocks(tuple(ranges), tuple(blocks), mtu, masquerade).render()
