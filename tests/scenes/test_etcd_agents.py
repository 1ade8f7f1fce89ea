"""Agents on etcd, and etcd hurt in every way: containers talk on, agents converge by themselves."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from tests.scenes.etcd_lab import (
    BLACK_HOLE,
    PATIENCE_S,
    entries,
    etcdctl,
    in_step,
    leader,
    noticed,
    owners,
    pings,
    restore,
    said,
    signal_member,
    state,
    values,
)

from netloom.lab import etcd
from netloom.lab.documents import default_document
from netloom.lab.host import LabHost
from netloom.lab.lab import Lab
from netloom.lab.processes import myself
from netloom.lab.waiting import wait_until
from netloom.model.keys import BLOCKS, CLUSTER, HOSTS, alive_key

pytestmark = pytest.mark.skipif(not shutil.which("etcd"), reason="etcd-server is not installed")


@pytest.fixture(scope="module")
def standing(lab_names: Iterator[str]) -> Iterator[Lab]:
    document = default_document(hosts=2, network={"name": "default", "preset": "flannel"})
    with Lab.up(document, name=next(lab_names), owner=myself(), etcd_members=3) as lab:
        lab.host("h1").run("a")
        lab.host("h2").run("b")
        yield lab


@pytest.fixture
def lab(standing: Lab) -> Iterator[Lab]:
    """The lab, in step before and after."""
    in_step(standing)
    yield standing
    for host in standing.hosts:
        host.exec(["nft", "delete", "table", "inet", "hole"], check=False)
    etcd.start(standing.name)
    in_step(standing)


def peers(host: LabHost) -> set[str]:
    """Return the names of the other hosts, as the agent's status has them."""
    return {peer["name"] for peer in host.status()["peers"]}


def written(lab: Lab, member: etcd.Member, name: str) -> bool:
    """Write a host's record by way of a member; False while there is no leader."""
    with suppress(subprocess.CalledProcessError):
        etcdctl(lab, member, "put", f"{HOSTS}{name}", json.dumps({"id": name, "name": name}))
        return True
    return False


def test_a_killed_leader_is_not_noticed_by_containers(lab: Lab) -> None:
    before = values(lab, CLUSTER)
    with pings(lab) as running:
        etcd.kill(lab.name, leader(lab))
        lab.host("h1").run("after-leader")
        in_step(lab)
    assert running.lost == 0
    assert values(lab, BLOCKS) == {k: v for k, v in before.items() if k.startswith(BLOCKS)}


def test_a_lost_majority_is_a_line_in_status_and_nothing_else(lab: Lab) -> None:
    """A container that starts meanwhile is attached; when the majority is back all converge."""
    before = values(lab, BLOCKS)
    h1 = lab.host("h1")
    with pings(lab) as running:
        etcd.kill(lab.name, "etcd1", "etcd2")
        for host in lab.hosts:
            wait_until(
                lambda host=host: state(host) == "away",  # type: ignore[misc]
                deadline_s=PATIENCE_S,
                what=f"{host.name} to notice",
            )
        for member in etcd.members(lab.name):
            wait_until(
                lambda member=member: member.endpoint in h1.status()["store"]["error"],  # type: ignore[misc]
                deadline_s=PATIENCE_S,
                what=f"{member.name} to be named",
            )
        assert h1.run("meanwhile").pings(lab.host("h2").container("b").address)
        etcd.start(lab.name)
        in_step(lab)
    assert running.lost == 0
    assert values(lab, BLOCKS) == before


def test_a_whole_cluster_that_restarts_changes_nothing(lab: Lab) -> None:
    before = values(lab, CLUSTER)
    with pings(lab) as running:
        lab.fault("store", "stop-store")
        lab.fault("store", "start-store")
        in_step(lab)
    assert running.lost == 0
    assert values(lab, CLUSTER) == before


def test_a_black_hole_between_an_agent_and_etcd_is_noticed_and_survived(lab: Lab) -> None:
    """No connection is reset, so only silence tells; the other host does not notice at all.

    What was changed meanwhile is compacted away: h1 lists anew, and misses no deletion.
    """
    h1, first = lab.host("h1"), etcd.members(lab.name)[0]
    etcdctl(lab, first, "put", f"{HOSTS}ghost", json.dumps({"id": "ghost", "name": "ghost"}))
    wait_until(lambda: "ghost" in peers(h1), deadline_s=PATIENCE_S, what="a peer that will go")
    with pings(lab) as running:
        subprocess.run(h1.command(["nft", "-f", "-"]), input=BLACK_HOLE, text=True, check=True)
        wait_until(lambda: state(h1) == "away", deadline_s=PATIENCE_S, what="h1 to notice")
        noticed([lab.host("h2")], "connected")
        assert h1.run("in-the-dark").pings(lab.host("h2").container("b").address)
        etcdctl(lab, first, "del", f"{HOSTS}ghost")
        store = lab.store()
        etcdctl(lab, first, "compact", str(store.list(CLUSTER).revision))
        store.close()
        assert peers(h1) == {"ghost", "h2"}
        h1.exec(["nft", "delete", "table", "inet", "hole"])
        in_step(lab)
        wait_until(lambda: peers(h1) == {"h2"}, deadline_s=PATIENCE_S, what="the ghost to go")
    assert running.lost == 0


