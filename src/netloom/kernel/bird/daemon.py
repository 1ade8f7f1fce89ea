"""The routing daemon as a kernel object: read, applied, and watched.

It is ours when it listens in our run directory, so an agent that starts finds the one of the agent
before; one that was started there and no longer listens lost its files, and is replaced. A
descriptor of the process (pidfd) tells at once when it ends. BIRD's routes are BIRD's: to take them
away, it is told to, and where it is dead it is started for that.
"""

from __future__ import annotations

import errno
import os
import re
import select
import subprocess
import threading
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from netloom.core.resources.values import BGP_PORT
from netloom.kernel.bird import process
from netloom.kernel.bird.apply import configure, mark, prepare, standing, written
from netloom.kernel.bird.control import CONFIG, PATIENCE_S, Control, listener
from netloom.kernel.bird.pulse import Pulse
from netloom.kernel.bird.sessions import deaf, resting
from netloom.model.errors import Conflict, KernelRejected, NetloomError, NotPermitted, Unavailable
from netloom.model.kernel import Bird, KernelObject
from netloom.reconcile.contracts import Change, Outcome, Verb

BIRD_KINDS = frozenset({"bird"})
#: One that has kept us waiting once is not waited for as long again: containers wait, too.
SECOND_CHANCE_S = 1.0
_PORT = re.compile(r"^  local (?:\S+ )?port (\d+)", re.MULTILINE)
#: What takes all of BIRD's routes out of the kernel: it knows of none, and looks.
EMPTY = """\
router id 127.0.0.1;
protocol device {}
protocol kernel kernel4 { ipv4 { import none; export none; }; metric 0; }
protocol kernel kernel6 { ipv6 { import none; export none; }; metric 0; }
"""


