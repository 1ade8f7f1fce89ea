"""A ping's replies are counted whatever their order, and however late the last of them comes."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from typing import Any

import pytest

from netloom.lab.place import Place
from netloom.lab.traffic import Pings
from netloom.lab.waiting import wait_until

#: What ping says of packets, as the test has it, and of all at its end.
SCRIPT = """
say() {{ for n; do echo "64 bytes from 10.0.0.1: icmp_seq=$n ttl=64 time=0.05 ms"; done; }}
trap 'echo "9 packets transmitted, 7 received"; exit' INT
{said}
while :; do sleep 0.05; done
"""
EACH = "for i in $(seq 0 500); do {say}; done"
#: Of ten, the first comes last.
OVERTAKEN = EACH.format(say="for j in 2 3 4 5 6 7 8 9 10 1; do say $((10*i+j)); sleep 0.02; done")
LATE = "say $(seq 7); sleep 1.5; say $(seq 8 100)"
#: The way was not there yet when the first five were sent.
BEFORE = EACH.format(say="say $((6+i)); sleep 0.01")
LOST = "say 1 2; " + EACH.format(say="say $((4+i)); sleep 0.01")


class Told(Place):
    """A place where ping says what the test has it say."""

    def __init__(self, said: str) -> None:
        super().__init__("told", "", {})
        self._script = SCRIPT.format(said=said)

    def popen(self, argv: Sequence[str], **options: Any) -> subprocess.Popen[str]:
        # A shell cannot trap what is ignored when it begins, as it is in the background.
        argv = ["env", "--default-signal=INT", "bash", "-c", self._script]
        return subprocess.Popen(argv, encoding="utf-8", **options)


@pytest.mark.parametrize(
    ("said", "lost"),
    [(OVERTAKEN, 0), (LATE, 0), (BEFORE, 0), (LOST, 1)],
    ids=["overtaken", "late", "before the first reply", "lost"],
)
def test_a_reply_that_comes_late_is_none_that_is_lost(said: str, lost: int) -> None:
    with Pings(Told(said), "10.0.0.1") as pings:
        wait_until(lambda: pings.received >= 7, deadline_s=30, what="replies")
    assert pings.sent >= 7
    assert pings.lost == lost


def test_when_nothing_comes_back_any_more_what_is_missing_is_lost(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("netloom.lab.traffic.LAST_REPLY_PATIENCE_S", 0.3)
    with Pings(Told("say $(seq 7)"), "10.0.0.1") as pings:
        wait_until(lambda: pings.received == 7, deadline_s=30, what="replies")
    assert (pings.sent, pings.lost) == (9, 2)