def test_a_member_that_hangs_is_left_for_another(lab: Lab) -> None:
    """Its connections stay open and say nothing; the members take turns."""
    blocks = values(lab, BLOCKS)
    members = etcd.members(lab.name)
    with pings(lab) as running:
        for member, other in zip(members, [*members[1:], members[0]], strict=True):
            name = f"heard-without-{member.name}"
            signal_member(lab, member, signal.SIGSTOP)
            try:
                wait_until(
                    lambda other=other, name=name: written(lab, other, name),  # type: ignore[misc]
                    deadline_s=PATIENCE_S,
                    what="a leader",
                )
                for host in lab.hosts:
                    wait_until(
                        lambda host=host, name=name: name in peers(host),  # type: ignore[misc]
                        deadline_s=PATIENCE_S,
                        what=f"{host.name} to hear of a change without {member.name}",
                    )
            finally:
                signal_member(lab, member, signal.SIGCONT)
            etcdctl(lab, other, "del", f"{HOSTS}{name}")
        in_step(lab)
    assert running.lost == 0
    assert values(lab, BLOCKS) == blocks


def test_poison_below_our_prefix_is_a_line_in_status_and_nothing_else(lab: Lab) -> None:
    """A key that is no text, one that is no CIDR, values that do not parse: all else goes on."""
    h1 = lab.host("h1")
    blocks = values(lab, BLOCKS)
    first = etcd.members(lab.name)[0]
    own = next(key for key, value in blocks.items() if json.loads(value)["host"] == "h2")
    poison = [f"{BLOCKS}default/nonsense", f"{HOSTS}h9", f"{HOSTS}\udcff\udcfe"]
    with pings(lab) as running:
        for key in [*poison, own]:
            etcdctl(lab, first, "put", key, "{not JSON")
        wait_until(
            lambda: "nonsense" in json.dumps(h1.status()["problems"]),
            deadline_s=PATIENCE_S,
            what="the problem in status",
        )
        assert h1.run("beside-poison").pings(lab.host("h2").container("b").address)
        for key in poison:
            etcdctl(lab, first, "del", key)
        etcdctl(lab, first, "put", own, blocks[own].decode())
        in_step(lab)
    assert running.lost == 0
    assert values(lab, BLOCKS) == blocks
    subjects = [problem["subject"] for problem in h1.status()["problems"]]
    assert not [subject for subject in subjects if subject.startswith("key ")]


def test_a_lease_that_is_revoked_under_an_agent_is_granted_anew(lab: Lab) -> None:
    key = alive_key("h1")
    blocks = values(lab, BLOCKS)
    old = entries(lab, key)[key].lease
    assert old
    store = lab.store()
    with pings(lab) as running:
        store.revoke(old)

        def back() -> bool:
            entry = store.get(key)
            return entry is not None and entry.lease not in (0, old)

        wait_until(back, deadline_s=PATIENCE_S, what="the key under a new lease")
        in_step(lab)
    store.close()
    assert running.lost == 0
    assert values(lab, BLOCKS) == blocks
    wait_until(
        lambda: "granted anew" in said(lab.host("h1")), deadline_s=PATIENCE_S, what="h1 to say so"
    )


def test_a_snapshot_that_is_restored_takes_no_route_and_gives_no_block_twice(
    lab: Lab, tmp_path: Path
) -> None:
    """What came after the snapshot is put back by those who hold it, and status says it."""
    h1, h2 = lab.host("h1"), lab.host("h2")
    blocks, hosts = values(lab, BLOCKS), set(values(lab, HOSTS))
    snapshot = tmp_path / "snapshot"
    first = etcd.members(lab.name)[0]
    etcdctl(lab, first, "snapshot", "save", str(snapshot))
    later = {
        "name": "later",
        "pools": ["10.77.0.0/16"],
        "backend": "host-gw",
        "attachment": {"type": "bridge", "bridge": "cni1"},
    }
    lab.set_network(later)
    in_step(lab)
    with pings(lab) as running:
        restore(lab, snapshot)
        for host in (h1, h2):
            wait_until(
                lambda host=host: "restored" in json.dumps(host.status()["problems"]),  # type: ignore[misc]
                deadline_s=PATIENCE_S,
                what=f"{host.name} to say what happened",
            )
        wait_until(
            lambda: values(lab, BLOCKS).items() >= blocks.items(),
            deadline_s=PATIENCE_S,
            what="the blocks of both hosts",
        )
        assert h1.run("after-restore").pings(h2.container("b").address)
    assert running.lost == 0
    assert set(values(lab, HOSTS)) == hosts


def test_a_snapshot_of_before_the_hosts_came_gives_each_its_own_block_again(
    lab_up: Callable[..., Lab], tmp_path: Path
) -> None:
    """The store has forgotten every block; the containers' hosts have not."""
    document = default_document(hosts=3, network={"name": "default", "preset": "flannel"})
    lab = lab_up(document, etcd_members=1, run_agents=False)
    snapshot = tmp_path / "snapshot"
    etcdctl(lab, etcd.members(lab.name)[0], "snapshot", "save", str(snapshot))
    for host in lab.hosts:
        host.start_agent()
    lab.host("h1").run("a")
    lab.host("h2").run("b")
    in_step(lab)
    blocks = owners(lab)
    assert len(blocks) == 3
    with pings(lab) as running:
        restore(lab, snapshot)
        wait_until(lambda: owners(lab) == blocks, deadline_s=PATIENCE_S, what="the same blocks")
        in_step(lab)
    assert running.lost == 0
