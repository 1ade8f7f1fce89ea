"""The agent with the rights that its systemd unit leaves it, and no others: every backend works."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from netloom.cli import unit
from netloom.lab.lab import Lab
from netloom.lab.waiting import wait_until

from .bgp_lab import document, settled, wait_mesh


def as_in_the_unit() -> list[str]:
    """Return the words before a command that take from it what the unit takes from the agent."""
    said = re.search(r"^CapabilityBoundingSet=(.*)$", unit.unit(Path("netloom")), re.MULTILINE)
    assert said
    kept = [name.removeprefix("CAP_").lower() for name in said[1].split()]
    return ["setpriv", "--bounding-set=-all,+" + ",+".join(kept), "--no-new-privs"]


def test_containers_talk_by_bgp_and_by_the_others_in_turn(
    lab_up: Callable[..., Lab], tmp_path: Path
) -> None:
    """BIRD is the agent's child: it listens at port 179, which is below 1024."""
    lab = lab_up(document((100, 101)), run_agents=False)
    for host in lab.hosts:
        logs = str(tmp_path / host.name)
        host.exec([*as_in_the_unit(), "netloom", "node", "run", "--log-dir", logs])
    a, b = (host.run("c") for host in lab.hosts)
    wait_mesh(lab)
    assert a.pings(b.address)
    for backend in ("vxlan", "udp", "host-gw"):
        lab.hosts[0].exec(["netloom", "network", "set", "calnet1", f"backend={backend}"])
        wait_until(lambda: settled(lab), deadline_s=60, what=f"the move to {backend}")
        assert a.pings(b.address)
        wait_until(
            lambda: all(host.status()["well"] for host in lab.hosts), deadline_s=60, what="all well"
        )
