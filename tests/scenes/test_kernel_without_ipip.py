"""A kernel without module ipip: a network that was made for it gets away by the remedy it is told.

With the module, ``tests/uml`` shows what there is to see.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from netloom.lab.documents import load_document
from netloom.lab.lab import Lab
from netloom.lab.waiting import wait_until


def test_who_follows_the_remedy_and_takes_vxlan_has_a_network(lab_up: Callable[..., Lab]) -> None:
    """No host ever served the first backend, and none could: the move ends all the same."""
    lab = lab_up(load_document("scene3"))
    if lab.hosts[0].status()["well"]:
        pytest.skip("missing: a kernel without ipip")
    a, b = (host.run("c") for host in lab.hosts)
    wait_until(
        lambda: (
            [each["problem"] for each in lab.hosts[0].status()["peers"]] == ["not in the kernel"]
        ),
        deadline_s=60,
        what="the peer's problem",
    )
    lab.hosts[0].exec(["netloom", "network", "set", "default", "backend=vxlan"])
    wait_until(lambda: not lab.networks()[0].retiring, deadline_s=60, what="the end of the move")
    wait_until(lambda: a.pings(b.address), deadline_s=60, what="traffic by vxlan")
    wait_until(
        lambda: all(host.status()["well"] for host in lab.hosts), deadline_s=60, what="all well"
    )
