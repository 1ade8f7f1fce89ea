"""The reconciler: look, compare, plan, apply, remember.

``Reconciler.step`` is one turn. It reads only the kinds that somebody said may have changed
(``mark``), asks for the desired state, applies the difference and reports. It is level-triggered:
an event names kinds to look at and is never itself the instruction. A change that the kernel
refuses is tried again with growing pauses and hinders no other.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field

from netloom.core.desired import Desired
from netloom.core.ownership import outlives_link
from netloom.model.errors import Conflict, NetloomError
from netloom.model.kernel import KINDS, KernelObject, Link, Sysctl
from netloom.model.tables import replaced
from netloom.reconcile.contracts import Change, Kernel, Outcome, Verb
from netloom.reconcile.delta import Plan, delta, leans_on

_ALL = frozenset(KINDS)
#: Kinds whose loss can follow from a change of a link without any notification of their own.
_LEANING = frozenset(
    {"sysctl", "address", "neighbour", "fdb", "udp-proxy", "udp-peer", "route", "qdisc"}
)
#: Kinds of which a change moves nothing else: many thousands of them stand on a few links.
_LEAVES = frozenset({"neighbour", "fdb", "udp-peer", "route"})
#: Objects by kind, then by key.
Actual = Mapping[str, Mapping[str, KernelObject]]
#: What the host's facts are made of.
FACT_KINDS = ("link", "address", "route", "admission")
FIRST_RETRY_S = 0.1
LAST_RETRY_S = 30.0
MAX_ROUNDS = 4


@dataclass(slots=True)
class Failure:
    """A change that the kernel refuses: since when, how often, when to try again."""

    change: Change
    error: NetloomError
    attempts: int
    retry_at_s: float


@dataclass(frozen=True, slots=True)
class Turn:
    """What one step did.

    ``desired`` is what it worked towards; ``open`` the keys that are not as they should be yet.
    """

    desired: Desired
    plan: Plan
    outcomes: tuple[Outcome, ...] = ()
    repaired: Mapping[str, int] = field(default_factory=dict)
    open: frozenset[str] = frozenset()

    @property
    def changed(self) -> bool:
        """Tell whether anything was written."""
        return bool(self.outcomes)


class Reconciler:
    """Keeps one kernel true. Not thread-safe: one thread owns it (one ordered writer per host)."""

    def __init__(self, kernel: Kernel, clock: Callable[[], float]) -> None:
        self._kernel = kernel
        self._clock = clock
        self._actual: dict[str, dict[str, KernelObject]] = {}
        self._dirty: set[str] = set(KINDS)
        self._applied: Mapping[str, KernelObject] = {}
        #: Keys of ``_applied`` that the last step could not bring about.
        self._open: frozenset[str] = frozenset()
        self._unadopted: set[str] = set()
        #: A state that the kernel had, all of it, when it was last looked at or written to.
        self._sure: Mapping[str, KernelObject] | None = None
        self._sysctls: frozenset[str] = frozenset()
        #: Grows whenever one of FACT_KINDS was read again: facts may have changed.
        self.generation = 0
        self.failing: dict[str, Failure] = {}
        self.repaired: Counter[str] = Counter()

    def mark(self, kinds: Iterable[str]) -> None:
        """Say that objects of ``kinds`` may have changed."""
        self._dirty.update(kinds)

    @property
    def retry_in_s(self) -> float | None:
        """Seconds until the next retry is due; None when nothing is failing."""
        if not self.failing:
            return None
        due = min(failure.retry_at_s for failure in self.failing.values())
        return max(0.0, due - self._clock())

    def actual(self) -> Actual:
        """Return what is in the kernel, by kind and key, after reading what is marked."""
        self._read()
        return self._actual

    def preview(self, make_desired: Callable[[Actual], Desired]) -> tuple[Desired, Plan]:
        """Return the plan that a step would carry out, after reading everything; change nothing."""
        self.mark(KINDS)
        found = self._compare(make_desired)
        self._sure = None  # what was read shows more than the plan of the next step may ask for
        return found

    def step(self, make_desired: Callable[[Actual], Desired]) -> Turn:
        """Do one turn: ``make_desired`` gets what is in the kernel, by kind and key.

        It repeats, at most ``MAX_ROUNDS`` times, while changes to links may have taken other
        objects along, so that one step ends settled.
        """
        outcomes: list[Outcome] = []
        repaired: Counter[str] = Counter()
        for _ in range(MAX_ROUNDS):
            desired, plan = self._compare(make_desired)
            still_open = {change.obj.key for change in plan.changes} | plan.waiting
            changes, stuck = self._due(plan)
            if not changes:
                break
            self._count_repairs(changes, desired, repaired)
            done = self._apply(changes)
            outcomes += done
            still_open -= {outcome.change.obj.key for outcome in done if outcome.error is None}
            if not (self._makes_room(plan, done) or any(_disturbs(outcome) for outcome in done)):
                break
        self._applied, self._open = desired.state, frozenset(still_open)
        self._sure = desired.state if self._is_sure(desired, plan, outcomes) else None
        self.repaired.update(repaired)
        self._forget_failures(still_open - stuck)
        return Turn(desired, plan, tuple(outcomes), repaired, self._open)

    def _apply(self, changes: list[Change]) -> list[Outcome]:
        try:
            done = self._kernel.apply(changes)
        except BaseException:
            self.mark(_ALL)  # some of it may be done
            raise
        self._remember(done)
        return done

    def _compare(self, make_desired: Callable[[Actual], Desired]) -> tuple[Desired, Plan]:
        desired = make_desired(self.actual())
        among = self._suspects(desired)
        if among is None:
            self._want_sysctls(desired)
        plan = delta(desired.state, self.actual(), hold=desired.hold, among=among)
        self._adopt(desired)
        return desired, plan

    def _suspects(self, desired: Desired) -> Collection[str] | None:
        """Return the keys that alone can differ from what stands; None when any may.

        That is what is wanted otherwise than in a state which stood whole, as long as nothing was
        read since. Whenever more than leaves is wanted otherwise, everything is compared.
        """
        before, self._sure = self._sure, None
        if before is None or self._unadopted:
            return None
        gone, come = replaced(before, desired.state)
        former = {obj.key: obj for obj in gone}
        changed = [obj for obj in come if former.pop(obj.key, None) != obj]
        changed += former.values()
        if any(obj.kind_name not in _LEAVES for obj in changed):
            return None
        return dict.fromkeys(obj.key for obj in changed)

    def _is_sure(self, desired: Desired, plan: Plan, outcomes: Iterable[Outcome]) -> bool:
        """Tell whether the kernel has what is wanted, and nothing of ours beside it."""
        refused = self._open or self.failing or plan.problems or desired.hold
        return not (refused or self._dirty or any(isinstance(o.change.obj, Link) for o in outcomes))

    def _read(self) -> None:
        while self._dirty:
            kinds, self._dirty = frozenset(self._dirty), set()
            try:
                objects = self._kernel.read(kinds)
            except BaseException:
                self._dirty.update(kinds)
                raise
            links = self._actual.get("link", {})
            fresh: dict[str, dict[str, KernelObject]] = {kind: {} for kind in kinds}
            for obj in objects:
                # Of several routes to one place the kernel uses the one that it lists first.
                fresh[obj.kind_name].setdefault(obj.key, obj)
            self._actual.update(fresh)
            self._unadopted |= kinds
            if not kinds.isdisjoint(FACT_KINDS):
                self.generation += 1
            if "link" in kinds and links:
                self._dirty |= self._notice_links(links, fresh["link"]) - kinds

    def _notice_links(
        self, before: Mapping[str, KernelObject], now: Mapping[str, KernelObject]
    ) -> frozenset[str]:
        """Draw the consequences of other links than before; return the kinds to read again.

        What stood on a link that is gone is gone. What stands on one that was made anew or set up
        or down has to be looked at, and what the kernel refused on it may be possible now.
        """
        gone = {_name(link) for key, link in before.items() if key not in now}
        new = {_name(link) for key, link in now.items() if key not in before}
        altered = {_name(have) for key, have in now.items() if _altered(before.get(key), have)}
        if gone:
            self._drop_what_leaned_on(gone)
        for failure in self.failing.values():
            if {leans_on(failure.change.obj), getattr(failure.change.obj, "name", "")} & (
                gone | new | altered
            ):
                failure.retry_at_s = self._clock()
        return _LEANING if altered else frozenset()

    def _adopt(self, desired: Desired) -> None:
        """Put desired instances in the place of equal actual ones: next time `is` is enough."""
        for kind in self._unadopted - {"link"}:  # an actual link knows more: index, carrier
            adopted: dict[str, KernelObject] = {}
            for key, have in self._actual[kind].items():
                want = desired.state.get(key)
                one = have if want is None or want != have else want
                adopted[one.key] = one
            self._actual[kind] = adopted
        self._unadopted.clear()

    def _want_sysctls(self, desired: Desired) -> None:
        names = frozenset(o.name for o in desired.state.values() if isinstance(o, Sysctl))
        if names != self._sysctls:
            self._sysctls = names
            self._kernel.want_sysctls(names)
            self.mark(("sysctl",))

    def _due(self, plan: Plan) -> tuple[list[Change], set[str]]:
        """Return the changes to try now, and the keys of those that wait for a refused link."""
        if not self.failing:
            return list(plan.changes), set()
        now = self._clock()
        due: list[Change] = []
        refused: set[str | None] = set()
        stuck: set[str] = set()
        for change in plan.changes:  # links come before what leans on them
            waits = change.verb is not Verb.DELETE and leans_on(change.obj) in refused
            if waits:
                stuck.add(change.obj.key)
            elif self._is_due(change, now):
                due.append(change)
                continue
            if isinstance(change.obj, Link) and change.verb is not Verb.DELETE:
                refused.add(change.obj.name)
        return due, stuck

    def _is_due(self, change: Change, now: float) -> bool:
        failure = self.failing.get(change.obj.key)
        return failure is None or failure.retry_at_s <= now or failure.change.obj != change.obj

    def _count_repairs(
        self, changes: Iterable[Change], desired: Desired, repaired: Counter[str]
    ) -> None:
        """Count what stood after the last step, is wanted unchanged and does not stand now.

        What we lost ourselves, by making a link anew that has other settings now, is no repair.
        """
        for change in changes:
            key = change.obj.key
            before = self._applied.get(key)
            if change.verb is Verb.DELETE or before != change.obj or key in self._open:
                continue
            ground = f"link {leans_on(change.obj)}"
            if self._applied.get(ground) == desired.state.get(ground):
                repaired[change.obj.kind_name] += 1

    def _remember(self, outcomes: Iterable[Outcome]) -> None:
        refused: set[str | None] = set()
        for outcome in outcomes:
            change = outcome.change
            key, kind = change.obj.key, change.obj.kind_name
            if outcome.error is not None:
                if leans_on(change.obj) in refused:
                    self.failing.pop(key, None)  # it waits for its link, and has no time of its own
                else:
                    self._note_failure(change, outcome.error)
                if isinstance(change.obj, Link):
                    refused.add(change.obj.name)
                    self.mark(_ALL)  # it may be gone, or half of it done
                # What it leans on may be gone without a word that we heard.
                self.mark((kind, "link") if leans_on(change.obj) else (kind,))
                continue
            self.failing.pop(key, None)
            if _disturbs(outcome):
                self._dirty |= _ALL
            elif change.verb is Verb.DELETE:
                self._actual.setdefault(kind, {}).pop(key, None)
                if isinstance(change.obj, Link):
                    self._drop_what_leaned_on({change.obj.name})
            else:
                self._actual.setdefault(kind, {})[key] = change.obj

    def _makes_room(self, plan: Plan, done: Iterable[Outcome]) -> bool:
        """Tell whether something went that may have held a place which is wanted.

        The connected route of a bridge that goes is where a blackhole may have to come; the kernel
        made it by itself, and it may be in no picture of ours. What found its place taken is tried
        again at once.
        """
        if not any(o.error is None and o.change.verb is Verb.DELETE for o in done):
            return False
        refused = [
            failure
            for outcome in done
            if isinstance(outcome.error, Conflict)
            and (failure := self.failing.get(outcome.change.obj.key)) is not None
        ]
        for failure in refused:
            failure.retry_at_s = self._clock()
        if refused or plan.waiting:
            self.mark(("route",))
        return bool(refused or plan.waiting)

    def _drop_what_leaned_on(self, links: set[str]) -> None:
        """Forget what went with ``links``; what may outlive them has to be looked at."""
        for kind in _LEANING & self._actual.keys():
            held = self._actual[kind]
            for key, obj in [(key, obj) for key, obj in held.items() if leans_on(obj) in links]:
                if outlives_link(obj):
                    self.mark((kind,))
                else:
                    del held[key]

    def _note_failure(self, change: Change, error: NetloomError) -> None:
        before = self.failing.get(change.obj.key)
        attempts = before.attempts + 1 if before else 1
        pause_s = min(LAST_RETRY_S, FIRST_RETRY_S * 2 ** (attempts - 1))
        self.failing[change.obj.key] = Failure(change, error, attempts, self._clock() + pause_s)

    def _forget_failures(self, pending: set[str]) -> None:
        """Keep only failures of changes that are still wanted and could be tried."""
        for key in [key for key in self.failing if key not in pending]:
            del self.failing[key]


def _name(link: KernelObject) -> str:
    assert isinstance(link, Link)
    return link.name


def _altered(before: KernelObject | None, now: KernelObject) -> bool:
    """Tell whether a link was made anew, or set up or down; a link of our own has no number yet."""
    if not isinstance(before, Link) or not isinstance(now, Link):
        return False
    anew = before.index != now.index and 0 not in (before.index, now.index)
    return anew or before.up != now.up


def _disturbs(outcome: Outcome) -> bool:
    """Tell whether a change may have taken other objects along that we believed to stand.

    A link changed in place can: set down it loses its routes, made anew it loses everything. A new
    link cannot, and what leaned on a deleted one is known.
    """
    change = outcome.change
    return outcome.error is None and change.verb is Verb.REPLACE and isinstance(change.obj, Link)
