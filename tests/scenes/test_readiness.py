"""When an agent says that it is ready, and not before: others can find it."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing

from netloom.lab import agents, record
from netloom.lab.lab import Lab
from netloom.lab.waiting import wait_until
from netloom.model.errors import Unavailable
from netloom.model.keys import host_key

from .bgp_lab import document


def test_an_agent_is_not_ready_before_the_cluster_knows_its_host(
    lab_up: Callable[..., Lab],
) -> None:
    """Another holds the store's lock: there is a picture of the cluster, without this host."""
    lab = lab_up(document((100,), backend="host-gw"), run_agents=False)
    (host,) = lab.hosts

    def turned() -> bool:
        try:
            return bool(host.status()["kernel"]["revision"])
        except Unavailable:  # it does not answer yet
            return False

    with closing(sqlite3.connect(record.directory(lab.name) / "store" / "cluster.db")) as other:
        other.execute("BEGIN IMMEDIATE")
        agents.start(host.home)
        wait_until(turned, deadline_s=60, what="the first turn")
        assert not host.status()["ready"]
        other.rollback()
    wait_until(lambda: host.status()["ready"], deadline_s=60, what="the agent to be ready")
    store = lab.store()
    try:
        assert store.get(host_key(host.home.host)) is not None
    finally:
        store.close()
