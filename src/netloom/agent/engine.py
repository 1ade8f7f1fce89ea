"""The engine: the thread that turns views into kernel state, the only writer of this host's kernel.

It wakes on a request (store, journal), on a kernel event and on a slow audit timer, and does one
``Reconciler.step`` for all that gathered meanwhile. Whoever needs the outcome waits for a turn that
began after his request: a number, never a sleep.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable

from netloom.core.desired import Desired, Memory, desired
from netloom.core.selection import Wish
from netloom.core.underlay import facts_or_kept
from netloom.model.errors import InvalidConfig, NetloomError, Unavailable
from netloom.model.kernel import KINDS
from netloom.model.surprise import told
from netloom.model.view import HostFacts, Problem, View
from netloom.reconcile.contracts import Kernel, KernelEvents
from netloom.reconcile.delta import Plan
from netloom.reconcile.loop import FACT_KINDS, Actual, Reconciler, Turn

_log = logging.getLogger(__name__)
#: After a repair, events alone start the next turn no sooner than this: if another hand keeps
#: undoing our work, the two of us shall not eat the machine.
REPAIR_PAUSE_S = 0.05
#: After a turn that failed as a whole (the kernel could not be read), the next one comes so soon.
ERROR_PAUSE_S = 0.5
TURN_LIMIT_S = 30.0
AGAIN_S = 3.0
MOST_REPORTED = 10

#: Makes the view from the facts and what is in the kernel; None while nothing is known yet.
MakeView = Callable[[HostFacts, Actual], View | None]


class Engine:
    """Runs the reconciler. ``turned`` is called after every turn, from the engine's thread.

    ``wish`` tells what the underlay is chosen by, its text "" for the default route; it is asked
    in every turn.
    """

    def __init__(
        self,
        kernel: Kernel,
        events: KernelEvents,
        make_view: MakeView,
        *,
        wish: Callable[[], Wish] = Wish,
        audit_s: float = 30.0,
        forward_rules: bool = True,
    ) -> None:
        self._events = events
        self._make_view = make_view
        self._wish = wish
        #: Without the kind that tells which tables drop, no rule of ours is wanted against it.
        self._fact_kinds = [kind for kind in FACT_KINDS if forward_rules or kind != "admission"]
        self._audit_s = audit_s
        self._reconciler = Reconciler(kernel, time.monotonic)
        self._memory = Memory()
        self._busy = threading.Lock()
        self._state = threading.Condition()
        self._wanted = 0
        #: The number of the last turn, and of the last one that did not fail as a whole.
        self._done = self._turned = 0
        self._dirty: set[str] = set()
        self._stopping = False
        self._facts: tuple[tuple[int, Wish], HostFacts] | None = None
        self._repaired_at_s = float("-inf")
        self._retry_at_s = float("inf")
        self._seen_revision = 0
        self._threads = [
            threading.Thread(target=self._run, name="engine", daemon=True),
            threading.Thread(target=self._listen, name="kernel-events", daemon=True),
        ]
        #: Called before every turn, from the engine's thread; returns the kinds that it changed.
        self.prepare: Callable[[], Iterable[str]] = tuple
        self.turned: Callable[[Turn], None] = lambda turn: None
        self.turn: Turn | None = None
        self.revision = 0
        self.applied_at_s = 0.0
        self.error: Problem | None = None
        self.running_since_s = 0.0

    def start(self) -> None:
        """Start both threads; the first turn is due at once."""
        self.wake()
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End after the turn under way; what stands in the kernel stays."""
        with self._state:
            self._stopping = True
            self._state.notify_all()
        self._events.close()
        for thread in self._threads:
            if thread.is_alive():
                thread.join(5.0)

    @property
    def facts(self) -> HostFacts:
        """The host's facts as of the last turn."""
        return self._facts[1] if self._facts else HostFacts()

    @property
    def failing(self) -> tuple[Problem, ...]:
        """What the kernel refuses now, each with what to do about it."""
        return tuple(
            Problem("error", "kernel", str(failure.error), failure.error.hint)
            for failure in list(self._reconciler.failing.values())
        )

    def repaired(self) -> dict[str, int]:
        """Count, per kind, what another hand changed and we put right since start."""
        return dict(self._reconciler.repaired)

    def stalled_s(self) -> float:
        """Return for how long the turn under way has been running; 0 between turns."""
        return time.monotonic() - self.running_since_s if self.running_since_s else 0.0

    def wake(self) -> int:
        """Ask for a turn; return the number to pass to :meth:`wait`."""
        with self._state:
            self._wanted += 1
            self._state.notify_all()
            return self._wanted

    def wait(self, number: int, timeout_s: float = TURN_LIMIT_S) -> Turn:
        """Wait for a turn that began after ``number`` was asked for. Raises Unavailable.

        One that fails as a whole is tried again; that is waited for ``AGAIN_S`` at most.
        """
        with self._state:
            self._state.wait_for(lambda: self._done >= number or self._stopping, timeout_s)
            if number > self._turned and not self._stopping:
                again_s = min(timeout_s, AGAIN_S) if self._done >= number else 0.0
                self._state.wait_for(lambda: self._turned >= number or self._stopping, again_s)
            if self._turned < number or self.turn is None:
                reason = self.error.text if self.error else "no picture of the cluster yet"
                raise Unavailable(
                    f"the kernel was not brought up to date in time: {reason}",
                    hint="see netloom status",
                )
            return self.turn

    def resync(self) -> None:
        """Read everything again and put right what differs, now."""
        with self._state:
            self._dirty |= set(KINDS)
        self.wait(self.wake())

    def preview(self) -> tuple[Desired, Plan]:
        """Return what would be changed now. Raises Unavailable before the first picture."""
        with self._busy:
            try:
                return self._reconciler.preview(self._desired)
            except _NothingKnown:
                raise Unavailable(
                    "there is no picture of the cluster yet", hint="see netloom status"
                ) from None

    def _listen(self) -> None:
        while not self._stopping:
            kinds = self._events.wait(None)
            if not kinds:
                continue
            with self._state:
                self._dirty |= kinds
                self._state.notify_all()

    def _run(self) -> None:
        audit_at_s = time.monotonic() + self._audit_s
        while True:
            with self._state:
                self._await_work(audit_at_s)
                if self._stopping:
                    return
                number, kinds = self._wanted, self._dirty
                self._dirty = set()
            if time.monotonic() >= audit_at_s:
                audit_at_s = time.monotonic() + self._audit_s
                kinds = set(KINDS)
            self._turn(number, kinds)

    def _await_work(self, audit_at_s: float) -> None:
        while not self._stopping and self._wanted <= self._done:
            now = time.monotonic()
            due = min(audit_at_s, self._retry_at_s)
            retry_in_s = self._reconciler.retry_in_s
            if retry_in_s is not None:
                due = min(due, now + retry_in_s)
            if self._dirty:
                due = min(due, self._repaired_at_s + REPAIR_PAUSE_S)
            if due <= now:
                return
            self._state.wait(due - now)

    def _turn(self, number: int, kinds: set[str]) -> None:
        self.running_since_s = time.monotonic()
        pause_s, turned = float("inf"), number
        try:
            with self._busy:
                self._reconciler.mark({*kinds, *self.prepare()})
                turn = self._reconciler.step(self._desired)
            self._note(turn)
            self.error = None
        except _NothingKnown:
            # what was asked for in vain may be there soon, without a word
            pause_s, turned = ERROR_PAUSE_S, self._turned
        except Exception as error:  # noqa: BLE001 - the loop must outlive any surprise
            pause_s, turned = ERROR_PAUSE_S, self._turned
            self.error = _problem_of(error)
            self._reconciler.mark(KINDS)
        self.running_since_s = 0.0
        with self._state:
            self._retry_at_s = time.monotonic() + pause_s
            self._done, self._turned = number, turned
            self._state.notify_all()

    def _note(self, turn: Turn) -> None:
        """Make the turn known, and then say so: whoever is told finds it."""
        if turn.repaired:
            self._repaired_at_s = time.monotonic()
        if turn.outcomes:
            _report(turn)
        self.revision = self._seen_revision
        self.applied_at_s = time.time()
        self.turn = turn
        self.turned(turn)

    def _desired(self, actual: Actual) -> Desired:
        generation = self._reconciler.generation
        wish = self._wish()
        if self._facts is None or self._facts[0] != (generation, wish):
            base = [obj for kind in self._fact_kinds for obj in actual[kind].values()]
            before = self._facts[1] if self._facts else None
            now = facts_or_kept(base, wish.text, before, wish.names)
            self._facts = ((generation, wish), before if before == now else now)
        view = self._make_view(self._facts[1], actual)
        if view is None:
            raise _NothingKnown
        self._seen_revision = view.cluster.revision
        return desired(view, self._memory)


