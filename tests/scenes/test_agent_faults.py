"""An agent killed, doubled, cut off from its store, fed nonsense: the data path does not notice."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from netloom.lab import record
from netloom.lab.documents import default_document
from netloom.lab.lab import Lab, LabHost
from netloom.lab.traffic import Pings
from netloom.lab.waiting import wait_until
from netloom.model.datastore import Delete, Put, Transaction
from netloom.model.keys import BLOCKS, HOSTS, host_key

LabUp = Callable[..., Lab]
BACKENDS = ("vxlan", "host-gw")


def in_step(lab: Lab, host: LabHost) -> bool:
    """Tell whether the host's kernel holds the store's newest revision and nothing is to do."""
    status = host.status()
    plan = host.json(["netloom", "plan", "-o", "json"])
    return bool(status["ready"]) and not plan["changes"]


def finished(host: LabHost, argv: list[str]) -> subprocess.CompletedProcess[str]:
    """Run a command on the host to its end."""
    return subprocess.run(
        host.command(argv),
        env=host.environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.fixture(params=BACKENDS)
def lab(request: pytest.FixtureRequest, lab_up: LabUp) -> Lab:
    network = {"name": "default", "preset": "flannel", "backend": request.param}
    lab = lab_up(default_document(hosts=2, network=network))
    lab.host("h1").run("a")
    lab.host("h2").run("b")
    return lab


def pings(lab: Lab) -> Pings:
    a, b = lab.host("h1").container("a"), lab.host("h2").container("b")
    return Pings(a, b.address, 0.005)


@pytest.mark.parametrize("how", ["kill-agent", "stop-agent"])
def test_an_agent_that_ends_and_starts_again_costs_no_packet(lab: Lab, how: str) -> None:
    """With kill -9 or an orderly end, then a start: a ping at 5 ms intervals loses nothing."""
    host = lab.host("h1")
    with pings(lab) as running:
        if how == "kill-agent":
            lab.fault("h1", "kill-agent")
        else:
            assert host.agent is not None
            subprocess.run(["kill", "-TERM", str(host.agent.pid)], check=True)
            wait_until(lambda: host.agent is None, deadline_s=120, what="the agent's end")
        host.start_agent()
        wait_until(lambda: in_step(lab, host), deadline_s=120, what="the agent to be in step")
    assert running.lost == 0, f"{running.lost} of {running.sent} lost"
    assert sum(host.status()["kernel"]["repaired"].values()) == 0, "a restart rewrote the kernel"


def test_an_agent_told_to_end_while_it_stands_still_ends_when_it_goes_on(lab_up: LabUp) -> None:
    """The kernel may give the signal to any of its threads then."""
    lab = lab_up(default_document(hosts=1))
    for _ in range(5):
        lab.fault("h1", "freeze-agent")
        lab.fault("h1", "stop-agent")
        lab.fault("h1", "start-agent")


def test_a_second_agent_on_a_host_refuses(lab: Lab, tmp_path: Path) -> None:
    host = lab.host("h1")
    second = finished(host, ["netloom", "agent"])
    assert second.returncode == 4
    assert "another netloom agent runs on this host" in second.stderr
    other_folder = finished(host, ["netloom", "agent", "--state-dir", str(tmp_path)])
    assert other_folder.returncode == 4
    assert host.agent is not None, "the first agent must be left alone"


def test_without_its_store_an_agent_goes_on_and_catches_up(lab: Lab) -> None:
    """Traffic goes on, a container is attached, damage is repaired, and status says it."""
    h1, h2 = lab.host("h1"), lab.host("h2")
    with pings(lab) as running:
        lab.fault("store", "stop-store")
        wait_until(
            lambda: h1.status()["store"]["state"] == "away", deadline_s=120, what="the loss noticed"
        )
        shown = finished(h1, ["netloom", "status"])
        assert shown.returncode == 6
        assert "away" in shown.stdout
        late = h1.run("late")
        assert late.pings(h2.container("b").address)
    assert running.lost == 0
    (block,) = h2.blocks()
    h1.exec(["ip", "route", "del", block])  # which costs packets, until it is there again
    wait_until(lambda: block in h1.exec(["ip", "route"]), deadline_s=120, what="the repair")
    with pings(lab) as running:
        lab.fault("store", "start-store")
        wait_until(
            lambda: h1.status()["store"]["state"] == "connected", deadline_s=120, what="its return"
        )
        wait_until(lambda: _mirrored(lab, late.address), deadline_s=120, what="the mirror")
    assert running.lost == 0


def test_an_agent_that_starts_without_its_store_withdraws_nothing(lab: Lab) -> None:
    h1 = lab.host("h1")
    wait_until(lambda: in_step(lab, h1), deadline_s=120, what="a settled host")
    wait_until(lambda: _kept_blocks(h1) == 2, deadline_s=120, what="the picture")
    with pings(lab) as running:
        lab.fault("store", "stop-store")
        lab.fault("h1", "kill-agent")
        h1.start_agent()
        wait_until(lambda: h1.status()["ready"], deadline_s=120, what="the agent without a store")
        assert h1.run("alone").pings(lab.host("h2").container("b").address)
        lab.fault("store", "start-store")
        wait_until(
            lambda: h1.status()["store"]["state"] == "connected", deadline_s=120, what="the store"
        )
    assert running.lost == 0


def test_a_key_that_does_not_parse_harms_nothing_else(lab: Lab) -> None:
    """The last good form of the host stands, status names the key, and other news get through.

    The host's own agent, once it is back, says again what is true.
    """
    h1, h2 = lab.host("h1"), lab.host("h2")
    store = lab.store()
    key = host_key("h2")
    with pings(lab) as running:
        lab.fault("h2", "kill-agent")
        store.commit(Transaction([Put(key, b"{nonsense"), Put(HOSTS + "x/y z", b"\xff")]))
        wait_until(
            lambda: any(key in p["subject"] for p in h1.status()["problems"]),
            deadline_s=120,
            what="the problem in status",
        )
        assert h1.status()["store"]["state"] == "connected"
        assert any(peer["id"] == "h2" for peer in h1.status()["peers"]), "its last good form stands"
        assert h1.run("next").pings(h2.container("b").address)
        h2.start_agent()
        store.commit(Transaction([Delete(HOSTS + "x/y z")]))
        wait_until(lambda: h1.status()["well"], deadline_s=120, what="all well again")
    assert running.lost == 0


def test_a_host_that_leaves_takes_its_routes_along_and_one_that_joins_brings_them(
    lab_up: LabUp,
) -> None:
    lab = lab_up(default_document(hosts=3))
    h1, h3 = lab.host("h1"), lab.host("h3")
    block = h3.status()["networks"][0]["blocks"][0]["cidr"]
    assert block in h1.exec(["ip", "route"])
    lab.fault("h3", "kill-agent")
    h1.exec(["netloom", "host", "forget", "h3", "--force"])
    for words in (["ip", "route"], ["bridge", "fdb", "show", "dev", "flannel.1"]):
        wait_until(
            lambda words=words: not {block, h3.underlay} & set(h1.exec(words).split()),  # type: ignore[misc]
            deadline_s=120,
            what="the end of the way there",
        )
    h3.start_agent()
    wait_until(lambda: block in h1.exec(["ip", "route"]), deadline_s=120, what="it again")


def test_what_is_ours_and_not_wanted_is_swept_at_start_and_what_is_not_ours_stays(
    lab_up: LabUp,
) -> None:
    lab = lab_up(default_document(hosts=2))
    host = lab.host("h1")
    lab.fault("h1", "kill-agent")
    for words in (
        "ip route add 10.244.99.0/24 via 192.168.31.63 proto 78",
        "ip route add 10.99.0.0/24 via 192.168.31.63 proto static",
        "ip link add stale type bridge",
        "ip link set stale alias netloom:gone",
        "ip link add theirs type bridge",
        "ip addr add 10.1.1.1/32 dev flannel.1",
        "bridge fdb append 02:00:00:00:00:99 dev flannel.1 dst 192.168.31.99 self permanent",
        "ip neigh add 10.244.99.0 lladdr 02:00:00:00:00:99 dev flannel.1 nud permanent",
        "nft add table inet theirs",
        "nft add chain inet netloom extra",
    ):
        host.exec(words.split())
    host.start_agent()
    wait_until(lambda: in_step(lab, host), deadline_s=120, what="the sweep")
    routes, links = host.exec(["ip", "route"]), host.exec(["ip", "link"])
    assert "10.244.99.0/24" not in routes
    assert "10.99.0.0/24" in routes
    assert "stale" not in links
    assert "theirs" in links
    assert "10.1.1.1" not in host.exec(["ip", "addr"])
    assert "02:00:00:00:00:99" not in host.exec(["bridge", "fdb"])
    assert "02:00:00:00:00:99" not in host.exec(["ip", "neigh"])
    rules = host.exec(["nft", "list", "ruleset"])
    assert "table inet theirs" in rules
    assert "extra" not in rules


def _kept_blocks(host: LabHost) -> int:
    """Return how many blocks are in the picture that an agent keeps on the disk."""
    kept = record.read_json(host.home.directory / "state" / "cluster.json") or {"entries": []}
    return sum(key.startswith(BLOCKS) for key, *_ in kept["entries"])


def _mirrored(lab: Lab, address: str) -> bool:
    entries: list[Any] = [
        json.loads(e.value) for e in lab.store().list("/netloom/v1/endpoints/").entries
    ]
    return any(address in entry["addresses"] for entry in entries)
