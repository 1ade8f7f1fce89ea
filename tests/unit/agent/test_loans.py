"""Borrowing an address: who is asked, what is written down, and what becomes of it."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from ipaddress import ip_network

import pytest
from tests.unit.loan_hosts import BLUE, Crowd, LoanHost
from tests.unit.memory_store import MemoryStore

from netloom.model.addr import IPAddress, as_network
from netloom.model.datastore import Delete, Put, Transaction
from netloom.model.errors import Conflict, Exhausted
from netloom.model.host import Block
from netloom.model.keys import BLOCKS, block_key
from netloom.model.network import Addressing
from netloom.model.view import Cluster
from netloom.reconcile.claim_entries import list_claims, value_of


def loans(crowd: Crowd) -> dict[str, str]:
    """Return every loan as ``address: lender>borrower``, with '?' behind a pending one."""
    return {
        str(each.cidr.network_address): f"{b.lender}>{b.host_id}{'' if b.confirmed else '?'}"
        for each in list_claims(crowd, "blue")
        if (b := each.block) and b.lender
    }


def filled(host: LoanHost) -> list[IPAddress]:
    """Attach containers until there is no address left; return theirs."""
    dealt: list[IPAddress] = []
    with suppress(Exhausted):
        while True:
            dealt += host.attach(f"{host.name}-{len(dealt)}").addresses
    return dealt


def asked(crowd: Crowd, address: IPAddress, lender: str, borrower: str) -> Block:
    """Have somebody ask for an address who does not wait for the answer."""
    loan = Block("blue", as_network(address), borrower, confirmed=False, lender=lender)
    crowd.commit(Transaction([Put(block_key("blue", loan.cidr), value_of(loan))]))
    return loan


def lent(crowd: Crowd, address: IPAddress) -> LoanHost:
    """Return who has lent an address."""
    return crowd.hosts[loans(crowd)[str(address)].partition(">")[0]]


@pytest.fixture
def crowd() -> Crowd:
    """Return three hosts; the first two hold all four blocks and have room in them."""
    crowd = Crowd("h1", "h2", "h3")
    for number in range(12):
        crowd.hosts["h1" if number < 6 else "h2"].attach(f"c{number}")
    for name in ("h1", "h2"):
        for number in range(12):
            if number % 3:
                crowd.hosts[name].detach(f"c{number}")
        crowd.hosts[name].upkeep()
        crowd.hosts[name].look()
    crowd.hosts["h3"].look()
    assert len(list_claims(crowd, "blue")) == 4
    return crowd


def test_a_host_without_a_block_to_claim_borrows_an_address_of_its_own(
    crowd: Crowd,
) -> None:
    h3 = crowd.hosts["h3"]
    (address,) = h3.attach("x").addresses
    lender, _, borrower = loans(crowd)[str(address)].partition(">")
    assert borrower == "h3"
    book = crowd.hosts[lender].book
    assert book.lent.all() == {("blue", address): "h3"}
    assert book.holder("blue", address) == "lent to host h3"
    with pytest.raises(Conflict, match="lent to host h3"):
        crowd.hosts[lender].attach("y", address)


def test_without_leave_to_borrow_the_pool_is_exhausted(crowd: Crowd) -> None:
    strict = replace(BLUE, addressing=Addressing("on-demand", 20))
    with pytest.raises(Exhausted, match="no free /30 block"):
        crowd.hosts["h3"].attach("x", net=strict)
    assert loans(crowd) == {}


def test_what_was_borrowed_goes_back_with_its_container_and_is_dealt_again(
    crowd: Crowd,
) -> None:
    h3 = crowd.hosts["h3"]
    (address,) = h3.attach("x").addresses
    lender = crowd.hosts[loans(crowd)[str(address)].partition(">")[0]]
    for _ in range(2):
        h3.look()
        h3.upkeep()
    assert len(loans(crowd)) == 1, "its container is there"
    h3.detach("x")
    h3.upkeep()
    assert loans(crowd) == {}
    lender.lend()
    assert lender.book.lent.all() == {}
    assert address in filled(lender)


def test_a_lender_that_is_away_is_not_asked_and_a_silent_one_is_left(
    crowd: Crowd,
) -> None:
    crowd.leave("h1")
    crowd.awake.discard("h2")  # it lives and says nothing
    with pytest.raises(Exhausted) as caught:
        crowd.hosts["h3"].attach("x")
    text = str(caught.value)
    assert "h1 (10.0.0." in text
    assert ") is away" in text
    assert ") did not answer within 2 s" in text
    assert loans(crowd) == {}, "what nobody waits for is withdrawn"
    crowd.live("h2")
    (address,) = crowd.hosts["h3"].attach("x").addresses
    assert loans(crowd)[str(address)] == "h2>h3"


def test_a_lender_refuses_what_it_has_dealt_or_keeps_for_itself(crowd: Crowd) -> None:
    """The store lags behind: what the lender dealt a moment ago, no other host knows."""
    h2, h3 = crowd.hosts["h2"], crowd.hosts["h3"]
    taken = [a for e in h2.book.endpoints() for a in e.addresses]
    crowd.commit(Transaction([Delete(e.key) for e in crowd.list("/netloom/v1/endpoints/").entries]))
    with pytest.raises(Exhausted, match="refused"):
        h3.attach("x", taken[0])
    first = h2.own()[0].cidr.network_address
    with pytest.raises(Exhausted, match=f"{first} is the first address .* which is not lent"):
        h3.attach("x", first)
    asked(crowd, first, "h2", "h3")
    h2.lend()
    assert loans(crowd) == {}
    assert h2.book.lent.all() == {}


def test_an_address_asked_for_by_number_comes_from_whoever_holds_its_block(crowd: Crowd) -> None:
    h1, h3 = crowd.hosts["h1"], crowd.hosts["h3"]
    free = next(a for a in list(h1.own()[0].cidr)[1:] if h1.book.holder("blue", a) is None)
    assert h3.attach("x", free).addresses == (free,)
    assert loans(crowd) == {str(free): "h1>h3"}
    held = h1.book.endpoints()[0]
    h1.upkeep()
    with pytest.raises(Exhausted, match=rf"{held.addresses[0]} is held by {held.handle} on h1"):
        h3.attach("y", held.addresses[0])


def test_a_block_with_a_loan_in_it_is_nobodys_when_its_host_is_forgotten(crowd: Crowd) -> None:
    h3 = crowd.hosts["h3"]
    (address,) = h3.attach("x").addresses
    lender = loans(crowd)[str(address)].partition(">")[0]
    gone = next(b for b in crowd.hosts[lender].own() if address in b.cidr)
    crowd.commit(Transaction([Delete(block_key("blue", gone.cidr))]))
    other = crowd.hosts["h2" if lender == "h1" else "h1"]
    for host in (h3, other):
        host.look()
        assert not any(a in gone.cidr for a in filled(host)), "nobody claims it while it is lent"
    h3.detach("x")
    h3.look()
    h3.upkeep()
    other.look()
    assert other.attach("after").addresses[0] in gone.cidr


def test_a_journal_that_was_lost_begins_with_what_is_lent(crowd: Crowd) -> None:
    h3 = crowd.hosts["h3"]
    (address,) = h3.attach("x").addresses
    lender = crowd.hosts[loans(crowd)[str(address)].partition(">")[0]]
    lender.disk = MemoryStore()
    lender.start()
    lent = [b for b in lender.cluster.blocks.values() if b.lender == lender.name]
    lender.book.begin(lender.name, (), lent)
    assert lender.book.holder("blue", address) == "lent to host h3"


@pytest.mark.parametrize("other", ["a container", "nobody"])
def test_a_new_journal_knows_all_that_is_lent_and_nothing_that_is_asked_for(
    crowd: Crowd, other: str
) -> None:
    """What somebody asks for may be a container's; one such request hid all loans behind it."""
    h3 = crowd.hosts["h3"]
    (address,) = h3.attach("x").addresses
    lender = lent(crowd, address)
    alive = lender.book.endpoints() if other == "a container" else ()
    held = lender.book.endpoints()[0].addresses[0]
    loan = asked(crowd, held, lender.name, "h3")
    lender.disk = MemoryStore()
    lender.start()
    given = [b for b in lender.cluster.blocks.values() if b.lender == lender.name]
    lender.book.begin(lender.name, alive, [loan, *given])
    assert lender.book.lent.all() == {("blue", address): "h3"}
    if alive:
        assert lender.book.holder("blue", held) == alive[0].handle


