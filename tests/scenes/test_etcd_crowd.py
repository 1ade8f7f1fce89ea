"""Thirty whole agents that begin at once on an empty store."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable

import pytest
from tests.scenes.etcd_lab import PATIENCE_S, in_step, owners, pings

from netloom.lab import agents
from netloom.lab.documents import default_document
from netloom.lab.lab import Lab
from netloom.lab.waiting import wait_until
from netloom.model.keys import STORE_MARK

HOSTS = 30
pytestmark = [
    pytest.mark.slow,  # thirty agents; that thirty claim at once is part of test_etcd_faults
    pytest.mark.skipif(not shutil.which("etcd"), reason="etcd-server is not installed"),
]


@pytest.mark.timeout(600)
def test_thirty_agents_that_begin_at_once_each_get_a_block_and_reach_all(
    lab_up: Callable[..., Lab],
) -> None:
    """No block comes twice, no route is missing, and no agent has anything to complain of.

    But of its own slowness: thirty that begin on few processors may let a lease run out.
    """
    document = default_document(HOSTS, network={"name": "default", "preset": "flannel"})
    lab = lab_up(document, etcd_members=1, run_agents=False)
    store = lab.store()
    for entry in store.list("").entries:
        assert entry.key == STORE_MARK or "/networks/" in entry.key, "the store is not empty"
    store.close()
    begun = [agents.start(host.home) for host in lab.hosts]
    wait_until(lambda: len(owners(lab)) == HOSTS, deadline_s=2 * PATIENCE_S, what="30 blocks")
    in_step(lab)
    assert len(set(owners(lab).values())) == HOSTS
    blocks = {host.name: host.blocks() for host in lab.hosts}
    assert sorted(len(each) for each in blocks.values()) == [1] * HOSTS
    everybody = {cidr for (cidr,) in blocks.values()}
    assert len(everybody) == HOSTS
    for host, process in zip(lab.hosts, begun, strict=True):
        status = host.status()
        assert host.agent == process, f"{host.name}: its agent ended and began anew"
        told = [p for p in status["problems"] if "is granted anew" not in p["text"]]
        assert not told, told
        assert not status["kernel"]["failing"]
        routes = host.json(["ip", "-j", "route", "show", "proto", "78"])
        assert {route["dst"] for route in routes} == everybody - set(blocks[host.name])
        assert "ERROR" not in host.home.log.read_text()
    lab.host("h1").run("a")
    lab.host("h2").run("b")
    with pings(lab) as running:
        wait_until(lambda: running.received > 50, deadline_s=PATIENCE_S, what="fifty replies")
    assert running.lost == 0, json.dumps(blocks)