class BirdDaemon:
    """The BIRD that listens in ``directory``; None where there can be none.

    ``leftover`` tells whether the kernel has routes of a BIRD. One thread reads and applies;
    :meth:`drain` is for the thread that polls :meth:`fileno`.
    """

    def __init__(
        self,
        directory: Path | None,
        leftover: Callable[[], bool],
        patience_s: float = PATIENCE_S,
    ) -> None:
        self._directory = directory
        self._leftover = leftover
        self._patience_s = patience_s
        self._child: subprocess.Popen[bytes] | None = None
        self._watched: tuple[int, int] | None = None  # process, descriptor
        self._silent = False  # when it was read last, it did not answer
        self._guard = threading.Lock()
        self._ends = select.epoll()
        self._news = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._ends.register(self._news, select.EPOLLIN)
        self._pulse = Pulse(directory, self._look) if directory else None

    def fileno(self) -> int:
        """Return a descriptor that is readable when the daemon has ended, or is not as it was."""
        return self._ends.fileno()

    def drain(self) -> frozenset[str]:
        """Take in what happened to the daemon; return the kinds to read again."""
        with self._guard:
            if self._ends.closed:
                return frozenset()
            ready = {descriptor for descriptor, _ in self._ends.poll(0)}
            if self._news in ready:
                os.eventfd_read(self._news)
            if ready - {self._news}:
                self._unwatch()
        return BIRD_KINDS if ready else frozenset()

    def close(self) -> None:
        """Stop watching; the daemon runs on; idempotent."""
        if self._pulse:
            self._pulse.close()
        with self._guard:
            if self._ends.closed:
                return
            self._unwatch()
            self._ends.close()
            os.close(self._news)

    def read(self, kinds: Iterable[str]) -> list[KernelObject]:
        """Return the daemon with its configuration, dead ones that left their file included."""
        if "bird" not in kinds or self._directory is None:
            return []
        if not ((self._directory / CONFIG).exists() or listener(self._directory) or self._watched):
            return []  # one that is watched lost its files
        try:
            with Control(self._directory, self._patience_s) as control:
                self._watch(control.pid)
                text = standing(self._directory, control)
                self._expect(mark(text) if text else "")
                return [Bird("" if resting(control) else text)]
        except NetloomError:
            self._silent = True
            return [Bird("", running=False)]

    def apply(self, changes: Sequence[Change]) -> list[Outcome]:
        """Try every change in order."""
        return [Outcome(change, self._try(change)) for change in changes]

    def _try(self, change: Change) -> NetloomError | None:
        bird = change.obj
        assert isinstance(bird, Bird)
        try:
            if self._directory is None:
                raise Unavailable("there is no run directory for BIRD to listen in")
            if change.verb is Verb.DELETE:
                self._remove(self._directory)
            else:
                self._bring(self._directory, bird.config)
        except NetloomError as error:
            return error
        except OSError as error:
            return _unwritable(self._directory, error)
        return None

    def _bring(self, directory: Path, text: str) -> None:
        """Have BIRD run with ``text``: the one that runs, else a new one."""
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        patience_s = min(self._patience_s, SECOND_CHANCE_S) if self._silent else self._patience_s
        self._silent = False
        try:
            with Control(directory, patience_s) as control:
                process.require_ours(control.pid, directory)
                self._watch(control.pid)
                if standing(directory, control) != text:
                    configure(directory, control, text)
                self._expect(mark(text))
                _rouse(directory, control, text)
                return
        except Unavailable:
            self._end(directory)
        self._start(directory, text, recover=self._leftover())

    def _start(self, directory: Path, text: str, *, recover: bool) -> None:
        """Start one with ``text``, else with what the one before had. Raises KernelRejected."""
        refused = prepare(directory, text)
        if refused and not (text := written(directory)):
            raise refused
        self._child = process.start(directory, recover=recover)
        with Control(directory, self._patience_s) as control:
            self._watch(control.pid)
            self._expect(mark(text))
            _rouse(directory, control, text)
        if refused:
            raise refused

    def _end(self, directory: Path) -> None:
        """End one that does not answer; peers keep its routes, and so does the kernel.

        Raises Conflict when it is not a BIRD of this host.
        """
        pid = listener(directory)
        if pid:
            process.require_ours(pid, directory)
            process.kill(pid)
        process.end_strays(directory)
        if self._child is not None:
            with suppress(subprocess.TimeoutExpired):
                self._child.wait(0.1)

    def _remove(self, directory: Path) -> None:
        """Have BIRD take back its routes, tell its peers, and end."""
        self._expect("")
        try:
            self._empty(directory)
        except Unavailable:
            self._end(directory)
            self._start(directory, EMPTY, recover=False)
            self._empty(directory)
        for name in os.listdir(directory):
            (directory / name).unlink(missing_ok=True)
        with self._guard:
            self._unwatch()

    def _empty(self, directory: Path) -> None:
        with Control(directory, self._patience_s) as control:
            pid = control.pid
            process.require_ours(pid, directory)
            configure(directory, control, EMPTY)
            control.ask("down")
        process.wait(pid)
        if self._leftover():
            raise KernelRejected("sweep", "routes of BIRD", errno.EBUSY, "they are still there")

    def _expect(self, expected: str) -> None:
        if self._pulse:
            self._pulse.expect(expected)

    def _look(self) -> None:
        with self._guard:
            if not self._ends.closed:
                os.eventfd_write(self._news, 1)

    def _watch(self, pid: int) -> None:
        with self._guard:
            if self._ends.closed or (self._watched and self._watched[0] == pid):
                return
            self._unwatch()
            with suppress(OSError):  # gone already: the next look tells
                handle = os.pidfd_open(pid)
                self._ends.register(handle, select.EPOLLIN)
                self._watched = (pid, handle)

    def _unwatch(self) -> None:
        if self._watched:
            os.close(self._watched[1])  # which takes it out of the epoll set
            self._watched = None


def _rouse(directory: Path, control: Control, text: str) -> None:
    """Let all begin that rests: BIRD could not listen, or another hand disabled it.

    Raises Conflict when BIRD cannot listen again, NotPermitted when it may not, Unavailable when
    one that is started anew may.
    """
    for _ in range(2):
        for name in resting(control):
            control.ask(f"enable {name}")
        resting(control)  # they take a moment
        if not deaf(control):
            return
        if not process.end_strays(directory, but=control.pid):
            break
    chosen = _PORT.search(text)
    port = int(chosen[1]) if chosen else BGP_PORT
    process.require_right(control.pid, port)
    raise Conflict(
        f"TCP port {port} is taken: BIRD cannot listen for its BGP peers",
        hint=f"see who has it (ss -ltnp sport = :{port}) and end it, or set listenPort",
    )


def _unwritable(directory: Path | None, error: OSError) -> NetloomError:
    text = f"the files of BIRD in {directory} cannot be written: {error.strerror}"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return NotPermitted(text, hint="name a --run-dir that root may write to")
    return Unavailable(text, hint="free some space there")
