"""What the host's BIRD says of its sessions: for ``status``, and ``GET /v1/bgp``."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from netloom.agent.contracts import Request, Response, Routes
from netloom.kernel.bird import sessions
from netloom.kernel.bird.control import CONFIG, Control
from netloom.kernel.bird.sessions import SessionState
from netloom.model.errors import Unavailable
from netloom.model.view import Problem

#: People wait for the answer; what is stuck is the engine's to mend.
PATIENCE_S = 5.0


class Sessions:
    """The sessions of the BIRD in ``directory``, asked anew each time; from any thread."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def now(self) -> list[SessionState]:
        """Return the sessions; none where no BIRD is wanted. Raises Unavailable."""
        if not (self._directory / CONFIG).exists():
            return []
        with Control(self._directory, PATIENCE_S) as control:
            return sessions.sessions(control)

    def problems(self) -> Iterator[Problem]:
        """Yield what is not up, or that BIRD does not answer."""
        try:
            yield from sessions.problems(self.now(), datetime.now())
        except Unavailable as error:
            yield Problem("error", "bgp", str(error), "it is started anew; see the agent's log")

    def routes(self) -> Routes:
        """Return the handlers of ``/v1/bgp``."""

        def get_sessions(request: Request) -> Response:
            return Response(data=[session.render() for session in self.now()])

        return {("GET", "/v1/bgp"): get_sessions}
