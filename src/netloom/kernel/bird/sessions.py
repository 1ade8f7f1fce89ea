"""What BIRD says of its BGP sessions: ``show protocols all``, read."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

from netloom.core.bgp.session import NAME_PREFIXES
from netloom.kernel.bird.control import Control, Reply
from netloom.model.view import Problem

_ROW, _DETAIL = 1002, 1006
ESTABLISHED = "Established"
#: What BIRD says of a session for which it could not listen; it does not try again by itself.
NO_SOCKET = "No listening socket"
#: How long a session may take to come up before it is a problem.
GRACE = timedelta(seconds=5)
#: How long a protocol may take to begin, after BIRD's start or another configuration.
BEGIN_S = 0.5
_SINCE = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(?:\.\d+)?"
_TABLE_ROW = re.compile(rf"(\S+)\s+BGP\s+\S+\s+(\S+)\s+({_SINCE}|\S+)\s*(.*)")


@dataclass(frozen=True, slots=True)
class SessionState:
    """One session. ``state`` is BIRD's (up, start, down); ``info`` the BGP state and last error."""

    name: str
    peer: str
    type: str
    state: str
    since: str
    info: str

    @property
    def up(self) -> bool:
        """Tell whether routes are exchanged."""
        return self.info == ESTABLISHED

    @property
    def family(self) -> int:
        """The family of the peer's address."""
        return 6 if ":" in self.peer else 4

    def render(self) -> dict[str, Any]:
        """Return the JSON form of ``GET /v1/bgp``."""
        return {**asdict(self), "family": self.family}


def sessions(control: Control) -> list[SessionState]:
    """Ask for all sessions, sorted by name. Raises Unavailable."""
    return parse(control.ask("show protocols all"))


def parse(reply: Reply) -> list[SessionState]:
    """Read the answer to ``show protocols all``."""
    found: list[SessionState] = []
    for code, text in reply.lines:
        if code == _ROW:
            match = _TABLE_ROW.fullmatch(text.rstrip())
            if match:
                name, state, since, info = match.groups()
                info = " ".join(info.split())
                found.append(SessionState(name, "", _type(name), state, since, info))
            else:
                found.append(SessionState("", "", "", "", "", ""))  # of another kind: its details
        elif code == _DETAIL and found:
            found[-1] = _with_detail(found[-1], text)
    return sorted((each for each in found if each.name), key=lambda each: each.name)


def _with_detail(session: SessionState, text: str) -> SessionState:
    label, _, value = text.strip().partition(":")
    value = value.strip()
    if label == "Neighbor address":
        return _replaced(session, peer=value.partition("%")[0])
    if label == "Last error" and value and value not in session.info:
        return _replaced(session, info=f"{session.info} ({value})".strip())
    return session


def _replaced(session: SessionState, **changes: str) -> SessionState:
    return SessionState(**{**asdict(session), **changes})


def _type(name: str) -> str:
    return next((kind for prefix, kind in NAME_PREFIXES.items() if name.startswith(prefix)), "")


def deaf(control: Control) -> list[str]:
    """Return the names of the sessions for which BIRD could not listen. Raises Unavailable."""
    return [name for name, reason in _down(control) if NO_SOCKET in reason]


def resting(control: Control, clock: Callable[[], float] = time.monotonic) -> list[str]:
    """Return the names of all that does nothing, sessions and else, for whatever reason.

    What has yet to begin, as just after BIRD's start, gets ``BEGIN_S`` for it. Nothing rests by
    itself: BIRD could not listen, or another hand disabled it. Raises Unavailable.
    """
    deadline = clock() + BEGIN_S
    while True:
        over = clock() >= deadline  # of two looks at the clock this one is the earlier
        found = _down(control)
        if over or all(reason for _, reason in found):
            return [name for name, _ in found]
        time.sleep(0.01)  # there is nothing to wait on


def _down(control: Control) -> list[tuple[str, str]]:
    """Return (name, reason) of each protocol that is down; one that waits to begin has none."""
    rows = (row.split(maxsplit=6) for row in control.ask("show protocols").texts(_ROW))
    return [(row[0], "".join(row[6:])) for row in rows if row[3:4] == ["down"]]


def problems(found: Iterable[SessionState], now: datetime) -> Iterator[Problem]:
    """Yield a warning for each session that had its time and is not up, with BIRD's reason."""
    for session in found:
        if session.up or now - _time(session.since, now) < GRACE:
            continue
        yield Problem(
            "warning",
            f"bgp {session.peer}",
            f"the BGP session with {session.peer} ({session.type}) is not up since "
            f"{session.since.partition('.')[0]}: {session.info or session.state}",
            "see whether it is up, peers with this host (address, AS number, password) and lets it "
            "reach its port for BGP",
        )


def _time(text: str, otherwise: datetime) -> datetime:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return otherwise
