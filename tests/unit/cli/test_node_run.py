"""What ``node run`` writes of the cluster before the agent starts."""

from __future__ import annotations

import os
import socket
import tempfile
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from netloom.cli import node_run
from netloom.cli.node_cluster import Options, tell_cluster
from netloom.cli.settings import load_settings
from netloom.model.errors import InvalidConfig, NotPermitted

Netloom = Callable[..., Any]
PLAIN = Options({4: "", 6: ""}, {4: "", 6: ""}, "", "h1", "bird", False, "")


def with_as(number: int) -> Options:
    return replace(PLAIN, as_number=str(number))


def test_an_as_number_leaves_the_rest_of_what_people_said_of_a_host(
    netloom: Netloom, url: str
) -> None:
    settings = load_settings({}, os.environ)
    tell_cluster(settings, with_as(65001), "Host-1")
    netloom("label", "node", "Host-1", "rack=7")
    change = '{"spec": {"bgp": {"routeReflectorClusterID": "244.0.0.1"}}}'
    netloom("patch", "node", "Host-1", "-p", change)
    tell_cluster(settings, with_as(65002), "Host-1")
    got = netloom("get", "node", "Host-1", "-o", "json").data
    assert got["metadata"]["labels"] == {"rack": "7"}
    assert got["spec"]["bgp"] == {"asNumber": "65002", "routeReflectorClusterID": "244.0.0.1"}


def test_hosts_that_start_together_make_one_default_pool(netloom: Netloom, url: str) -> None:
    settings = load_settings({}, os.environ)
    begin = threading.Barrier(6)
    failed: list[BaseException] = []

    def start(number: int) -> None:
        begin.wait(timeout=60)
        try:
            tell_cluster(settings, with_as(65001 + number), f"h{number}")
        except Exception as error:  # noqa: BLE001 - whatever it is, the test says it
            failed.append(error)

    threads = [threading.Thread(target=start, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=100)
    assert failed == []
    assert len(netloom("get", "ippools").out.splitlines()) == 3
    assert len(netloom("get", "nodes").out.splitlines()) == 8


def test_where_no_default_range_is_free_the_remedy_is_told(
    url: str, put: Callable[[str, Any], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    there = {"id": "h1", "name": "h1", "segments": ["192.168.0.0/16", "172.16.0.0/12"]}
    put("/netloom/v1/cluster/hosts/h1", there)
    with pytest.raises(InvalidConfig, match="CALICO_IPV4POOL_CIDR") as caught:
        tell_cluster(load_settings({}, os.environ), PLAIN, "h1")
    assert "--no-default-ippools" in caught.value.hint
    monkeypatch.setenv("CALICO_IPV4POOL_CIDR", "10.9.0.0/16")
    tell_cluster(load_settings({}, os.environ), PLAIN, "h1")


def test_a_log_folder_that_cannot_be_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(NotPermitted, match="file"):
        node_run._log(tmp_path / "file")


def test_an_agent_that_has_no_time_to_answer_is_not_started_a_second_time(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with (
        tempfile.TemporaryDirectory(prefix="nl-") as folder,
        socket.socket(socket.AF_UNIX) as listener,
    ):
        listener.bind(f"{folder}/a.sock")
        listener.listen()
        settings = load_settings({"socket": f"{folder}/a.sock"}, os.environ)
        node_run._start(settings, {}, tmp_path / "logs")
    assert capsys.readouterr().out == "Calico node is running already\n"
    assert not (tmp_path / "logs").exists()


@pytest.mark.parametrize("said", ["fd00::1", "10.0.0.1/33", "host", "10.0.0.1;public=1.2.3.4"])
def test_an_address_that_is_none_is_refused(said: str) -> None:
    with pytest.raises(InvalidConfig, match="is not an IPv4 address"):
        Options({4: said, 6: ""}, {4: "", 6: ""}, "", "", "bird", False, "").interface()


def test_an_address_is_taken_without_its_length() -> None:
    options = Options({4: "10.0.0.1/24", 6: "none"}, {4: "", 6: ""}, "", "", "bird", False, "")
    assert options.interface() == "4:interface=10.0.0.1;6:none"


@pytest.mark.parametrize("name", ["a b", "../x", "-a", "n" * 254, "x;\ny"])
def test_a_name_by_which_no_resource_could_name_the_host_is_refused(
    netloom: Netloom, name: str
) -> None:
    said = netloom("node", "run", "--dryrun", f"--name={name}")
    assert (said.code, said.out) == (3, "")
    assert "--name" in said.err
    assert "NETLOOM_HOST_NAME=Rack_1.Example.org" in (
        netloom("node", "run", "--dryrun", "--name=Rack_1.Example.org").out
    )
