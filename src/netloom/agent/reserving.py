"""Get addresses for one container: from own blocks, from one more block, or from another host's."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass

from netloom.agent.addresses import AddressBook
from netloom.agent.borrowing import Borrowing
from netloom.agent.surroundings import Surroundings
from netloom.core.attach.table import ATTACHMENTS
from netloom.core.desired import Standing
from netloom.core.ipam.configured import limited
from netloom.core.ipam.reserved import reserved
from netloom.core.ipam.supply import NeedBlock, Supply
from netloom.core.resources.node import labels_of
from netloom.model.addr import IPAddress
from netloom.model.endpoint import Endpoint
from netloom.model.errors import Conflict, Exhausted, Unavailable
from netloom.model.host import Block
from netloom.model.network import Network
from netloom.model.view import Cluster
from netloom.reconcile import claims

#: How many blocks one attach may claim or borrow before it gives up: one per family is the rule.
MOST_CLAIMS = 4


@dataclass(frozen=True, slots=True)
class Reserving:
    """Reserves addresses in the journal, and gets blocks for them where that needs one."""

    book: AddressBook
    around: Surroundings
    borrowing: Borrowing

    def supply(self, network: Network, standing: Standing, blocks: tuple[Block, ...]) -> Supply:
        """Return what a network's addresses are dealt from, if the host holds ``blocks``."""
        cluster = self.around.cluster() or Cluster()
        own = self.around.host
        excluded = {block.cidr: standing.excluded(block) for block in blocks}
        labels = labels_of(cluster, cluster.host(own))
        lends = ATTACHMENTS[network.attachment.type].lends
        limits = limited(cluster, network, lends=lends)
        return Supply(limits, own.id, blocks, excluded, reserved(cluster, network), labels)

    def reserve(
        self, draft: Endpoint, network: Network, standing: Standing, wanted: tuple[IPAddress, ...]
    ) -> Endpoint:
        """Return the endpoint with its addresses, as an intent in the journal.

        What was borrowed is for him who borrowed it alone: nobody else is dealt a loan, which may
        be on its way back already. Raises as ``AddressBook.reserve`` and ``claims.claim`` do.
        """
        claimed: tuple[Block, ...] = ()
        with ExitStack() as expecting:
            for _ in range(MOST_CLAIMS):
                own = (b for b in self.around.own_blocks(network.name) if not b.lender)
                blocks = (*own, *claimed)
                supply = self.supply(network, standing, tuple(dict.fromkeys(blocks)))
                try:
                    return self.book.reserve(draft, supply, wanted)
                except NeedBlock as need:
                    block = self._claim(need, expecting)
                if block.lender and block.cidr.network_address not in wanted:
                    wanted = (*wanted, block.cidr.network_address)
                self.around.claimed(block)
                claimed = (*claimed, block)
        raise Unavailable(f"network {network.name}: no address after {MOST_CLAIMS} new blocks")

    def _claim(self, need: NeedBlock, expecting: ExitStack) -> Block:
        """Claim a block, or borrow an address where there is none to claim."""
        store = self.around.store()
        try:
            return claims.claim_needed(store, need)
        except (Exhausted, Conflict):
            if not need.network.addressing.borrowing:
                raise

        def expect(loan: Block) -> bool:
            return expecting.enter_context(self.book.expecting(loan.network, loan.cidr))

        return self.borrowing.borrow(store, self.around.cluster() or Cluster(), need, expect)
