"""``calicoctl ipam`` on a real datastore: the tables and sentences that its users know."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from netloom.cli import calicoctl
from netloom.cli.cluster import MAX_OPERATIONS, opened
from netloom.cli.main import explain
from netloom.cli.settings import load_settings
from netloom.core.resources.table import KINDS
from netloom.model.datastore import Delete, Store, Transaction
from netloom.model.errors import NetloomError

Calicoctl = Callable[..., tuple[int, str, str]]
Put = Callable[[str, Any], int]
ENDPOINT = {
    "network": "blue",
    "host": "id1",
    "container": "web",
    "ifname": "eth0",
    "netns": "/run/netns/web",
    "hostIfname": "veth1",
    "mac": "02:00:00:00:00:01",
    "addresses": ["10.244.1.2"],
    "attached": True,
    "created": "2026-01-01T00:00:00+00:00",
}


@pytest.fixture
def command(
    url: str, run_dir: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Calicoctl:
    monkeypatch.setenv("NETLOOM_SOCKET", str(run_dir / "nobody.sock"))

    def call(*args: str) -> tuple[int, str, str]:
        capsys.readouterr()
        try:
            code = calicoctl.run(["ipam", *args], {})
        except NetloomError as error:
            code = explain(error)
        return (code, *capsys.readouterr())

    return call


@pytest.fixture(autouse=True)
def cluster(url: str, put: Put) -> None:
    """Two hosts with a block each; one container, one address of another host's block."""
    pool = {"cidr": "10.244.0.0/16", "blockSize": 26}
    network = {"name": "blue", "pools": [pool], "addressing": "on-demand"}
    put("/netloom/v1/cluster/networks/blue", network)
    for n in (1, 2):
        put(f"/netloom/v1/cluster/hosts/id{n}", {"id": f"id{n}", "name": f"h{n}"})
        block = {"network": "blue", "cidr": f"10.244.{n}.0/26", "host": f"id{n}"}
        key = f"/netloom/v1/cluster/blocks/blue/10.244.{n}.0-26"
        put(key, {**block, "state": "confirmed"})
    put("/netloom/v1/endpoints/id1/blue/web/eth0", ENDPOINT)


def test_pools_and_blocks_are_counted_in_calicoctls_table(command: Calicoctl) -> None:
    assert command("show", "--show-blocks")[1] == (
        "+----------+---------------+-----------+------------+--------------+\n"
        "| GROUPING |     CIDR      | IPS TOTAL | IPS IN USE |   IPS FREE   |\n"
        "+----------+---------------+-----------+------------+--------------+\n"
        "| IP Pool  | 10.244.0.0/16 |     65536 | 1 (0%)     | 65535 (100%) |\n"
        "| Block    | 10.244.1.0/26 |        64 | 1 (2%)     | 63 (98%)     |\n"
        "| Block    | 10.244.2.0/26 |        64 | 0 (0%)     | 64 (100%)    |\n"
        "+----------+---------------+-----------+------------+--------------+\n"
    )


def test_what_is_reserved_has_a_column_where_there_is_any(command: Calicoctl, put: Put) -> None:
    spec = {"reservedCIDRs": ["10.244.2.0/27", "10.244.1.2"]}
    document = {"kind": "IPReservation", "metadata": {"name": "lab"}, "spec": spec}
    put("/netloom/v1/cluster/resources/IPReservation/lab", document)
    lines = command("show", "--show-blocks")[1].splitlines()
    assert "IPS RESERVED" in lines[1]
    cells = [cell.strip() for cell in lines[5].split("|")[1:-1]]
    assert cells == ["Block", "10.244.2.0/26", "64", "0 (0%)", "32 (50%)", "32 (50%)"]
    assert "| 1 (2%)     | 63 (98%) " in lines[4], "what is in use counts once"


