"""What the engine works towards: the view, put together from cluster, journal, kernel and claims.

It remembers what no single source tells: which networks stand here already, which blocks were just
claimed and are not yet in the picture, and which containers are gone without a word.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

from netloom.agent.addresses import AddressBook
from netloom.agent.mirror import Mirror
from netloom.agent.watcher import StoreWatcher
from netloom.core.bgp import passwords
from netloom.kernel.namespaces import is_netns
from netloom.model.endpoint import Endpoint
from netloom.model.errors import Unavailable
from netloom.model.host import Block, Host, block_order
from netloom.model.kernel import ALIAS_PREFIX, KernelObject, Link
from netloom.model.secret import Secret, SecretText
from netloom.model.view import Cluster, HostFacts, Problem, View
from netloom.reconcile.loop import Actual

_log = logging.getLogger(__name__)


class Outlook:
    """Makes one host's views. ``problems`` names the containers that are gone.

    ``host`` says which one it is, by id and name; ``secrets`` reads its files of those that
    resources name.
    """

    def __init__(
        self,
        host: Host,
        watcher: StoreWatcher,
        book: AddressBook,
        mirror: Mirror,
        secrets: Callable[[Iterable[Secret]], Mapping[Secret, SecretText]] = lambda wanted: {},
    ) -> None:
        self.problems: tuple[Problem, ...] = ()
        self._host = host
        self._watcher = watcher
        self._book = book
        self._mirror = mirror
        self._secrets = secrets
        self._claimed: dict[Block, None] = {}
        #: A picture's blocks, and those of them that are this host's: replaced as a whole.
        self._own: tuple[object, tuple[Block, ...]] = (None, ())
        self._admitted: frozenset[str] = frozenset()
        #: Why the store could not say what runs here, when it was asked last.
        self._unsaid = ""

    def view(self, facts: HostFacts, actual: Actual) -> View | None:
        """Return the view for the next turn; None until there is a picture of the cluster."""
        if self._watcher.cluster is None or not self._journal_begun():
            return None
        # In this order: an attach claims a block before it writes the endpoint that lives there.
        endpoints, claimed, cluster = self._book.endpoints(), tuple(self._claimed), self._picture()
        links = actual.get("link", {})
        self._admitted |= _standing_networks(links.values())
        self._admitted &= frozenset(cluster.networks)
        for block in claimed:
            shown = cluster.blocks.get((block.network, block.cidr))
            if shown is not None and shown.confirmed:
                self._claimed.pop(block, None)
            else:  # the watch has yet to bring it, or has brought the first half of the claim
                cluster = _with_block(cluster, block)
        present = self._present(endpoints, links)
        secrets = self._secrets(passwords.wanted(cluster))
        lent = frozenset(self._book.lent.all())
        host = self._host
        return View(cluster, host.id, facts, present, self._admitted, secrets, lent, host.name)

    def admit(self, networks: Iterable[str]) -> None:
        """Remember that ``networks`` stand: a later collision takes nothing away from them."""
        self._admitted |= frozenset(networks)

    def note_claimed(self, block: Block) -> None:
        """Deal from a block at once, before the watch brings it."""
        self._claimed[block] = None

    def note_given_back(self, block: Block) -> None:
        """Deal no more from a block that was claimed and given back before the watch brought it."""
        self._claimed.pop(block, None)

    def own_blocks(self, network: str) -> tuple[Block, ...]:
        """Return this host's confirmed blocks of a network, those just claimed included."""
        claimed = tuple(self._claimed)  # first: the engine forgets what the picture has
        known = [block for block in self._own_known() if block.network == network]
        return (*known, *(b for b in claimed if b.network == network and b not in known))

    def _own_known(self) -> tuple[Block, ...]:
        """Return the own confirmed blocks, sorted; each picture is looked through once."""
        blocks, (seen, own) = self._picture().blocks, self._own
        if seen is not blocks:
            held = [b for b in blocks.values() if b.host_id == self._host.id and b.confirmed]
            own = tuple(sorted(held, key=block_order))
            self._own = (blocks, own)
        return own

    def _picture(self) -> Cluster:
        return self._watcher.cluster or Cluster()

    def _journal_begun(self) -> bool:
        """See that a new journal knows the containers that are there; False while it cannot.

        A journal is new on a new host, or where the state directory was lost while containers ran:
        then the store still shows them, and they must not be swept.
        """
        if self._book.begun:
            return True
        try:
            shown = self._mirror.shown(self._watcher.require_store())
            alive = [endpoint for endpoint in shown if is_netns(endpoint.netns)]
            loans = [b for b in self._picture().blocks.values() if b.lender == self._host.id]
            for endpoint in self._book.begin(self._host.id, alive, loans):
                _log.warning(
                    "the journal was lost: %s goes on as the store shows it", endpoint.handle
                )
        except Unavailable as error:
            if str(error) != self._unsaid:  # asked again and again
                _log.warning("a new journal, and the store cannot say what runs here: %s", error)
            self._unsaid = str(error)
            return False
        return True

    def _present(
        self, endpoints: tuple[Endpoint, ...], links: Mapping[str, KernelObject]
    ) -> tuple[Endpoint, ...]:
        """Leave out endpoints whose link and namespace are both gone: nothing can be done there.

        Their addresses stay held until the runtime says so, or a person does.
        """
        gone = [
            endpoint
            for endpoint in endpoints
            if f"link {endpoint.host_ifname}" not in links and not is_netns(endpoint.netns)
        ]
        self.problems = tuple(_gone_problem(endpoint) for endpoint in gone)
        return tuple(e for e in endpoints if e not in gone) if gone else endpoints


def _standing_networks(links: Iterable[KernelObject]) -> frozenset[str]:
    return frozenset(
        link.alias.removeprefix(ALIAS_PREFIX)
        for link in links
        if isinstance(link, Link) and link.alias.startswith(ALIAS_PREFIX)
    )


def _with_block(cluster: Cluster, block: Block) -> Cluster:
    return replace(cluster, blocks={**cluster.blocks, (block.network, block.cidr): block})


def _gone_problem(endpoint: Endpoint) -> Problem:
    return Problem(
        "warning",
        f"endpoint {endpoint.handle}",
        f"its container's namespace {endpoint.netns} is gone, its address is still held",
        f"netloom ipam release --handle {endpoint.handle}",
    )
