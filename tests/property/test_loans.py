"""Whatever hosts do, die of and miss: no two containers ever have the same address."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from ipaddress import ip_network

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from tests.unit.loan_hosts import BLUE, Crowd, LoanHost, MeddledStore
from tests.unit.memory_store import Died, FaultyStore

from netloom.model.datastore import Delete, Transaction
from netloom.model.errors import Conflict, Exhausted, InvalidConfig, Unavailable
from netloom.reconcile.claim_entries import list_claims

NAMES = ("h1", "h2", "h3")
HOSTS = st.sampled_from(NAMES)
CONTAINERS_ALL = range(6)
CONTAINERS = st.sampled_from(CONTAINERS_ALL)
VERBS = ("work", "fill", "empty", "leave")
WISHES = st.none() | st.sampled_from(list(ip_network("10.0.0.0/28")))
STEPS = st.integers(1, 25)


class Lending(RuleBasedStateMachine):
    """Three hosts over four blocks of four addresses."""

    def __init__(self) -> None:
        super().__init__()
        self.crowd = Crowd(*NAMES)
        for name in ("h1", "h2"):  # all blocks are claimed, and have room
            for number in range(6):
                self.host(name).attach(f"{name}-{number}")
            for number in (1, 2, 4):
                self.host(name).detach(f"{name}-{number}")
            self.host(name).upkeep()

    def host(self, name: str) -> LoanHost:
        return self.crowd.hosts[name]

    @rule(name=HOSTS, number=CONTAINERS, wish=WISHES)
    def attach(self, name: str, number: int, wish: object) -> None:
        wanted = () if wish is None else (wish,)
        with suppress(Conflict, Exhausted, Unavailable, InvalidConfig):
            self.host(name).attach(f"{name}-{number}", *wanted)  # type: ignore[arg-type]

    @rule(number=CONTAINERS)
    def attach_with_no_block(self, number: int) -> None:
        self.host("h3").look()
        self.attach("h3", number, None)

    @rule(name=HOSTS, which=st.integers(0, 15))
    def covet(self, name: str, which: int) -> None:
        """Attach by number what some container has."""
        held = sorted(self.crowd.holders())
        if held:
            self.attach(name, 0, held[which % len(held)])

    @rule(name=HOSTS)
    def fill(self, name: str) -> None:
        self.host(name).look()
        for number in CONTAINERS_ALL:
            self.attach(name, number, None)

    @rule(name=HOSTS, number=CONTAINERS, other=HOSTS, step=STEPS, verb=st.sampled_from(VERBS))
    def meddle_with_an_attach(
        self, name: str, number: int, other: str, step: int, verb: str
    ) -> None:
        self.meddled(name, step, other, verb, lambda: self.attach(name, number, None))

    @rule(name=HOSTS, other=HOSTS, step=STEPS, verb=st.sampled_from(VERBS))
    def meddle_with_work(self, name: str, other: str, step: int, verb: str) -> None:
        self.meddled(name, step, other, verb, lambda: self.work(name))

    def meddled(self, name: str, step: int, other: str, verb: str, act: Callable[[], None]) -> None:
        """Have another host do something between two steps of this one's."""
        host = self.host(name)
        verbs: dict[str, Callable[[], None]] = {
            "work": lambda: self.work(other),
            "fill": lambda: self.fill(other),
            "empty": lambda: self.empty(other),
            "leave": lambda: self.leave_for_good(other),
        }
        if other != name:
            host.store = MeddledStore(self.crowd, step, verbs[verb])
        act()
        host.store = self.crowd

    @rule(name=HOSTS)
    def empty(self, name: str) -> None:
        """End all of a host's containers, and see what it gives back."""
        for endpoint in self.host(name).book.endpoints():
            self.host(name).detach(endpoint.container_id)
        self.host(name).look()
        self.work(name)

    @rule(name=HOSTS)
    def leave_for_good(self, name: str) -> None:
        """End all of a host's containers and forget it, whatever it has lent."""
        self.empty(name)
        self.forget(name)

    @rule(name=HOSTS, number=CONTAINERS)
    def detach(self, name: str, number: int) -> None:
        self.host(name).detach(f"{name}-{number}")

    @rule(name=HOSTS)
    def look(self, name: str) -> None:
        self.host(name).look()

    @rule(name=HOSTS)
    def work(self, name: str) -> None:
        with suppress(Conflict, Exhausted):
            self.host(name).upkeep()

    @rule(name=HOSTS, step=STEPS, done=st.booleans())
    def die_at_work(self, name: str, step: int, done: bool) -> None:
        host = self.host(name)
        host.store = FaultyStore(self.crowd, step, done=done)
        with suppress(Died, Conflict, Exhausted):
            host.upkeep()
        host.die()

    @rule(name=HOSTS, number=CONTAINERS, step=STEPS, done=st.booleans())
    def die_while_attaching(self, name: str, number: int, step: int, done: bool) -> None:
        host = self.host(name)
        host.store = FaultyStore(self.crowd, step, done=done)
        with suppress(Died, Conflict, Exhausted, Unavailable):
            host.attach(f"{name}-{number}")
        host.die()

    @rule(name=HOSTS, away=st.booleans())
    def go_or_come(self, name: str, away: bool) -> None:
        (self.crowd.leave if away else self.crowd.live)(name)

    @rule(name=HOSTS)
    def forget(self, name: str) -> None:
        """Forget a host that has no container, whatever it has lent.

        But not when a store has just been restored: hosts that have yet to look hold on to all that
        it does not say.
        """
        if self.host(name).book.endpoints() or not self.crowd.settled:
            return
        gone = [c for c in list_claims(self.crowd, "blue") if c.block and c.block.host_id == name]
        self.crowd.commit(Transaction([Delete(each.entry.key) for each in gone]))
        self.host(name).look()

    @rule()
    def copy_the_store(self) -> None:
        self.crowd.keep_copy()

    @rule(forgotten=st.sets(st.integers(0, 6)))
    def restore_the_store(self, forgotten: set[int]) -> None:
        """Then hosts may crash and ask, before it has waited for all."""
        self.crowd.restore(forgotten)

    @rule()
    def settle(self) -> None:
        self.crowd.settle()

    @rule()
    def time_passes(self) -> None:
        if self.crowd.settled:
            self.crowd.pass_time()

    @invariant()
    def each_address_is_one_containers(self) -> None:
        twice = {str(a): who for a, who in self.crowd.holders().items() if len(who) > 1}
        assert not twice

    @invariant()
    def nothing_lent_is_held_by_its_lender(self) -> None:
        for host in self.crowd.hosts.values():
            held = {a for e in host.book.endpoints() for a in e.addresses}
            assert not held & {address for _, address in host.book.lent.all()}

    def teardown(self) -> None:
        """In the end, with all at work, nothing is asked for, lent or borrowed that is not used."""
        for name in NAMES:
            self.crowd.live(name)
        for _ in range(2):
            self.crowd.settle()
            self.crowd.pass_time()
        self.crowd.settle()
        holders = self.crowd.holders()
        loans = {}
        for claim in list_claims(self.crowd, "blue"):
            if claim.block and claim.block.lender:
                assert claim.block.confirmed
                loans[claim.cidr.network_address] = claim.block
                assert claim.cidr.network_address in holders
        for name in NAMES:
            for (_, address), borrower in self.host(name).book.lent.all().items():
                assert (loans[address].lender, loans[address].host_id) == (name, borrower)


assert BLUE.addressing.borrowing
TestLending = Lending.TestCase
#: The same examples each time: of stores restored twice over, with hosts forgotten between,
#: not every course has been judged yet.
TestLending.settings = settings(
    max_examples=100, stateful_step_count=40, deadline=None, derandomize=True
)
