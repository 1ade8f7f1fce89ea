"""Hosts whose clock is wrong, or jumps: every deadline is measured, none is read from a clock.

``wrong_clock.c`` stands between the agent (and all that it starts) and the wall clock. The kernel's
monotonic clock stays true, as it does on a host whose date is wrong.
"""

from __future__ import annotations

import shutil
import struct
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tests.scenes.etcd_lab import (
    PATIENCE_S,
    entries,
    etcdctl,
    in_step,
    noticed,
    owners,
    pings,
    raw_leases,
    renewed,
    values,
)

from netloom.agent.registration import ALIVE_TTL_S
from netloom.lab import etcd
from netloom.lab.documents import default_document
from netloom.lab.host import LabHost
from netloom.lab.lab import Lab
from netloom.lab.processes import myself
from netloom.lab.waiting import wait_until
from netloom.model.keys import ALIVE, BLOCKS, CLUSTER

pytestmark = [
    pytest.mark.skipif(not shutil.which("etcd"), reason="etcd-server is not installed"),
    pytest.mark.skipif(not shutil.which("gcc"), reason="gcc is not installed"),
]
DAY = timedelta(days=1)
CONFIG = '{"Network": "10.5.0.0/16", "Backend": {"Type": "vxlan"}}'
#: flannel's lease as short as can be: a clock that is wrong by a day is wrong by many lives.
TTL_S = 30
SUBNETS = "/coreos.com/network/subnets/"


class Clocks:
    """The wrong clocks of hosts, each in a file of ``folder``; ``library`` makes them wrong."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self._folder = folder
        self._patch = patch
        self._library = folder / "wrong_clock.so"
        source = str(Path(__file__).with_name("wrong_clock.c"))
        command = ["gcc", "-shared", "-fPIC", "-O2", "-Wall", "-Werror", "-o", str(self._library)]
        subprocess.run([*command, source], check=True)

    def start(self, host: LabHost, days: int) -> None:
        """Start a host's agent, and all that it runs, with a clock that is wrong by ``days``."""
        file = self._folder / host.name
        file.write_bytes(self._said(days))
        with self._patch.context() as patch:
            patch.setenv("LD_PRELOAD", str(self._library))
            patch.setenv("WRONG_CLOCK", str(file))
            host.start_agent()
        self._await(host, days)

    def jump(self, host: LabHost, days: int) -> None:
        """Let the clock of a running agent jump; return when the agent lives in the other time."""
        with open(self._folder / host.name, "r+b", buffering=0) as file:
            file.write(self._said(days))
        for verb in ("add", "delete"):  # a change in the kernel, that the agent may do a turn
            host.exec(["ip", "route", verb, "blackhole", "198.51.100.0/24"])
        self._await(host, days)

    def _await(self, host: LabHost, days: int) -> None:
        wait_until(
            lambda: error(host) == days * DAY,
            deadline_s=PATIENCE_S,
            what=f"the agent of {host.name} to be {days} days off",
        )

    @staticmethod
    def _said(days: int) -> bytes:
        return struct.pack("=q", days * 86400)


@pytest.fixture
def clocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Clocks:
    return Clocks(tmp_path, monkeypatch)


def error(host: LabHost) -> timedelta:
    """Return by how much the agent's clock differs from ours, rounded to days."""
    applied = datetime.fromisoformat(host.status()["kernel"]["last_apply"])
    return timedelta(days=round((applied - datetime.now(UTC)) / DAY))


def test_clocks_a_day_ahead_and_a_day_behind_change_nothing(
    lab_names: Iterator[str], clocks: Clocks
) -> None:
    """h1 lives tomorrow, h2 yesterday; then each jumps to where the other was, and back."""
    document = default_document(hosts=2, network={"name": "default", "preset": "flannel"})
    with Lab.up(
        document, name=next(lab_names), owner=myself(), etcd_members=1, run_agents=False
    ) as lab:
        h1, h2 = lab.hosts
        clocks.start(h1, 1)
        clocks.start(h2, -1)
        h1.run("a")
        h2.run("b")
        in_step(lab)
        before = values(lab, CLUSTER)
        with pings(lab) as running:
            clocks.jump(h1, -1)
            clocks.jump(h2, 1)
            alive = entries(lab, ALIVE)
            assert len(alive) == 2
            renewed(lab, [entry.lease for entry in alive.values()], ALIVE_TTL_S)
            assert h1.run("after-jump").pings(h2.container("b").address)
            lab.fault("store", "stop-store")
            noticed([h1, h2], "away")
            clocks.jump(h1, 2)  # in the middle of its retries
            lab.fault("store", "start-store")
            in_step(lab)
            assert h2.run("after-outage").pings(h1.container("a").address)
            for host in (h1, h2):
                assert not host.status()["problems"]
        assert running.lost == 0
        assert values(lab, CLUSTER) == before


@pytest.mark.slow  # a lease's least life is half a minute
def test_flannels_leases_live_by_the_stores_clock(lab_names: Iterator[str], clocks: Clocks) -> None:
    """Each lease is granted and renewed for its time, whatever the hosts believe the date to be."""
    document = default_document(hosts=2, network=None)
    with Lab.up(
        document,
        name=next(lab_names),
        owner=myself(),
        etcd_members=1,
        etcd_options=f"format=flannel&ttl={TTL_S}",
        run_agents=False,
    ) as lab:
        h1, h2 = lab.hosts
        etcdctl(lab, etcd.members(lab.name)[0], "put", "/coreos.com/network/config", CONFIG)
        clocks.start(h1, 1)
        clocks.start(h2, -1)
        h1.run("a")
        h2.run("b")
        in_step(lab)
        before, leases = entries(lab, BLOCKS), raw_leases(lab, SUBNETS)
        assert len(leases) == len(owners(lab)) == 2
        with pings(lab) as running:
            for days in (-1, 1):
                clocks.jump(h1, days)
                clocks.jump(h2, -days)
                renewed(lab, leases.values(), TTL_S)
        assert running.lost == 0
        assert entries(lab, BLOCKS) == before
        assert raw_leases(lab, SUBNETS) == leases