def test_a_silent_host_is_waited_for_once_however_many_blocks_it_has(crowd: Crowd) -> None:
    crowd.awake -= {"h1", "h2"}
    with pytest.raises(Exhausted) as caught:
        crowd.hosts["h3"].attach("x")
    assert str(caught.value).count("did not answer") == 2


def test_what_one_host_has_borrowed_is_not_lent_to_another_since_the_store_forgot(
    crowd: Crowd,
) -> None:
    """The borrower is away, and who comes now has never seen the loan."""
    h3 = crowd.hosts["h3"]
    (address,) = h3.attach("x").addresses
    lender = lent(crowd, address)
    lender.die()
    loan = block_key("blue", as_network(address))
    for settled in (False, True):
        crowd.settled = settled
        lender.cluster = Cluster()
        crowd.commit(Transaction([Delete(loan)]))
        asked(crowd, address, lender.name, "h4")
        lender.lend()
        assert lender.book.lent.all() == {("blue", address): "h3"}
        assert loans(crowd) == {}, "h4 is refused"
    crowd.pass_time()
    lender.lend()
    assert lender.book.lent.all() == {}, "nobody asked for it again"


def test_a_loan_of_a_lender_that_is_gone_keeps_its_block_from_others_in_a_restored_store(
    crowd: Crowd,
) -> None:
    h3 = crowd.hosts["h3"]
    (address,) = h3.attach("x").addresses
    h3.look()
    h3.upkeep()
    lender = lent(crowd, address)
    around = next(b for b in lender.own() if address in b.cidr)
    crowd.store_id = "restored"
    gone = (around.cidr, as_network(address))
    crowd.commit(Transaction([Delete(block_key("blue", cidr)) for cidr in gone]))
    h3.look()
    h3.upkeep()
    other = crowd.hosts["h2" if lender.name == "h1" else "h1"]
    other.look()
    assert not any(a in around.cidr for a in filled(other))
    lender.look()
    lender.upkeep()
    lender.lend()
    assert loans(crowd)[str(address)] == f"{lender.name}>h3"


