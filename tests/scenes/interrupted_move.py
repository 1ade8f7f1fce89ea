"""A move during which agents and the store come and go."""

from __future__ import annotations

import json
from collections.abc import Callable

from netloom.lab.host import LabHost
from netloom.lab.lab import Lab
from netloom.lab.traffic import Pings
from netloom.lab.waiting import wait_until

from .bgp_lab import settled, wait_mesh


def interrupted(
    lab: Lab,
    before: str,
    after: str,
    *,
    ended: Callable[[Lab], bool] = settled,
    pause_s: float = 0.005,
) -> None:
    """Move three hosts from a backend to another one and see that no packet is lost.

    One agent is dead as the move begins and joins late, one is killed in the middle of it, and the
    store is away meanwhile. ``ended`` tells whether the move has come to its end; ``pause_s`` is
    the time between two packets.
    """
    one, two, late = lab.hosts
    a, b, c = one.run("a"), two.run("b"), late.run("c")
    wait_until(
        lambda: a.pings(b.address) and a.pings(c.address),
        deadline_s=120,
        what=f"{a.name} to reach the others by {before}",
    )
    with Pings(a, b.address, pause_s) as to_b, Pings(a, c.address, pause_s) as to_late:
        lab.fault(late.name, "kill-agent")
        one.exec(["netloom", "network", "set", "calnet1", f"backend={after}"])
        wait_until(lambda: serves(lab, two, after), deadline_s=60, what="the second host is ready")
        lab.fault(two.name, "kill-agent")
        lab.fault("store", "stop-store")
        late.start_agent()
        lab.fault("store", "start-store")
        assert lab.networks()[0].retiring, "not all have said that they follow"
        two.start_agent()
        wait_until(lambda: ended(lab), deadline_s=60, what="the end of the move")
        if after == "bgp":
            wait_mesh(lab)
    assert (to_b.lost, to_late.lost) == (0, 0)
    assert min(to_b.sent, to_late.sent) > 50


def serves(lab: Lab, host: LabHost, label: str) -> bool:
    """Tell whether a host has said that it can be reached by a backend of such a label."""
    entries = lab.store().list("/netloom/v1/cluster/hosts/").entries
    records = [json.loads(entry.value) for entry in entries]
    served = [one for r in records if r["name"] == host.name for one in r["serves"]["calnet1"]]
    return any(label in one for one in served)
