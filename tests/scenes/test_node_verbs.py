"""``node run``, ``status``, ``checksystem``, ``diags`` on hosts of a lab, as calicoctl has them."""

from __future__ import annotations

import json
import re
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from netloom.lab.documents import default_document
from netloom.lab.lab import Lab, LabHost
from netloom.lab.place import CommandFailed
from netloom.lab.waiting import wait_until

LabUp = Callable[..., Lab]


@pytest.fixture
def bare(lab_up: LabUp) -> Lab:
    """Three hosts on 192.168.31.0/24 without agents or networks."""
    return lab_up(default_document(3, None), run_agents=False)


def node_run(host: LabHost, logs: Path, *options: str, **variables: str) -> str:
    words = [f"{name}={value}" for name, value in variables.items()]
    command = ["netloom", "node", "run", "--log-dir", str(logs / host.name), *options]
    return host.exec(["env", *words, *command])


def test_node_run_starts_agents_that_peer_with_each_other(bare: Lab, tmp_path: Path) -> None:
    """Scene 1, items 2 and 3: the words, the table, and its columns."""
    said = [node_run(host, tmp_path) for host in bare.hosts]
    # 192.168.0.0/16 is where the hosts are: the first range that is free is taken.
    assert said[0].splitlines() == [
        "Creating default pool 172.16.0.0/16",
        "Calico node started successfully",
    ]
    assert said[1].splitlines() == ["Calico node started successfully"]
    assert node_run(bare.host("h2"), tmp_path).splitlines() == ["Calico node is running already"]
    h1 = bare.host("h1")
    wait_until(
        lambda: h1.exec(["netloom", "node", "status"]).count("Established") == 2,
        deadline_s=60,
        what="a full mesh",
    )
    lines = h1.exec(["netloom", "node", "status"]).splitlines()
    assert lines[:6] == [
        "Calico process is running.",
        "",
        "IPv4 BGP status",
        "+---------------+-------------------+-------+----------+-------------+",
        "| PEER ADDRESS  |     PEER TYPE     | STATE |  SINCE   |    INFO     |",
        "+---------------+-------------------+-------+----------+-------------+",
    ]
    row = (
        r"\| 192\.168\.31\.6[34] \| node-to-node mesh \| up    \| \d\d:\d\d:\d\d \| Established \|"
    )
    assert all(re.fullmatch(row, line) for line in lines[6:8])
    assert lines[9:12] == ["", "IPv6 BGP status", "No IPv6 peers found."]
    pools = h1.exec(["netloom", "get", "ippools", "-o", "wide"]).splitlines()
    assert pools[1].split() == [
        "default-ipv4-ippool", "172.16.0.0/16", "true", "Never", "Never", "false", "false",
        "all()", "Automatic",
    ]  # fmt: skip


def test_status_of_a_host_without_an_agent_says_so_with_calicoctls_exit_code(bare: Lab) -> None:
    with pytest.raises(CommandFailed) as caught:
        bare.host("h1").exec(["netloom", "node", "status"])
    assert (caught.value.code, caught.value.output) == (1, "Calico process is not running.\n")


def test_calico_nodes_variables_choose_card_number_name_and_pool(bare: Lab, tmp_path: Path) -> None:
    h1 = bare.host("h1")
    node_run(
        h1,
        tmp_path,
        NODENAME="node-one",
        AS="64999",
        IP="192.168.31.62/24",
        CALICO_IPV4POOL_CIDR="10.9.0.0/16",
        CALICO_IPV4POOL_VXLAN="CrossSubnet",
        CALICO_IPV4POOL_BLOCK_SIZE="28",
    )
    nodes = h1.exec(["netloom", "get", "nodes", "-o", "wide"]).splitlines()
    assert nodes[1].split() == ["node-one", "64999", "192.168.31.62/24"]
    (pool,) = json.loads(h1.exec(["netloom", "get", "ippools", "-o", "json"]))["items"]
    assert pool["spec"]["cidr"] == "10.9.0.0/16"
    assert (pool["spec"]["vxlanMode"], pool["spec"]["blockSize"]) == ("CrossSubnet", 28)
    assert "interface 192.168.31.62" in h1.exec(["netloom", "node", "status"])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--ip", "10.0.0.300"], "--ip: '10.0.0.300' is not an IPv4 address"),
        (["--ip-autodetection-method", "cidr=1.2.3.4/8"], "did you mean 1.0.0.0/8?"),
        (["--as", "0"], "is not an AS number"),
    ],
)
def test_bad_options_are_refused_and_nothing_is_started_or_written(
    bare: Lab, tmp_path: Path, options: list[str], words: str
) -> None:
    h1 = bare.host("h1")
    with pytest.raises(CommandFailed) as caught:
        node_run(h1, tmp_path, *options)
    assert caught.value.code == 3
    assert words in caught.value.output
    assert not (tmp_path / "h1").exists()
    assert h1.exec(["netloom", "get", "nodes"], check=False).split() in ([], ["NAME"])


def test_an_agent_that_cannot_start_is_told_with_its_last_words(bare: Lab, tmp_path: Path) -> None:
    with pytest.raises(CommandFailed) as caught:
        node_run(bare.host("h1"), tmp_path, NETLOOM_METRICS_LISTEN="192.0.2.1:1")
    assert caught.value.code == 6
    assert "192.0.2.1" in caught.value.output


def test_checksystem_names_what_is_there(bare: Lab) -> None:
    said = bare.host("h1").exec(["netloom", "node", "checksystem"])
    assert said.splitlines()[-1] == "System meets minimum system requirements to run Calico!"
    assert re.search(r"vxlan \(backend vxlan\) +OK", said)


def test_diags_gather_tables_and_logs_in_one_private_file(lab_up: LabUp, tmp_path: Path) -> None:
    h1 = lab_up(default_document(1)).host("h1")
    (tmp_path / "agent.log").write_text("last words\n")
    said = h1.exec(["env", f"TMPDIR={tmp_path}", "netloom", "node", "diags",
                    "--log-dir", str(tmp_path)])  # fmt: skip
    path = Path(said.splitlines()[-1].removeprefix("Diags saved to "))
    assert re.fullmatch(r"diags-\d{8}_\d{6}\.tar\.gz", path.name)
    assert path.stat().st_mode & 0o077 == 0
    with tarfile.open(path) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
        inside = f"{path.name.removesuffix('.tar.gz')}/routes"
        routes = archive.extractfile(inside)
        assert routes is not None
        assert b"192.168.31.0/24 dev ens33" in routes.read()
    assert {"status.json", "nft", "fdb", "logs/agent.log"} <= names
