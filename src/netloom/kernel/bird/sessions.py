"""What BIRD says of its BGP sessions: ``show protocols all``, read."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from netloom.core.bgp.plan import NAME_PREFIXES
from netloom.kernel.bird.control import Control, Reply

_ROW, _DETAIL = 1002, 1006
ESTABLISHED = "Established"
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
                found.append(SessionState(name, "", _type(name), state, since, info.strip()))
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


def down(found: Iterable[SessionState]) -> list[SessionState]:
    """Return the sessions that are not up."""
    return [session for session in found if not session.up]
