"""A running ping, and how many of its packets were lost while something was done to the network."""

from __future__ import annotations

import re
import signal
import subprocess
import threading
from contextlib import suppress
from types import TracebackType
from typing import Self

from netloom.lab.place import Place
from netloom.lab.waiting import wait_until
from netloom.model.errors import Unavailable

_REPLY = re.compile(r"icmp_seq=(\d+) .*time[=<]")
_SUMMARY = re.compile(r"(\d+) packets transmitted")
FIRST_REPLY_PATIENCE_S = 5.0
LAST_REPLY_PATIENCE_S = 1.0


class Pings:
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
        self._reader = threading.Thread(target=self._read, daemon=True)

    def __enter__(self) -> Self:
        self._ping = self._source.popen(
            ["stdbuf", "-oL", *self._argv], stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        self._reader.start()
        try:
            what = f"the first reply to `{' '.join(self._argv)}` from {self._source.name}"
            wait_until(lambda: self._replies, deadline_s=FIRST_REPLY_PATIENCE_S, what=what)
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        before = len(self._replies)
        # If nothing gets through any more, what is missing at the end counts as lost.
        with suppress(Unavailable):
            wait_until(
                lambda: len(self._replies) > before,
                deadline_s=LAST_REPLY_PATIENCE_S,
                what="one more reply",
            )
            self._end()
            self._sent_in_all = max(self._replies)
        self._end()

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

    def _end(self) -> None:
        assert self._ping is not None
        if self._ping.poll() is None:
            self._ping.send_signal(signal.SIGINT)
            self._ping.wait()
        self._reader.join()

    def _read(self) -> None:
        assert self._ping is not None
        assert self._ping.stdout is not None
        with self._ping.stdout as lines:
            for line in lines:
                if found := _REPLY.search(line):
                    self._replies.add(int(found[1]))
                elif found := _SUMMARY.search(line):
                    self._sent_in_all = int(found[1])
