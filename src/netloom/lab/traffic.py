"""A running ping, and how many of its packets were lost while something was done to the network."""

from __future__ import annotations

import re
import signal
import subprocess
from collections.abc import Callable
from contextlib import suppress

from netloom.lab.listening import Listening
from netloom.lab.place import Place
from netloom.lab.waiting import wait_until
from netloom.model.errors import Unavailable

_REPLY = re.compile(r"icmp_seq=(\d+) .*time[=<]")
_SUMMARY = re.compile(r"(\d+) packets transmitted")
FIRST_REPLY_PATIENCE_S = 30.0
LAST_REPLY_PATIENCE_S = 10.0
#: So many later replies may overtake one, on another processor, before it counts as lost.
OVERTAKEN = 50


class Pings(Listening):
    """Pings from one place to an address, ``interval_s`` apart, for as long as the ``with`` lasts.

    Entered with the first reply; what was sent before that packet, when the way may not have been
    there yet, does not count. Afterwards ``sent`` and ``lost`` say what became of them; a packet
    that was on its way at the end is not counted as lost if anything still got through.
    """

    def __init__(self, source: Place, address: object, interval_s: float = 0.01) -> None:
        self._source = source
        self._argv = ["ping", "-n", "-i", str(interval_s), str(address)]
        self._replies: set[int] = set()
        self._first = self._highest = 0
        self._sent_in_all = 0
        self._ping: subprocess.Popen[str] | None = None
        super().__init__()

    def begin(self) -> None:
        """Ping, and wait for the first reply."""
        self._ping = self._source.popen(
            ["stdbuf", "-oL", *self._argv], stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        self.reader.start()
        what = f"the first reply to `{' '.join(self._argv)}` from {self._source.name}"
        wait_until(lambda: self._replies, deadline_s=FIRST_REPLY_PATIENCE_S, what=what)

    def end(self) -> None:
        """Stop pinging and count; a packet that was on its way does not count as lost.

        If nothing gets through any more, what is missing at the end does.
        """
        before = len(self._replies)
        last = 0
        if before:
            with suppress(Unavailable):
                self._wait(lambda: len(self._replies) > before, "one more reply")
                last = self._highest
                self._wait(lambda: self._all_are_in(last), "those that it overtook")
        self._stop()
        self._sent_in_all = last or self._sent_in_all

    @property
    def received(self) -> int:
        """How many replies have come so far."""
        return len(self._replies)

    @property
    def sent(self) -> int:
        """How many were sent that count, to be asked after the end."""
        return self._sent_in_all - self._first + 1 if self._first else self._sent_in_all

    @property
    def lost(self) -> int:
        """How many of those never came back, to be asked after the end."""
        return self.sent - self._back(self._sent_in_all)

    def _wait(self, condition: Callable[[], bool], what: str) -> None:
        wait_until(condition, deadline_s=LAST_REPLY_PATIENCE_S, what=what)

    def _all_are_in(self, last: int) -> bool:
        """Tell whether each up to ``last`` came back, or is later than one that is overtaken."""
        if self._highest > last + OVERTAKEN:
            return True
        return self._back(last) == last - self._first + 1

    def _back(self, last: int) -> int:
        """Return how many came back of those that count, up to ``last``."""
        return sum(self._first <= number <= last for number in self._replies.copy())

    def _stop(self) -> None:
        if self._ping is not None and self._ping.poll() is None:
            self._ping.send_signal(signal.SIGINT)
            self._ping.wait()
        self.join()

    def read(self) -> None:
        """Note the replies."""
        assert self._ping is not None
        assert self._ping.stdout is not None
        with self._ping.stdout as lines:
            for line in lines:
                if found := _REPLY.search(line):
                    number = int(found[1])
                    self._first = self._first or number
                    self._highest = max(self._highest, number)
                    self._replies.add(number)
                elif found := _SUMMARY.search(line):
                    self._sent_in_all = int(found[1])
