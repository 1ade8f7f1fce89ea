"""From a change of the picture over the engine's turn to what the host tells the store.

Each wakes the next; nobody looks a second time by himself before many seconds have passed.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from tests.unit.reconcile.model_kernel import ModelKernel
from tests.unit.views import block, facts, network

from netloom.agent import engine, upkeep
from netloom.agent.engine import Engine
from netloom.agent.upkeep import Upkeep
from netloom.core.desired import Desired
from netloom.lab.waiting import wait_until
from netloom.model.errors import Unavailable
from netloom.model.kernel import KINDS, Link
from netloom.model.view import Cluster, HostFacts, View
from netloom.reconcile.loop import Actual, Turn

#: No test waits this long unless it fails; less than what upkeep and audit wait for by themselves.
SOON_S = 60.0
LONG_S = 3600.0
BLOCK = block("10.244.7.0/24", "h1")
PICTURE = Cluster(1, "s", networks={"blue": network()}, blocks={("blue", BLOCK.cidr): BLOCK})


class Silence:
    """No kernel event, until it is closed."""

    def __init__(self) -> None:
        self._closed = threading.Event()

    def wait(self, timeout_s: float | None) -> frozenset[str]:
        self._closed.wait(timeout_s)
        return frozenset()

    def close(self) -> None:
        self._closed.set()


class Told:
    """A registration that notes with what it was called; ``away`` times the store is away."""

    host_id, host_name = "h1", "one"
    own_blocks = ()

    def __init__(self) -> None:
        self.applied: list[Desired | None] = []
        self.away = 0
        self.done = threading.Event()

    def sync(self, *arguments: Any) -> None:
        if self.away:
            self.away -= 1
            raise Unavailable("etcd is away")
        self.applied.append(arguments[-1])
        self.done.set()


def view_of(found: HostFacts, actual: Actual) -> View:
    return View(PICTURE, "h1", found or facts())


class World:
    """An engine on a kernel in memory, and upkeep behind it, wired as the agent wires them."""

    def __init__(self, make_view: Callable[..., View | None] = view_of) -> None:
        self.kernel = ModelKernel(Link("ens33", "device"))
        self.engine = Engine(self.kernel, Silence(), make_view, audit_s=LONG_S)
        self.told = Told()
        self.watcher = SimpleNamespace(cluster=PICTURE, connected=True, require_store=object)
        parts: Any = (
            self.told,
            SimpleNamespace(sync_once=lambda store: None),
            SimpleNamespace(own_blocks=lambda name: ()),
            SimpleNamespace(remembered_blocks=tuple, remember_blocks=lambda blocks: None),
        )
        self.upkeep = Upkeep(*parts)
        self.engine.turned = lambda turn: self.upkeep.wake()

    def start(self) -> None:
        watcher: Any = self.watcher
        self.engine.start()
        self.upkeep.start(watcher, self.engine)


@pytest.fixture
def worlds(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., World]]:
    monkeypatch.setattr(upkeep, "KEEP_ALIVE_S", LONG_S)
    monkeypatch.setattr(engine, "AGAIN_S", SOON_S)
    made: list[World] = []

    def make(*arguments: Any) -> World:
        made.append(World(*arguments))
        return made[-1]

    yield make
    for world in made:
        world.engine.stop()
        world.upkeep.stop()


def test_who_is_told_of_a_turn_finds_it_in_the_engine(worlds: Callable[..., World]) -> None:
    """Upkeep is woken by it and may run at once: it must not find the turn before, or none."""
    world = worlds()
    found: list[bool] = []
    told = threading.Event()

    def turned(turn: Turn) -> None:
        found.append(world.engine.turn is turn)
        told.set()

    world.engine.turned = turned
    world.start()
    assert told.wait(SOON_S)
    told.clear()
    world.engine.wake()
    assert told.wait(SOON_S)
    assert found == [True, True]


def test_the_host_is_registered_by_the_first_turn_however_quick_upkeep_is(
    worlds: Callable[..., World],
) -> None:
    world = worlds()

    def turned(turn: Turn) -> None:
        world.upkeep.wake()
        world.told.done.wait(SOON_S)  # the engine's thread is not run again before upkeep was

    world.engine.turned = turned
    world.start()
    assert world.told.done.wait(SOON_S)
    assert world.engine.turn is not None
    assert world.told.applied[0] is world.engine.turn.desired


def test_a_store_that_is_away_at_the_first_registration_is_asked_again(
    worlds: Callable[..., World],
) -> None:
    world = worlds()
    world.told.away = 2
    world.start()
    assert world.told.done.wait(SOON_S)


def test_a_kernel_that_cannot_be_read_at_first_delays_the_registration_no_longer(
    worlds: Callable[..., World],
) -> None:
    world = worlds()
    world.kernel.away = True
    world.start()
    with pytest.raises(Unavailable):
        world.engine.wait(world.engine.wake(), 0.2)
    wait_until(lambda: world.engine.error, deadline_s=SOON_S, what="a turn that failed")
    world.kernel.away = False
    assert world.told.done.wait(SOON_S)


def test_a_view_that_cannot_be_made_yet_is_tried_again_unasked(
    worlds: Callable[..., World],
) -> None:
    """A new journal asks the store what runs here; a store that is away then says nothing later."""
    tries: list[None] = []

    def later(found: HostFacts, actual: Actual) -> View | None:
        tries.append(None)
        return view_of(found, actual) if len(tries) > 2 else None

    world = worlds(later)
    world.start()
    assert world.told.done.wait(SOON_S)


def test_a_turn_that_cannot_be_told_of_ends_no_loop(worlds: Callable[..., World]) -> None:
    """What follows a turn writes files: what nobody foresaw there is said, and tried again."""
    world = worlds()
    failed: list[None] = []

    def turned(turn: Turn) -> None:
        if not failed:
            failed.append(None)
            raise OSError("no space left on device")
        world.upkeep.wake()

    world.engine.turned = turned
    world.start()
    assert world.told.done.wait(SOON_S)
    assert failed
    assert world.engine.error is None


def test_who_waits_for_a_turn_gets_none_of_before_when_it_fails_first(
    worlds: Callable[..., World], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An attach took the turn before for its own, and told that its container is no part of it."""
    world = worlds()
    world.start()
    before = world.engine.wait(world.engine.wake(), SOON_S)
    world.kernel.away = True
    with monkeypatch.context() as patch:
        patch.setattr(engine, "AGAIN_S", 0.1)
        with pytest.raises(Unavailable):
            world.engine.resync()
    failed: list[None] = []

    def prepare() -> Iterable[str]:
        """Let the first turn from now on fail, and no other."""
        world.kernel.away = not failed
        failed.append(None)
        return KINDS

    world.engine.prepare = prepare
    assert world.engine.wait(world.engine.wake(), SOON_S) is not before
    assert len(failed) > 1
