"""Real processes race for blocks in one SQLite file."""

from __future__ import annotations

import itertools
import signal
import subprocess
import sys
from ipaddress import IPv4Network, ip_network
from pathlib import Path

import pytest

from netloom.model.addr import IPNetwork
from netloom.model.network import Addressing, Network
from netloom.model.pool import Pool
from netloom.reconcile.claim_entries import list_claims
from netloom.reconcile.claims import Search, claim
from netloom.reconcile.holding import hold_blocks
from netloom.store.sqlite import SqliteStore

RACE = str(Path(__file__).with_name("race.py"))
PATIENCE_S = 300
POOL = "10.244.0.0/16"


def start(store: Path, host_id: str, size: int, mode: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, RACE, str(store), host_id, POOL, str(size), mode],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def race(runners: list[subprocess.Popen[str]]) -> list[IPNetwork]:
    """Let all go at once; return what each got. A failure shows what it said."""
    for runner in runners:
        assert runner.stdout is not None
        assert runner.stdout.readline() == "ready\n", runner.communicate()[1]
    for runner in runners:
        assert runner.stdin is not None
        runner.stdin.write("go\n")
        runner.stdin.flush()
    got = []
    for runner in runners:
        out, err = runner.communicate(timeout=PATIENCE_S)
        assert runner.returncode == 0, err
        got.append(ip_network(out.strip()))
    return got


@pytest.mark.parametrize("mode", ["host-block", "on-demand"])
def test_fifty_first_starts_at_once_give_fifty_different_blocks_and_no_failure(
    tmp_path: Path, mode: str
) -> None:
    path = tmp_path / "cluster.db"
    SqliteStore(str(path)).close()
    got = race([start(path, f"host-{n}", 24, mode) for n in range(50)])
    assert len(set(got)) == 50
    store = SqliteStore(str(path))
    claims = list_claims(store, "blue")
    assert {each.cidr for each in claims} == set(got), "no block is left over"
    assert all(each.block is not None and each.block.confirmed for each in claims)
    if mode == "host-block":
        assert ip_network("10.244.0.0/24") in got, "the numbers begin at the bottom"
        assert max(got) < ip_network("10.244.200.0/24")
    store.close()


def test_hosts_that_cut_the_pool_into_different_sizes_never_overlap(tmp_path: Path) -> None:
    """A /24 and a /26 have different keys, so only the two phases keep them apart."""
    path = tmp_path / "cluster.db"
    SqliteStore(str(path)).close()
    sizes = [22, 24, 26, 28]
    got = race([start(path, f"host-{n}", sizes[n % 4], "host-block") for n in range(32)])
    for one, other in itertools.combinations(got, 2):
        assert not one.overlaps(other)
    store = SqliteStore(str(path))
    assert {each.cidr for each in list_claims(store, "blue")} == set(got)
    store.close()


def test_a_host_killed_while_it_claims_leaves_nothing_after_its_next_start(tmp_path: Path) -> None:
    """Kill -9 twenty hosts in mid-race, the first ones already done, the last ones not begun."""
    path = tmp_path / "cluster.db"
    store = SqliteStore(str(path))
    runners = [start(path, f"host-{n}", 24, "host-block") for n in range(20)]
    for runner in runners:
        assert runner.stdout is not None
        runner.stdout.readline()
    for runner in runners:
        assert runner.stdin is not None
        runner.stdin.write("go\n")
        runner.stdin.flush()
    assert runners[0].stdout is not None
    runners[0].stdout.readline()  # one is done, the others are somewhere in between
    for runner in runners:
        runner.send_signal(signal.SIGKILL)
    for runner in runners:
        runner.communicate(timeout=PATIENCE_S)
    pool = Pool(IPv4Network(POOL), 24)
    network = Network("blue", (pool,), Addressing())
    got = [claim(store, Search(network, pool, f"host-{n}")).cidr for n in range(20)]
    assert len(set(got)) == 20
    assert {each.cidr for each in list_claims(store, "blue")} == set(got)
    assert [hold_blocks(store, network, f"host-{n}")[0].cidr for n in range(20)] == got
    store.close()