def test_an_address_tells_its_holder_or_that_it_has_none(command: Calicoctl) -> None:
    code, out, _ = command("show", "--ip=10.244.1.2")
    assert code == 0
    assert out.splitlines()[:4] == [
        "IP 10.244.1.2 is in use",
        "Handle: blue.web.eth0",
        "Attributes:",
        "  network: blue",
    ]
    assert command("show", "--ip=10.244.1.3")[:2] == (0, "10.244.1.3 is not assigned\n")
    code, _, err = command("show", "--ip=192.0.2.1")
    assert (code, "hint: pools: 10.244.0.0/16" in err) == (3, True)
    assert command("show", "--ip=10.244.1")[0] == 3


def test_addresses_outside_their_hosts_blocks_are_the_borrowed_ones(
    command: Calicoctl, put: Put
) -> None:
    assert command("show", "--show-borrowed")[1].count("\n") == 3
    put("/netloom/v1/endpoints/id1/blue/web/eth0", {**ENDPOINT, "addresses": ["10.244.2.9"]})
    row = command("show", "--show-borrowed")[1].splitlines()[3]
    assert [cell.strip() for cell in row.split("|")[1:-1]] == [
        "10.244.2.9",
        "h1",
        "10.244.2.0/26",
        "h2",
        "workload",
        "blue.web.eth0",
    ]


def test_configuring_changes_the_ipam_configuration(command: Calicoctl) -> None:
    assert command("configure", "--strictaffinity=true", "--max-blocks-per-host=4")[1] == (
        "Successfully set StrictAffinity to: true\nSuccessfully set MaxBlocksPerHost to: 4\n"
    )
    assert "| MaxBlocksPerHost   | " in command("show", "--show-configuration")[1]
    code, _, err = command("configure", "--strictaffinity=false")
    assert (code, "goes with strictAffinity: true alone" in err) == (3, True)
    assert command("configure", "--max-blocks-per-host=0")[0] == 0
    assert command("configure", "--strictaffinity=false")[0] == 0
    assert "| StrictAffinity     | false |" in command("show", "--show-configuration")[1]
    assert command("configure")[0] == 2
    assert command("configure", "--strictaffinity=perhaps")[0] == 2


def test_a_check_without_an_agent_says_what_it_could_not_judge(
    command: Calicoctl, tmp_path: Path
) -> None:
    report = tmp_path / "report.json"
    code, out, _ = command("check", "-o", str(report), "--show-all-ips")
    assert code == 0
    assert "Found 2 IPAM blocks." in out
    assert " IPAM block 10.244.1.0/26 affinity=host:h1" in out
    assert "  10.244.1.2 allocated; attrs Main:blue.web.eth0" in out
    assert "Not judged: leaks: no agent answers" in out
    assert out.splitlines()[-1] == "Check complete; found 0 problems."
    assert json.loads(report.read_text())["findings"] == []
    said = command("release", f"--from-report={report}")
    assert said[:2] == (0, "Released 0 IPs of 0 allocations.\n")
    assert "no agent was there to judge leaks" in said[2]
    leak = {"kind": "leak", "handle": "blue.web.eth0", "subject": "10.244.1.2", "host": "id1"}
    report.write_text(json.dumps({"host": "id1", "endpoints": 1, "findings": [leak]}))
    assert command("release", f"--from-report={report}")[0] == 6, "an agent alone releases leaks"
    assert command("check", "-o", str(tmp_path / "no" / "folder"))[0] == 5


def test_releasing_what_nobody_holds_is_no_error(command: Calicoctl) -> None:
    assert command("release", "--ip=10.244.1.3")[:2] == (
        0,
        "IP address 10.244.1.3 is not assigned\n",
    )
    assert command("release", "--ip=10.244.1.2")[0] == 6, "its host's agent has to say"
    assert command("release")[0] == 2
    code, _, err = command("split", "4", "--cidr=10.244.0.0/16")
    assert (code, "create another IPPool" in err) == (3, True)


