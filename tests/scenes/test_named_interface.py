"""The interface that the agent was told to use goes away: all else goes on being repaired."""

from __future__ import annotations

from collections.abc import Callable

from tests.scenes.etcd_lab import PATIENCE_S, said

from netloom.lab.documents import default_document
from netloom.lab.host import LabHost
from netloom.lab.lab import Lab
from netloom.lab.waiting import wait_until


def works(host: LabHost) -> bool:
    """Tell whether a container reaches its own host's bridge."""
    return host.container("a").pings(host.container("b").address)


def test_a_named_interface_that_vanishes_stops_no_repair(lab_up: Callable[..., Lab]) -> None:
    """Status says which interface is missing; what another hand takes away comes back meanwhile."""
    document = default_document(hosts=1, network={"name": "default", "preset": "flannel"})
    document["hosts"][0]["agent"] = {"interface": "ens33"}
    lab = lab_up(document)
    (h1,) = lab.hosts
    h1.run("a")
    h1.run("b")
    assert works(h1)
    h1.exec(["ip", "link", "set", "ens33", "down"])
    h1.exec(["ip", "link", "set", "ens33", "name", "elsewhere"])
    wait_until(lambda: "ens33" in said(h1), deadline_s=PATIENCE_S, what="the missing interface")
    h1.exec(["ip", "link", "set", "cni0", "down"])
    wait_until(lambda: works(h1), deadline_s=PATIENCE_S, what="the bridge to be mended")
    h1.exec(["ip", "link", "set", "elsewhere", "name", "ens33"])
    h1.exec(["ip", "link", "set", "ens33", "up"])
    wait_until(lambda: "ens33" not in said(h1), deadline_s=PATIENCE_S, what="the line to go")
    assert works(h1)
