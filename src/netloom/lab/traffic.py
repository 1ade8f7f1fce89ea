"""A running ping, and how many of its packets were lost while something was done to the network."""

from __future__ import annotations

import re
import signal
import subprocess
from contextlib import suppress

from netloom.lab.listening import Listening
from netloom.lab.place import Place
from netloom.lab.waiting import wait_until
from netloom.model.errors import Unavailable

_REPLY = re.compile(r"icmp_seq=(\d+) .*time[=<]")
_SUMMARY = re.compile(r"(\d+) packets transmitted")
FIRST_REPLY_PATIENCE_S = 5.0
LAST_REPLY_PATIENCE_S = 1.0


class Pings(Listening):
    """Pings from one place to an address, ``interval_s`` apart, for as long as the ``with`` lasts.

    Entered with the first reply. Afterwards ``sent`` and ``lost`` say what became of them; a
    packet that was on its way at the end is not counted as lost if anything still got through.
    """

    def __init__(self, source: Place, address: object, interval_s: float = 0.01) -> None:
        self._source = source
        self._argv = ["ping", "-n", "-i", str(interval_s), str(address)]
        self._replies: set[int] = set()
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
        if before:
            with suppress(Unavailable):
                wait_until(
                    lambda: len(self._replies) > before,
                    deadline_s=LAST_REPLY_PATIENCE_S,
                    what="one more reply",
                )
                self._stop()
                self._sent_in_all = max(self._replies)
        self._stop()

    @property
    def received(self) -> int:
        """How many replies have come so far."""
        return len(self._replies)

    @property
    def sent(self) -> int:
        """How many were sent, to be asked after the end."""
        return self._sent_in_all

    @property
    def lost(self) -> int:
        """How many of those never came back, to be asked after the end."""
        return self._sent_in_all - len(self._replies)

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
                    self._replies.add(int(found[1]))
                elif found := _SUMMARY.search(line):
                    self._sent_in_all = int(found[1])
