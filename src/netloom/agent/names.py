"""What the host names are that the underlay is chosen by: asked of the system, by a thread.

Whoever chooses never waits: he is told what is known. An answer that was good and cannot be had
anew stays, also over a restart (``names.json``), and why it cannot is said: a name server that is
away must not move a tunnel.
"""

from __future__ import annotations

import json
import logging
import socket
import threading
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from ipaddress import ip_address
from pathlib import Path

from netloom.core.interface_methods import Answer
from netloom.core.selection import Wish, host_names
from netloom.model.addr import IPAddress
from netloom.model.errors import NetloomError
from netloom.model.view import Problem
from netloom.store.whole_file import write_whole

_log = logging.getLogger(__name__)
#: Who has not answered by then is taken for away; the question goes on, and is not asked twice.
LIMIT_S = 10.0
#: While a name has no answer it is asked for this often at least.
AGAIN_S = 5.0

LookUp = Callable[[str], Iterable[IPAddress]]


def look_up(name: str) -> list[IPAddress]:
    """Return the addresses of a name that another host can have, as the system finds them.

    Raises OSError, UnicodeError.
    """
    found = {row[4][0] for row in socket.getaddrinfo(name, None, type=socket.SOCK_DGRAM)}
    addresses = [ip_address(text) for text in found if isinstance(text, str)]
    there = [a for a in addresses if not (a.is_loopback or a.is_link_local or a.is_unspecified)]
    if not there:
        raise OSError(0, "its addresses are this host's own: " + " ".join(map(str, addresses)))
    return there


class Names:
    """Knows the names that were last wanted; :meth:`answers` and the rest may be called by any.

    ``changed`` is called from the thread whenever something else is known of a name. A name that
    is known is asked for again every ``period_s``.
    """

    def __init__(
        self,
        place: Path,
        changed: Callable[[], object],
        period_s: float,
        look_up: LookUp = look_up,
        limit_s: float = LIMIT_S,
    ) -> None:
        self._place = place
        self._changed = changed
        self._period_s = period_s
        self._look_up = look_up
        self._limit_s = limit_s
        self._wanted: frozenset[str] = frozenset()
        self._answers = _remembered(place)
        self._questions: dict[str, _Question] = {}
        self._due = threading.Event()
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def answers(self, wanted: frozenset[str]) -> Mapping[str, Answer]:
        """Return what is known of ``wanted``, and ask for these from now on; at once, if new."""
        if wanted != self._wanted:
            self._wanted = wanted
            self._due.set()
            if wanted and self._thread is None:
                self._thread = threading.Thread(target=self._run, name="names", daemon=True)
                self._thread.start()
        known = self._answers
        return {name: known.get(name, Answer(pending=True)) for name in wanted}

    def wish(self, text: str) -> Wish:
        """Return what the underlay is chosen by, with what is known of the names in it."""
        return Wish(text, self.answers(host_names(text)))

    def problems(self) -> list[Problem]:
        """Return what cannot be had anew."""
        known = {name: self._answers.get(name, Answer()) for name in sorted(self._wanted)}
        return [
            Problem(
                "warning",
                f"name {name}",
                f"{name}, by which the underlay is chosen: {answer.trouble}; "
                + (
                    f"what was last known is used: {' '.join(map(str, answer.addresses))}"
                    if answer.addresses
                    else "no address of it is known"
                ),
                f"see on this host what `getent ahosts {name}` says, or say the address itself: "
                "can-reach=ADDRESS",
            )
            for name, answer in known.items()
            if answer.trouble
        ]

    def close(self) -> None:
        """Ask no more; idempotent."""
        self._ended.set()
        self._due.set()

    def _run(self) -> None:
        while not self._ended.is_set():
            wanted = sorted(self._wanted)
            for name in wanted:
                self._ask(name)
            well = not any(self._answers[name].trouble for name in wanted)
            self._due.wait(self._period_s if well else min(self._period_s, AGAIN_S))
            self._due.clear()

    def _ask(self, name: str) -> None:
        question = self._questions.get(name)
        if question is None:
            question = self._questions[name] = _Question(self._look_up, name)
            question.start()
        question.join(self._limit_s)
        if question.is_alive():
            self._note(name, (), f"no answer within {self._limit_s:g} s")
            return
        del self._questions[name]
        none = "" if question.addresses else "it has no address"
        self._note(name, question.addresses, question.trouble or none)

    def _note(self, name: str, addresses: tuple[IPAddress, ...], trouble: str) -> None:
        before = self._answers.get(name)
        kept = addresses or (before.addresses if before else ())
        now = Answer(kept, trouble)
        if now == before:
            return
        self._answers = {**self._answers, name: now}
        if trouble:
            _log.warning("name %s: %s", name, trouble)
        else:
            _log.info("name %s: %s", name, " ".join(map(str, addresses)))
            self._remember()
        self._changed()

    def _remember(self) -> None:
        """Write down what is known of the names that are wanted, for the next start."""
        known = {
            name: [str(address) for address in self._answers[name].addresses]
            for name in sorted(self._wanted)
            if name in self._answers
        }
        try:
            write_whole(self._place, json.dumps(known) + "\n", 0o600)
        except NetloomError as error:
            _log.warning("%s", error)


class _Question(threading.Thread):
    """One question, which may wait for a name server for as long as the system likes."""

    def __init__(self, look_up: LookUp, name: str) -> None:
        super().__init__(name=f"name {name}", daemon=True)
        self._look_up = look_up
        self._name = name
        self.addresses: tuple[IPAddress, ...] = ()
        self.trouble = ""

    def run(self) -> None:
        try:
            found = self._look_up(self._name)
            self.addresses = tuple(sorted(found, key=lambda each: (each.version, int(each))))
        except OSError as error:
            self.trouble = error.strerror or str(error)
        except UnicodeError as error:
            self.trouble = str(error)


def _remembered(place: Path) -> dict[str, Answer]:
    """Return what an earlier run knew; nothing when there is no such file, or it is no such."""
    with suppress(OSError, ValueError, TypeError, AttributeError):
        return {
            name: Answer(tuple(ip_address(text) for text in texts))
            for name, texts in json.loads(place.read_text("utf-8")).items()
            if texts
        }
    return {}