class _NothingKnown(Exception):
    """There is no picture of the cluster yet: nothing may be done, nor is anything wrong."""


def _problem_of(error: Exception) -> Problem:
    if isinstance(error, InvalidConfig):
        return Problem("error", "underlay", str(error), error.hint)
    if isinstance(error, NetloomError):
        return Problem("error", "kernel", str(error), error.hint)
    _log.error("a turn failed", exc_info=error)
    return Problem("error", "agent", f"internal error: {told(error)}", "please report it")


def _report(turn: Turn) -> None:
    failed = [outcome for outcome in turn.outcomes if outcome.error]
    for outcome in failed[:MOST_REPORTED]:
        _log.warning("%s: %s", outcome.change, outcome.error)
    if len(failed) > MOST_REPORTED:
        _log.warning("%d further changes were refused", len(failed) - MOST_REPORTED)
    repaired = ", ".join(f"{count} {kind}" for kind, count in sorted(turn.repaired.items()))
    _log.info(
        "applied %d changes%s",
        len(turn.outcomes) - len(failed),
        f" (repaired: {repaired})" if repaired else "",
    )
    if _log.isEnabledFor(logging.DEBUG):
        for outcome in turn.outcomes:
            _log.debug("%s (%s)", outcome.change, outcome.change.reason)
