"""``calicoctl ipam`` on a real datastore: the tables and sentences that its users know."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from netloom.cli import calicoctl
from netloom.cli.main import explain
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
    code, _, err = command("configure", "--strictaffinity=false")
    assert (code, "no host ever borrows" in err) == (0, True)
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
    assert command("release", f"--from-report={report}")[0] == 6
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
