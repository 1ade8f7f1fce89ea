"""An etcd that was restored from an old snapshot: who was there comes back, who is new waits."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.scenes.etcd_lab import (
    PATIENCE_S,
    etcdctl,
    in_step,
    noticed,
    owners,
    pings,
    restore,
    said,
    values,
)

from netloom.kernel import namespaces
from netloom.lab import etcd, processes, record
from netloom.lab.documents import default_document
from netloom.lab.host import LabContainer, LabHost
from netloom.lab.lab import Lab
from netloom.lab.waiting import wait_until
from netloom.model.errors import NetloomError
from netloom.model.keys import HOSTS

pytestmark = pytest.mark.skipif(not shutil.which("etcd"), reason="etcd-server is not installed")
CAUTIOUS = """
from netloom.cli.main import main
from netloom.store.etcd import identity
identity.SETTLE_S = 30.0
main()
"""
FLANNEL = {"name": "default", "preset": "flannel"}
CALICO = {"name": "default", "preset": "calico", "backend": "vxlan"}
LATER = {
    "name": "later",
    "pools": ["10.77.0.0/16"],
    "backend": "host-gw",
    "attachment": {"type": "bridge", "bridge": "cni1"},
}


def save(lab: Lab, path: Path) -> None:
    """Take a snapshot of a cluster that is older than what its hosts wrote, as real ones are."""
    first = etcd.members(lab.name)[0]
    for number in range(40):
        etcdctl(lab, first, "put", "/elsewhere", str(number))
    etcdctl(lab, first, "snapshot", "save", str(path))


def start_cautious(host: LabHost) -> None:
    """Start an agent that gives those of before more time than it does by itself.

    However slow the machine is, the others' return is seen before it ends.
    """
    netns = f"--net={namespaces.path(host.namespace)}"
    argv = ["nsenter", netns, sys.executable, "-c", CAUTIOUS, "agent"]
    process = processes.start_detached(argv, host.environment, host.home.log)
    assert process is not None, host.home.log.read_text()
    record.write_json(host.home.directory / "agent.json", process.render())


def attached(host: LabHost, name: str) -> LabContainer | None:
    """Run a container as a runtime does: again, when it is told to try again."""
    try:
        return host.run(name)
    except NetloomError as error:
        if "restored" not in str(error):
            raise
        return None


# Most of it waits for leases to run out; one way of claiming blocks shows it.
@pytest.mark.parametrize(
    "network",
    [
        pytest.param(FLANNEL, id="host-block", marks=pytest.mark.slow),
        pytest.param(CALICO, id="on-demand"),
    ],
)
def test_a_new_host_takes_no_block_that_a_restored_store_has_forgotten(
    lab_up: Callable[..., Lab], tmp_path: Path, network: dict[str, Any]
) -> None:
    """h2's block is not in the snapshot, and h3 is there before h2 looks again: h3 waits."""
    lab = lab_up(default_document(3, network=network), etcd_members=1, run_agents=False)
    h1, h2, h3 = lab.hosts
    h1.start_agent()
    h1.run("a")
    save(lab, tmp_path / "snapshot")
    h2.start_agent()
    h2.run("b")
    wait_until(lambda: len(owners(lab)) == 2, deadline_s=PATIENCE_S, what="two blocks")
    lab.settle()
    before = owners(lab)
    with pings(lab) as running:
        lab.fault("h2", "freeze-agent")  # it will be late
        restore(lab, tmp_path / "snapshot")
        start_cautious(h3)
        noticed([h3], "connected")
        if network is CALICO:
            assert attached(h3, "d") is None
        else:
            wait_until(
                lambda: "restored" in said(h3), deadline_s=PATIENCE_S, what="h3 to say why it waits"
            )
        assert set(owners(lab).values()) == {"h1"}
        lab.fault("h2", "thaw-agent")
        wait_until(
            lambda: before.items() <= owners(lab).items(),
            deadline_s=PATIENCE_S,
            what="h2's block, held by h2",
        )
        in_step(lab)
        d = wait_until(lambda: attached(h3, "d"), deadline_s=PATIENCE_S, what="a container on h3")
        assert d is not None
        assert d.pings(h2.container("b").address)
        in_step(lab)
    assert running.lost == 0
    after = owners(lab)
    assert before.items() <= after.items()
    assert set(after.values()) == {"h1", "h2", "h3"}
    assert len(after) == 3


def test_the_line_about_the_restored_store_goes_when_all_of_before_is_there_again(
    lab_up: Callable[..., Lab], tmp_path: Path
) -> None:
    """A network of before stands until it is written again, also over a restart of the agent."""
    lab = lab_up(default_document(2, network=FLANNEL), etcd_members=1)
    h1, h2 = lab.hosts
    h1.run("a")
    save(lab, tmp_path / "snapshot")
    lab.set_network(LATER)
    in_step(lab)
    h1.run("c", networks=["later"])
    d = h2.run("d", networks=["later"])
    h2.run("b")
    before = owners(lab)
    assert len(before) == 4
    with pings(lab) as running:
        restore(lab, tmp_path / "snapshot")
        for host in lab.hosts:
            wait_until(
                lambda host=host: "restored" in said(host),  # type: ignore[misc]
                deadline_s=PATIENCE_S,
                what=f"{host.name} to say what happened",
            )
        assert h1.container("c").pings(d.address)
        lab.fault("h1", "restart-agent")
        wait_until(lambda: "restored" in said(h1), deadline_s=PATIENCE_S, what="h1 to say it again")
        assert h1.container("c").pings(d.address)
        wait_until(lambda: owners(lab) == before, deadline_s=PATIENCE_S, what="all four blocks")
        lab.set_network(LATER)
        in_step(lab)
        for host in lab.hosts:
            wait_until(
                lambda host=host: not host.status()["problems"],  # type: ignore[misc]
                deadline_s=PATIENCE_S,
                what=f"{host.name} to have nothing to complain of",
            )
        assert h1.container("c").pings(d.address)
    assert running.lost == 0
    assert set(values(lab, HOSTS)) == {f"{HOSTS}h1", f"{HOSTS}h2"}
