"""The reconciler: look, compare, plan, apply, remember.

``Reconciler.step`` is one turn. It reads only the kinds that somebody said may have changed
(``mark``), asks for the desired state, applies the difference and reports. It is level-triggered:
an event names kinds to look at and is never itself the instruction. A change that the kernel
refuses is tried again with growing pauses and hinders no other.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from netloom.core.desired import Desired
from netloom.model.errors import NetloomError
from netloom.model.kernel import KINDS, KernelObject, Link, Sysctl
from netloom.reconcile.contracts import Change, Kernel, Outcome, Verb
from netloom.reconcile.delta import Plan, delta

#: Kinds whose loss can follow from a change of links without any notification of their own.
_ALL = frozenset(KINDS)
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
    """What one step did. ``desired`` is what it worked towards; ``failing`` what is refused now."""

    desired: Desired
    plan: Plan
    outcomes: tuple[Outcome, ...] = ()
    repaired: Mapping[str, int] = field(default_factory=dict)

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
        self._sysctls: frozenset[str] = frozenset()
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

    def actual(self) -> Mapping[str, Mapping[str, KernelObject]]:
        """Return what is in the kernel, by kind and key, after reading what is marked."""
        self._read()
        return self._actual

    def preview(self, desired: Desired) -> Plan:
        """Return the plan for ``desired`` after reading everything; change nothing."""
        self._want_sysctls(desired)
        self.mark(KINDS)
        return delta(desired.state, self.actual(), hold=desired.hold)

    def step(self, make_desired: Callable[[Iterable[KernelObject]], Desired]) -> Turn:
        """Do one turn: ``make_desired`` gets the actual links, addresses and routes.

        It repeats, at most ``MAX_ROUNDS`` times, while changes to links may have taken other
        objects along, so that one step ends settled.
        """
        outcomes: list[Outcome] = []
        repaired: Counter[str] = Counter()
        for _ in range(MAX_ROUNDS):
            desired, plan = self._compare(make_desired)
            changes = self._due(plan)
            if not changes:
                break
            self._count_repairs(changes, repaired)
            done = self._kernel.apply(changes)
            outcomes += done
            self._remember(done)
            if not any(_disturbs(outcome) for outcome in done):
                break
        self._applied = desired.state
        self.repaired.update(repaired)
        self._forget_failures(desired, plan)
        return Turn(desired, plan, tuple(outcomes), repaired)

    def _compare(
        self, make_desired: Callable[[Iterable[KernelObject]], Desired]
    ) -> tuple[Desired, Plan]:
        actual = self.actual()
        base = [obj for kind in ("link", "address", "route") for obj in actual[kind].values()]
        desired = make_desired(base)
        self._want_sysctls(desired)
        plan = delta(desired.state, self.actual(), hold=desired.hold)
        self._adopt(desired)
        return desired, plan

    def _read(self) -> None:
        if not self._dirty:
            return
        kinds, self._dirty = frozenset(self._dirty), set()
        try:
            objects = self._kernel.read(kinds)
        except BaseException:
            self._dirty.update(kinds)
            raise
        fresh: dict[str, dict[str, KernelObject]] = {kind: {} for kind in kinds}
        for obj in objects:
            fresh[obj.kind_name][obj.key] = obj
        self._actual.update(fresh)

    def _adopt(self, desired: Desired) -> None:
        """Put desired instances in the place of equal actual ones: next time `is` is enough."""
        for kind, held in self._actual.items():
            if kind == "link":
                continue  # an actual link knows more than a desired one: index, carrier
            for key, have in held.items():
                want = desired.state.get(key)
                if want is not None and want is not have and want == have:
                    held[key] = want

    def _want_sysctls(self, desired: Desired) -> None:
        names = frozenset(o.name for o in desired.state.values() if isinstance(o, Sysctl))
        if names != self._sysctls:
            self._sysctls = names
            self._kernel.want_sysctls(names)
            self.mark(("sysctl",))

    def _due(self, plan: Plan) -> list[Change]:
        now = self._clock()
        return [
            change
            for change in plan.changes
            if (failure := self.failing.get(change.obj.key)) is None
            or failure.retry_at_s <= now
            or failure.change.obj != change.obj
        ]

    def _count_repairs(self, changes: Iterable[Change], repaired: Counter[str]) -> None:
        for change in changes:
            key = change.obj.key
            if key in self.failing:
                continue
            before = self._applied.get(key)
            if change.verb is not Verb.DELETE and before is not None and before == change.obj:
                repaired[change.obj.kind_name] += 1

    def _remember(self, outcomes: Iterable[Outcome]) -> None:
        for outcome in outcomes:
            change = outcome.change
            key, kind = change.obj.key, change.obj.kind_name
            if outcome.error is not None:
                self._note_failure(change, outcome.error)
                self.mark((kind,))
                continue
            self.failing.pop(key, None)
            if _disturbs(outcome):
                self._dirty |= _ALL
            elif change.verb is Verb.DELETE:
                self._actual.setdefault(kind, {}).pop(key, None)
                if isinstance(change.obj, Link):
                    self._drop_what_leaned_on(change.obj.name)
            else:
                self._actual.setdefault(kind, {})[key] = change.obj

    def _drop_what_leaned_on(self, link: str) -> None:
        for kind, held in self._actual.items():
            if kind != "link":
                for key in [k for k, obj in held.items() if getattr(obj, "link", None) == link]:
                    del held[key]

    def _note_failure(self, change: Change, error: NetloomError) -> None:
        before = self.failing.get(change.obj.key)
        attempts = before.attempts + 1 if before else 1
        pause_s = min(LAST_RETRY_S, FIRST_RETRY_S * 2 ** (attempts - 1))
        self.failing[change.obj.key] = Failure(change, error, attempts, self._clock() + pause_s)

    def _forget_failures(self, desired: Desired, plan: Plan) -> None:
        wanted = {change.obj.key for change in plan.changes}
        for key in [key for key in self.failing if key not in wanted]:
            del self.failing[key]


def _disturbs(outcome: Outcome) -> bool:
    """Tell whether a change may have taken other objects along that we believed to stand.

    A link changed in place can: set down it loses its routes, made anew it loses everything. A new
    link cannot, and what leaned on a deleted one is known.
    """
    change = outcome.change
    return outcome.error is None and change.verb is Verb.REPLACE and isinstance(change.obj, Link)
