"""``netloom host`` on a real datastore."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from netloom.model import keys
from netloom.model.addr import parse_address, parse_network
from netloom.model.datastore import Put, Store, Transaction
from netloom.model.endpoint import Endpoint
from netloom.model.host import Block, Host


@pytest.fixture
def cluster(store: Store, put: Callable) -> Store:
    """h1 alive with a block, h2 gone with 120 blocks and a container."""
    for host_id, name, last in (("1a", "h1", 62), ("2b", "h2", 63)):
        one = Host(host_id, name, parse_address(f"192.168.31.{last}", "a"))
        put(keys.host_key(host_id), one.render())
    lease = store.grant(60)
    store.commit(Transaction([Put(keys.alive_key("1a"), b"{}", lease)]))
    for number in range(121):
        cidr = parse_network(f"10.244.{number}.0/24", "c")
        block = Block("blue", cidr, "1a" if number == 0 else "2b", True)
        put(keys.block_key("blue", cidr), block.render())
    mirrored = Endpoint(
        *("blue", "2b", "c1", "eth0", "/run/netns/x", "veth1", "02:00:00:00:00:01"),
        addresses=(parse_address("10.244.1.2", "a"),),
        attached=True,
    )
    put(keys.endpoint_key("2b", "blue", "c1", "eth0"), mirrored.render())
    return store


def test_hosts_are_listed_with_address_heartbeat_and_blocks(
    cluster: Store, netloom: Callable
) -> None:
    one, two = netloom("host", "list", "-o", "json").data
    assert (one["name"], one["alive"], one["addresses"]) == ("h1", True, ["192.168.31.62"])
    assert [block["cidr"] for block in one["blocks"]] == ["10.244.0.0/24"]
    assert (two["alive"], len(two["blocks"]), two["containers"]) == (False, 120, 1)
    line = netloom("host", "list").out.splitlines()[1].split()
    assert line == ["h1", "yes", "192.168.31.62", "10.244.0.0/24", "blue", "0", "1a"]


@pytest.mark.parametrize("name", ["h2", "2b"])
def test_a_host_is_found_by_name_and_by_id(cluster: Store, netloom: Callable, name: str) -> None:
    found = netloom("host", "show", name, "-o", "json").data
    assert (found["id"], found["endpoints"][0]["container"]) == ("2b", "c1")
    assert "10.244.1.2" in netloom("host", "show", name).out


def test_an_unknown_host_is_answered_with_the_nearest(cluster: Store, netloom: Callable) -> None:
    said = netloom("host", "show", "h22")
    assert (said.code, "did you mean 'h2'?" in said.err) == (3, True)


def test_of_two_hosts_with_one_name_the_ids_are_told(
    cluster: Store, netloom: Callable, put: Callable
) -> None:
    put(keys.host_key("3c"), Host("3c", "h2").render())
    said = netloom("host", "forget", "h2")
    assert (said.code, "2b, 3c" in said.err) == (3, True)


def test_forgetting_a_live_host_is_refused_and_changes_nothing(
    cluster: Store, netloom: Callable
) -> None:
    before = cluster.list(keys.ROOT)
    said = netloom("host", "forget", "h1")
    assert (said.code, "is alive" in said.err) == (4, True)
    assert cluster.list(keys.ROOT) == before


def test_forget_removes_record_blocks_and_containers_of_that_host_alone(
    cluster: Store, netloom: Callable
) -> None:
    assert netloom("host", "forget", "h2", "--dry-run").code == 0
    assert cluster.get(keys.host_key("2b")) is not None
    assert netloom("host", "forget", "h2").code == 0
    left = [entry.key for entry in cluster.list(keys.ROOT).entries]
    assert left == [
        keys.alive_key("1a"),
        keys.block_key("blue", parse_network("10.244.0.0/24", "c")),
        keys.host_key("1a"),
    ]


def test_a_forget_cut_off_halfway_is_completed_by_repeating_it(
    cluster: Store, netloom: Callable
) -> None:
    """The record may be gone before a block that was claimed in between: the id still finds it."""
    assert netloom("host", "forget", "h2").code == 0
    late = Block("blue", parse_network("10.244.200.0/24", "c"), "2b", False)
    value = json.dumps(late.render()).encode()
    cluster.commit(Transaction([Put(keys.block_key("blue", late.cidr), value)]))
    assert netloom("host", "forget", "2b").code == 0
    assert cluster.get(keys.block_key("blue", late.cidr)) is None


def test_force_forgets_a_live_host(cluster: Store, netloom: Callable) -> None:
    assert netloom("host", "forget", "h1", "--force").code == 0
    assert cluster.get(keys.host_key("1a")) is None


def test_a_host_shows_what_its_kernel_can_make_and_how_to_get_the_rest(
    put: Callable, netloom: Callable
) -> None:
    one = Host("1a", "h1", devices={"vxlan": True, "ipip": False})
    put(keys.host_key("1a"), one.render())
    assert netloom("host", "show", "h1", "-o", "json").data["devices"] == dict(one.devices)
    shown = netloom("host", "show", "h1").out
    assert "vxlan" in shown
    assert "no ipip: load the module with `modprobe ipip`" in shown
    assert "CONFIG_NET_IPIP" in shown


def test_a_letter_that_the_locale_has_not_is_written_out(put: Callable[[str, Any], int]) -> None:
    """It ended in a traceback of Python's."""
    put(keys.host_key("h1"), {"id": "h1", "name": "n\u00f6"})
    locale = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = subprocess.run(
        [sys.executable, "-m", "netloom", "host", "list"],
        env={**os.environ, **locale},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, "n\\xf6" in done.stdout) == (0, True), done.stdout + done.stderr