def test_a_loan_that_ended_before_its_lender_saw_the_restored_store_is_over(crowd: Crowd) -> None:
    """It stood in the lender's picture for ever, and its address was dealt to nobody."""
    h3 = crowd.hosts["h3"]
    (address,) = h3.attach("x").addresses
    lender = lent(crowd, address)
    lender.look()
    crowd.keep_copy()
    crowd.restore()
    h3.detach("x")
    h3.look()
    h3.upkeep()
    assert loans(crowd) == {}
    for host in (lender, h3, lender):
        host.look()
        host.upkeep()
    assert loans(crowd) == {}
    assert block_key("blue", as_network(address)) not in lender.cluster.standing
    crowd.settled = True
    lender.lend()
    crowd.pass_time()
    lender.lend()
    assert lender.book.lent.all() == {}


def test_a_store_that_forgot_a_loan_hears_of_it_again(crowd: Crowd) -> None:
    """The copy that was restored is older than the loan: both sides still know of it."""
    h3 = crowd.hosts["h3"]
    (address,) = h3.attach("x").addresses
    h3.look()
    h3.upkeep()
    lender = crowd.hosts[loans(crowd)[str(address)].partition(">")[0]]
    lender.look()
    lender.upkeep()
    crowd.store_id = "restored"
    crowd.settled = False
    crowd.commit(Transaction([Delete(e.key) for e in crowd.list(BLOCKS).entries]))
    for _ in range(3):
        for host in (h3, lender):
            host.look()
            host.upkeep()
    crowd.settled = True
    for host in (h3, lender):
        host.look()
        host.upkeep()
    assert loans(crowd) == {str(address): f"{lender.name}>h3"}
    assert lender.book.holder("blue", address) == "lent to host h3"
    loan = Block("blue", ip_network(address), "h3", confirmed=True, lender=lender.name)
    assert loan in h3.own()
