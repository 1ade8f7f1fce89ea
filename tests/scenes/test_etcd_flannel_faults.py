"""Two agents on flannel's keys, and etcd hurt: a lease that goes takes no container with it."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

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
    said,
)

from netloom.lab import etcd
from netloom.lab.documents import default_document
from netloom.lab.lab import Lab
from netloom.lab.processes import myself
from netloom.lab.waiting import wait_until
from netloom.model.keys import CLUSTER

pytestmark = pytest.mark.skipif(not shutil.which("etcd"), reason="etcd-server is not installed")
CONFIG = '{"Network": "10.5.0.0/16", "Backend": {"Type": "vxlan"}}'
SUBNETS = "/coreos.com/network/subnets/"
TTL_S = 30


@pytest.fixture(scope="module")
def standing(lab_names: Iterator[str]) -> Iterator[Lab]:
    with Lab.up(
        default_document(hosts=2, network=None),
        name=next(lab_names),
        owner=myself(),
        etcd_members=3,
        etcd_options=f"format=flannel&ttl={TTL_S}",
        run_agents=False,
    ) as lab:
        etcdctl(lab, etcd.members(lab.name)[0], "put", "/coreos.com/network/config", CONFIG)
        for host in lab.hosts:
            host.start_agent()
        lab.host("h1").run("a")
        lab.host("h2").run("b")
        yield lab


@pytest.fixture
def lab(standing: Lab) -> Iterator[Lab]:
    """The lab, in step before and after."""
    in_step(standing)
    yield standing
    etcd.start(standing.name)
    in_step(standing)


def test_a_lease_that_is_revoked_is_put_back_and_no_packet_is_lost(lab: Lab) -> None:
    """By hand, under both agents, ten times; each says in its status that it was so."""
    before, first = owners(lab), etcd.members(lab.name)[0]
    with pings(lab) as running:
        for _ in range(10):
            old = raw_leases(lab, SUBNETS)
            assert len(set(old.values())) == 2
            for lease in old.values():
                etcdctl(lab, first, "lease", "revoke", f"{lease:x}")

            def back(old: dict[str, int] = old) -> bool:
                new = raw_leases(lab, SUBNETS)
                return new.keys() == old.keys() and not set(new.values()) & set(old.values())

            wait_until(back, deadline_s=PATIENCE_S, what="both leases to be back, as others")
        in_step(lab)
    assert running.lost == 0
    assert owners(lab) == before
    for host in lab.hosts:
        wait_until(
            lambda host=host: "is put back" in said(host),  # type: ignore[misc]
            deadline_s=PATIENCE_S,
            what=f"{host.name} to say so",
        )


@pytest.mark.slow  # a lease's least life is half a minute, and the outage must be longer
def test_a_majority_that_is_away_for_longer_than_a_lease_lives_changes_nothing(lab: Lab) -> None:
    """A minute: twice the life of flannel's leases, and of the agents' liveness."""
    before, members = entries(lab, CLUSTER), etcd.members(lab.name)
    with pings(lab) as running:
        etcd.kill(lab.name, *(member.name for member in members[1:]))
        noticed(lab.hosts, "away")
        since = datetime.now(UTC) - timedelta(seconds=1)
        until = time.monotonic() + 60.0
        wait_until(lambda: time.monotonic() > until, deadline_s=90, what="a minute")
        assert lab.host("h1").run("meanwhile").pings(lab.host("h2").container("b").address)
        etcd.start(lab.name)
        in_step(lab)
        renewed(lab, raw_leases(lab, SUBNETS).values(), TTL_S)
        for host in lab.hosts:
            connected = datetime.fromisoformat(host.status()["store"]["since"])
            assert connected > since, "the status tells since when the store is back"
    assert running.lost == 0
    after = entries(lab, CLUSTER)
    assert {k: e.value for k, e in after.items()} == {k: e.value for k, e in before.items()}
