"""``netloom status`` and ``netloom plan`` against a real server that answers a known document."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from netloom.agent.contracts import Response
from netloom.agent.http import Server, serve
from netloom.cli.status import screen
from netloom.model.kernel import KINDS
from netloom.model.status import KernelStatus, NetworkStatus, PeerStatus, Status, StoreStatus
from netloom.model.view import Problem

NOON = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
WELL = Status(
    host_id="1a",
    host_name="h1",
    version="0.1.0",
    pid=42,
    started="2026-03-01T11:00:00+00:00",
    ready=True,
    underlay={"4": "192.168.31.62/24 on ens33"},
    underlay_reason="IPv4: 192.168.31.62 on ens33, the default route's",
    store=StoreStatus("sqlite:///x", "connected", "2026-03-01T11:59:00+00:00", 7),
    kernel=KernelStatus(7, "2026-03-01T11:59:57+00:00", {"route": 3, "fdb": 2}, {"nft": 1}),
    networks=(
        NetworkStatus(
            "blue", "vxlan", "bridge", 1450, ({"cidr": "10.244.1.0/24", "used": 2, "size": 253},)
        ),
    ),
    peers=(PeerStatus("2b", "h2", ("192.168.31.63",), ("10.244.2.0/24",), "vxlan flannel.1"),),
    endpoints=2,
)


@pytest.fixture
def agent(
    run_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str, Any], AbstractContextManager[Server]]:
    path = run_dir / "agent.sock"
    monkeypatch.setenv("NETLOOM_SOCKET", str(path))

    def answering(url: str, document: Any) -> AbstractContextManager[Server]:
        return serve(path, {("GET", url): lambda request: Response(data=document)})

    return answering


def test_one_screen_tells_agent_store_kernel_blocks_and_peers() -> None:
    assert screen(json.loads(json.dumps(WELL.render())), NOON).splitlines() == [
        "host        h1 (1a): well",
        "agent       netloom 0.1.0, process 42, up 60 min",
        "underlay    IPv4: 192.168.31.62 on ens33, the default route's",
        "store       sqlite:///x",
        "            revision 7, connected since 60 s",
        "kernel      revision 7, applied 3 s ago",
        "            2 FDB entries, 3 routes",
        "repaired    1 nft table",
        "containers  2 attached interfaces",
        "",
        "NETWORK  BACKEND  ATTACHMENT   MTU  BLOCK            IN USE",
        "blue     vxlan    bridge      1450  10.244.1.0/24  2 of 253",
        "",
        "PEER  ADDRESS        BLOCK          REACHED BY       STATE",
        "h2    192.168.31.63  10.244.2.0/24  vxlan flannel.1  ok",
    ]


def test_ways_through_several_networks_have_a_line_each_that_names_its_network() -> None:
    ways = {"blue": "vxlan flannel.1 to 192.168.31.63", "red": "host-gw via 192.168.31.63"}
    blocks = ("10.99.2.0/24", "10.244.2.0/24")
    peer = replace(WELL.peers[0], blocks=blocks, path="; ".join(ways.values()), paths=ways)
    found = json.loads(json.dumps(replace(WELL, peers=(peer,)).render()))
    lines = screen(found, NOON).splitlines()[-2:]
    assert [" ".join(line.split()) for line in lines] == [
        "h2 192.168.31.63 10.99.2.0/24 blue: vxlan flannel.1 to 192.168.31.63 ok",
        "10.244.2.0/24 red: host-gw via 192.168.31.63",
    ]


def test_a_screen_is_no_wider_when_much_of_every_kind_stands_and_was_repaired() -> None:
    many = dict.fromkeys(KINDS, 12_345)
    busy = replace(WELL, kernel=KernelStatus(7, "2026-03-01T11:59:57+00:00", many, many))
    lines = screen(json.loads(json.dumps(busy.render())), NOON).splitlines()
    assert max(map(len, lines)) <= 88
    assert sum(line.count("12345 routes") for line in lines) == 2


def test_a_well_host_exits_0_and_gives_its_document(agent: Callable, netloom: Callable) -> None:
    with agent("/v1/status", WELL.render()):
        said = netloom("status", "-o", "json")
    assert (said.code, said.data["store"]["revision"], said.data["well"]) == (0, 7, True)


def test_a_problem_exits_6_and_tells_the_remedy(agent: Callable, netloom: Callable) -> None:
    ill = replace(
        WELL,
        store=StoreStatus("sqlite:///x", "away", "2026-03-01T11:59:00+00:00", 7, "disk is full"),
        kernel=KernelStatus(5, "", {}, {}, ("add route 10.0.0.0/8: EINVAL",)),
        problems=(Problem("error", "peer h2", "is not on-link", "use backend vxlan"),),
    )
    with agent("/v1/status", ill.render()):
        said = netloom("status")
    assert said.code == 6
    for words in (
        "NOT WELL",
        "away since",
        "disk is full",
        "2 behind the store",
        "refused: add route 10.0.0.0/8: EINVAL",
        "error: peer h2: is not on-link",
        "remedy: use backend vxlan",
    ):
        assert words in said.out


@pytest.mark.parametrize("verb", ["status", "plan"])
def test_without_an_agent_they_exit_6_and_say_how_to_start_one(
    netloom: Callable, run_dir: Path, verb: str
) -> None:
    said = netloom(verb, "--socket", str(run_dir / "none.sock"))
    assert (said.code, said.out) == (6, "")
    assert "systemctl start netloom" in said.err


PLAN = {
    "revision": 7,
    "changes": [
        {"verb": "add", "object": "route 10.244.2.0/24 via 192.168.31.63", "reason": "missing"},
        {"verb": "delete", "object": "link flannel.1", "reason": ""},
    ],
    "problems": [
        {"severity": "warning", "subject": "peer h3", "text": "is late", "remedy": "wait"}
    ],
}


def test_a_plan_is_shown_in_order_and_check_exits_10(agent: Callable, netloom: Callable) -> None:
    with agent("/v1/plan", PLAN):
        said = netloom("plan")
        assert netloom("plan", "--check").code == 10
        assert netloom("plan", "-o", "json").data == PLAN
    assert said == (
        0,
        "+ route 10.244.2.0/24 via 192.168.31.63  (missing)\n- link flannel.1\n"
        "2 changes at revision 7\nwarning: peer h3: is late\n  remedy: wait\n",
        "",
    )


def test_a_kernel_that_is_as_it_should_be_passes_the_check(
    agent: Callable, netloom: Callable
) -> None:
    with agent("/v1/plan", {"revision": 7, "changes": [], "problems": []}):
        said = netloom("plan", "--check")
    assert said.code == 0
    assert said.out == "nothing to change: the kernel is as it should be at revision 7\n"
