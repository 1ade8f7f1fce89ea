"""What BIRD says of its protocols, read by somebody who may be held up between two questions."""

from __future__ import annotations

from typing import Any

from netloom.kernel.bird.control import Reply
from netloom.kernel.bird.sessions import resting

ROW = "blocks4    Static     master4    {}   2026-01-01 00:00:00  {}"


class Scripted:
    """A BIRD whose only protocol is in each of these states in turn.

    Whoever asks is held up for a minute after each answer.
    """

    def __init__(self, *states: str, reason: str = "") -> None:
        self.states, self.reason = list(states), reason
        self.now_s = 0.0

    def ask(self, _command: str) -> Reply:
        self.now_s += 60.0
        return Reply(((1002, ROW.format(self.states.pop(0), self.reason)), (0, "")))


def told(bird: Scripted) -> list[str]:
    control: Any = bird
    return resting(control, lambda: bird.now_s)


def test_what_began_while_nobody_asked_does_not_rest() -> None:
    """What was heard before the time was over says nothing of after it."""
    assert told(Scripted("down", "up")) == []


def test_what_has_not_begun_when_its_time_is_over_rests() -> None:
    assert told(Scripted("down", "down")) == ["blocks4"]


def test_what_rests_for_a_reason_is_told_at_once() -> None:
    bird = Scripted("down", "up", reason="No listening socket")
    assert told(bird) == ["blocks4"]
