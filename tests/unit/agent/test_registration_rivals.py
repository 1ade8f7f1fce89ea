"""Two hosts at one address: each says so, and names both."""

from __future__ import annotations

from pathlib import Path

from tests.unit.views import facts, host

from netloom.agent.registration import Registration
from netloom.model.view import Cluster
from netloom.store.sqlite import SqliteStore


def test_a_host_at_anothers_address_names_both_and_the_remedy(tmp_path: Path) -> None:
    store = SqliteStore(str(tmp_path / "cluster.db"))
    own = Registration("h1", "h1", lambda: 0.0)
    cluster = Cluster(hosts={"h2": host("h2", "192.168.31.62"), "h3": host("h3", "192.168.31.63")})
    own.sync(store, cluster, facts("192.168.31.62/24"), ())
    (problem,) = own.problems
    assert problem.severity == "error"
    assert problem.subject == "host h1"
    assert problem.text == "underlay address 192.168.31.62 is also host h2's (h2)"
    assert "give each host its own address" in problem.remedy
    store.close()
