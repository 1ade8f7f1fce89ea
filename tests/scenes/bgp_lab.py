"""A lab of hosts that route by BGP, and what its tests look at."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from netloom.kernel.bird.control import listener
from netloom.lab.lab import Lab, LabHost
from netloom.lab.processes import Process
from netloom.lab.waiting import wait_until

NETWORK: dict[str, Any] = {
    "name": "calnet1",
    "pools": [{"cidr": "10.233.0.0/16", "blockSize": 26}],
    "addressing": "on-demand",
    "attachment": "routed",
    "backend": "bgp",
}
NUMBERS = (100, 101, 102)


def document(numbers: Sequence[int] = NUMBERS, **network: Any) -> dict[str, Any]:
    """Return scene 1's hosts, on one segment without a gateway; the network may be varied."""
    return {
        "segments": [{"name": "lan", "subnet": "192.168.26.0/24"}],
        "hosts": [
            {
                "name": f"h{number}",
                "interfaces": [
                    {"name": "ens32", "segment": "lan", "address": f"192.168.26.{number}"}
                ],
            }
            for number in numbers
        ],
        "networks": [{**NETWORK, **network}],
    }


def routes(host: LabHost, *words: str) -> list[str]:
    """Return the lines of ``ip route show``, without blanks at their ends."""
    return [line.rstrip() for line in host.exec(["ip", *words, "route"]).splitlines()]


def bird_routes(host: LabHost, *words: str) -> list[str]:
    return sorted(line for line in routes(host, *words) if "proto bird" in line)


def bird(host: LabHost) -> Process:
    """Return the host's routing daemon. Raises AssertionError when none listens."""
    process = Process.of(listener(host.home.directory / "run" / "bird"))
    assert process is not None
    return process


def expected(lab: Lab, host: LabHost) -> list[str]:
    """Return what BIRD has to write on ``host``: scene 1, step 7."""
    lines = []
    for other in lab.hosts:
        for block in other.blocks():
            if other.name == host.name:
                lines.append(f"blackhole {block} proto bird")
            else:
                lines.append(f"{block} via {other.underlay} dev ens32 proto bird")
    return sorted(lines)


def wait_mesh(lab: Lab, deadline_s: float = 120) -> None:
    """Wait until every host has the routes to all others."""
    wait_until(
        lambda: all(bird_routes(host) == expected(lab, host) for host in lab.hosts),
        deadline_s=deadline_s,
        what="every host's routes",
    )


def sessions(host: LabHost) -> list[dict[str, Any]]:
    """Return what the agent says of its BGP sessions, once BIRD answers it."""
    asking = ["curl", "-sf", "--unix-socket", str(host.home.socket), "http://netloom/v1/bgp"]
    said = wait_until(
        lambda: host.exec(asking, check=False), deadline_s=120, what=f"what {host.name}'s BIRD says"
    )
    found: list[dict[str, Any]] = json.loads(said)
    return found


def settled(lab: Lab) -> bool:
    """Tell whether no backend is retiring, and each host knows it and has nothing to do."""
    name = lab.networks()[0].name
    definition = lab.hosts[0].json(["netloom", "network", "show", name, "-ojson"])
    if "retiring" in definition:
        return False
    lab.settle()
    plans = [host.json(["netloom", "plan", "-o", "json"]) for host in lab.hosts]
    return not any(plan["changes"] for plan in plans)


def bird_pid(host: LabHost) -> int:
    return bird(host).pid


def another_bird(host: LabHost, pid: int) -> bool:
    """Tell whether the host has a BIRD that is not process ``pid``."""
    try:
        return bird_pid(host) not in (0, pid)
    except AssertionError:
        return False


def ttl_of(answer: str) -> int:
    match = re.search(r"ttl=(\d+)", answer)
    assert match
    return int(match[1])
