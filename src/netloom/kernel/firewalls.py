"""The host's other firewalls, looked at for what drops our containers' traffic."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterable

from netloom.core.obstacles import forward_drops
from netloom.kernel import commands, nft
from netloom.model.errors import NetloomError
from netloom.model.network import Network
from netloom.model.view import Problem

#: Of all time, looking may take this share: listing the rules of a large cluster takes a while.
_SHARE = 0.05


class OtherFirewalls:
    """What ``core/obstacles`` finds in the ruleset, found anew only when the ruleset changes.

    Any thread may ask.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seen: tuple[int | None, tuple[Network, ...]] | None = None
        self._not_before = 0.0
        self._problems: list[Problem] = []

    def problems(self, networks: Iterable[Network]) -> list[Problem]:
        """Return a problem for each chain of others that drops the networks' traffic.

        A ruleset that cannot be listed is no problem of its own: our own table then tells.
        """
        now = (nft.generation(), tuple(networks))
        with self._lock:
            if now[0] is not None and now != self._seen and time.monotonic() >= self._not_before:
                self._look(now[1])
                self._seen = now
            return list(self._problems)

    def _look(self, networks: tuple[Network, ...]) -> None:
        began = time.monotonic()
        try:
            done = commands.run("nft", "-j", "list", "ruleset")
            self._problems = forward_drops(json.loads(done.output or "{}"), networks)
        except (NetloomError, ValueError):
            self._problems = []
        ended = time.monotonic()
        self._not_before = ended + (ended - began) / _SHARE