def orphans(put: Put) -> None:
    """Blocks of a pool that was removed, of a network that was, and of one that is unreadable."""
    for network, cidr in (
        ("blue", "10.99.1.0/26"),
        ("blue", "10.99.2.0/26"),
        ("red", "10.244.7.0/26"),
        ("grey", "10.98.0.0/26"),
    ):
        block = {"network": network, "cidr": cidr, "host": "id1", "state": "confirmed"}
        put(f"/netloom/v1/cluster/blocks/{network}/{cidr.replace('/', '-')}", block)
    put("/netloom/v1/cluster/networks/grey", b"{")
    used = {**ENDPOINT, "container": "old", "addresses": ["10.99.2.2"]}
    put("/netloom/v1/endpoints/id1/blue/old/eth0", used)


def test_orphan_blocks_go_from_check_into_a_report_and_from_there_to_release(
    command: Calicoctl, put: Put, store: Store, tmp_path: Path
) -> None:
    """Those that are in use stay; no agent is needed, since nobody deals from them."""
    orphans(put)
    report = tmp_path / "report.json"
    out = command("check", "-o", str(report))[1]
    for text in (
        "orphan-block: block 10.99.1.0/26 of network blue lies in no pool of it any more",
        "orphan-block: block 10.244.7.0/26 of network red belongs to a network that does not exist",
    ):
        assert text in out
    assert "10.98.0.0/26 of" not in out, "its network is there, and not to be read"
    put("/netloom/v1/alive/id1", b"{}")
    code, out, err = command("release", f"--from-report={report}")
    assert (code, out) == (4, "Released 0 IPs of 0 allocations.\nReleased 2 blocks.\n")
    assert "1 not released: block 10.99.2.0/26 is in use by blue.old.eth0" in err
    store.commit(Transaction([Delete("/netloom/v1/endpoints/id1/blue/old/eth0")]))
    assert command("release", f"--from-report={report}")[:2] == (
        0,
        "Released 0 IPs of 0 allocations.\nReleased 1 blocks.\n",
    )
    left = [
        entry.key.rpartition("/")[2] for entry in store.list("/netloom/v1/cluster/blocks/").entries
    ]
    assert left == ["10.244.1.0-26", "10.244.2.0-26", "10.98.0.0-26"]


def test_what_a_killed_deletion_of_a_pool_left_is_found_and_released(
    command: Calicoctl, put: Put, store: Store, tmp_path: Path
) -> None:
    """More blocks than a store takes at once: the pool goes with the first of them."""
    pools = [{"cidr": "10.244.0.0/16", "blockSize": 26}, {"cidr": "10.99.0.0/16", "blockSize": 26}]
    put("/netloom/v1/cluster/networks/blue", {"name": "blue", "pools": pools})
    for n in range(130):
        block = {"network": "blue", "cidr": f"10.99.{n}.0/26", "host": "id2", "state": "confirmed"}
        put(f"/netloom/v1/cluster/blocks/blue/10.99.{n}.0-26", block)
    with opened(load_settings({})) as cluster:
        kind = KINDS["IPPool"]
        pool = kind.find(cluster.picture(), "", "blue-ipv4-ippool-2")
        assert pool is not None
        operations = tuple(kind.keeping.removed(cluster.picture(), pool))
        cluster.commit(operations[:MAX_OPERATIONS], [])
    report = tmp_path / "report.json"
    left = len(operations) - MAX_OPERATIONS
    assert f"Check complete; found {left} problems." in command("check", "-o", str(report))[1]
    assert f"Released {left} blocks." in command("release", f"--from-report={report}")[1]
    assert "Check complete; found 0 problems." in command("check")[1]
    assert len(store.list("/netloom/v1/cluster/blocks/").entries) == 2


def test_a_block_whose_pool_came_back_since_the_report_is_kept(
    command: Calicoctl, put: Put, store: Store, tmp_path: Path
) -> None:
    orphans(put)
    report = tmp_path / "report.json"
    command("check", "-o", str(report))
    pools = [{"cidr": cidr, "blockSize": 26} for cidr in ("10.244.0.0/16", "10.99.0.0/16")]
    put("/netloom/v1/cluster/networks/blue", {"name": "blue", "pools": pools})
    assert "Released 1 blocks." in command("release", f"--from-report={report}")[1]
    assert store.get("/netloom/v1/cluster/blocks/blue/10.99.1.0-26")
