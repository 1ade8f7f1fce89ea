"""The view that the engine works towards stood so at some moment, whoever comes between."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from tests.unit.views import block, endpoint, ip, network

from netloom.agent.outlook import Outlook
from netloom.model.host import Host
from netloom.model.kernel import Link
from netloom.model.view import Cluster, HostFacts

BLOCK = block("10.244.7.0/26", "h1")
ENDPOINT = endpoint("c1", "10.244.7.2")
BEFORE = Cluster(networks={"blue": network()})
LINKS = {"link": {"link vethc1": Link("vethc1", "veth")}}
LENT = SimpleNamespace(all=lambda: {("blue", ip("10.244.7.9")): "h2"})
AFTER = Cluster(networks=BEFORE.networks, blocks={(BLOCK.network, BLOCK.cidr): BLOCK})


def outlook(**sources: Any) -> Outlook:
    book = SimpleNamespace(begun=True, endpoints=lambda: (ENDPOINT,), lent=LENT)
    parts = {"watcher": SimpleNamespace(cluster=BEFORE), "book": book, "mirror": None, **sources}
    own = Host("h1", "worker-1")
    return Outlook(own, parts["watcher"], parts["book"], parts["mirror"])


def test_a_container_is_never_in_view_without_the_block_that_was_claimed_for_it() -> None:
    """An attach claims a block and writes its endpoint while the view is being put together."""
    book = SimpleNamespace(begun=True, lent=LENT)
    made = outlook(book=book)

    def attached_meanwhile() -> tuple[Any, ...]:
        made.note_claimed(BLOCK)
        return (ENDPOINT,)

    book.endpoints = attached_meanwhile
    view = made.view(HostFacts(), LINKS)
    assert view is not None
    assert view.endpoints == (ENDPOINT,)
    assert view.own_blocks("blue") == (BLOCK,)
    assert view.lent == {("blue", ip("10.244.7.9"))}
    assert view.host.name == "worker-1"  # its record is not in the picture yet


def test_the_first_half_of_a_claim_in_the_picture_does_not_hide_the_second() -> None:
    """A claim is written as pending, then confirmed; the watch may be one step behind."""
    pending = block("10.244.7.0/26", "h1", confirmed=False)
    picture = Cluster(networks=BEFORE.networks, blocks={(BLOCK.network, BLOCK.cidr): pending})
    made = outlook(watcher=SimpleNamespace(cluster=picture))
    made.note_claimed(BLOCK)
    for _ in range(2):
        view = made.view(HostFacts(), LINKS)
        assert view is not None
        assert view.own_blocks("blue") == (BLOCK,)
        assert made.own_blocks("blue") == (BLOCK,)


def test_a_block_is_known_while_it_moves_from_the_claims_into_the_picture() -> None:
    """The engine forgets the claim once the picture has it: an attach must see one of both."""

    class Watcher:
        """Its picture grows, and the engine turns, right after it was looked at first."""

        looks = 0

        @property
        def cluster(self) -> Cluster:
            self.looks += 1
            if self.looks > 1:
                return AFTER
            made.view(HostFacts(), {})
            return BEFORE

    made = outlook(watcher=Watcher())
    made.note_claimed(BLOCK)
    assert made.own_blocks("blue") == (BLOCK,)
    assert made.own_blocks("blue") == (BLOCK,)
