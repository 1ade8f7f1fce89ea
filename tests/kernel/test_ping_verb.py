"""``netloom ping`` run by a host between real namespaces, from what the datastore says."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

from netloom.model import keys
from netloom.model.datastore import Put, Transaction
from netloom.model.endpoint import Endpoint
from netloom.model.host import Host
from netloom.store.opening import open_store


@pytest.fixture
def url(tmp_path: Path) -> str:
    """Two hosts, each with one container; the containers are plain namespaces' addresses."""
    text = f"sqlite://{tmp_path}/cluster.db"
    store = open_store(text)
    for number, host_id in ((62, "1a"), (63, "2b")):
        host = Host(host_id, f"h{number}", ip_address(f"192.168.31.{number}"))
        store.commit(Transaction([Put(keys.host_key(host_id), json.dumps(host.render()).encode())]))
    far = Endpoint(
        *("blue", "2b", "f" * 64, "eth0", "/nowhere", "veth1", "02:00:00:00:00:01"),
        addresses=(ip_address("10.244.2.2"),),
        attached=True,
    )
    key = keys.endpoint_key("2b", "blue", far.container_id, "eth0")
    store.commit(Transaction([Put(key, json.dumps(far.render()).encode())]))
    store.close()
    return text


def run(host: Any, url: str, *args: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "netloom", "ping", "--datastore", url, "--host-id", "1a"]
    return subprocess.run(
        ["nsenter", f"--net={host.path}", *command, *args],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
        env=os.environ,
    )


def test_from_this_host_to_all_others_and_their_containers(
    two_hosts: tuple[Any, Any], url: str
) -> None:
    near, far = two_hosts
    far.run("ip", "address", "add", "10.244.2.2/32", "dev", "lo")
    near.run("ip", "route", "add", "10.244.2.0/24", "via", "192.168.31.63")
    done = run(near, url, "--timeout", "60", "-o", "json")
    assert done.returncode == 0, done.stdout + done.stderr
    answers = json.loads(done.stdout)["answers"]
    assert [(a["from"], a["to"], a["reached"]) for a in answers] == [
        ("h62", "h63", True),
        ("h62", "h63/ffffffffffff", True),
    ]


def test_one_that_is_not_reached_makes_the_exit_code_6(
    two_hosts: tuple[Any, Any], url: str
) -> None:
    done = run(two_hosts[0], url, "--timeout", "60")
    assert done.returncode == 6
    assert "1 of 2 reached" in done.stdout
    assert "h62 -> h63/ffffffffffff 10.244.2.2: Network is unreachable" in done.stdout
