"""The backend is switched while traffic runs: nothing is lost, and nothing of the old one stays."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from typing import Any

import pytest

from netloom.lab.documents import default_document
from netloom.lab.lab import Lab, LabHost
from netloom.lab.traffic import Pings
from netloom.lab.waiting import wait_until

from .bgp_lab import settled

LabUp = Callable[..., Lab]
NETWORK = {"name": "default", "preset": "flannel"}


def switch(host: LabHost, *assignments: str) -> None:
    host.exec(["netloom", "network", "set", "default", *assignments])


def way(host: LabHost, block: str) -> str:
    routes: list[dict[str, Any]] = host.json(["ip", "-j", "route", "show", block])
    return str(routes[0]["dev"])


def block_of(host: LabHost) -> str:
    return str(host.status()["networks"][0]["blocks"][0]["cidr"])


@pytest.mark.parametrize("attachment", ["bridge", "routed"])
def test_a_backend_is_switched_there_and_back_without_losing_a_packet(
    lab_up: LabUp, attachment: str
) -> None:
    """From vxlan to host-gw and back, twice, under pings at 5 ms in both directions."""
    lab = lab_up(default_document(hosts=3, network={**NETWORK, "attachment": attachment}))
    h1, h2 = lab.host("h1"), lab.host("h2")
    a, b = h1.run("a"), h2.run("b")
    block = block_of(h2)
    with Pings(a, b.address, 0.005) as there, Pings(b, a.address, 0.005) as back:
        for backend in itertools.islice(itertools.cycle(("host-gw", "vxlan")), 4):
            switch(h1, f"backend={backend}")
            wait_until(lambda: settled(lab), deadline_s=60, what=f"the move to {backend}")
            expected = "ens33" if backend == "host-gw" else "flannel.1"
            assert way(h1, block) == expected
            links = h1.exec(["ip", "-br", "link"])
            assert ("flannel.1" in links) == (backend == "vxlan"), "the old device stayed"
    assert (there.lost, back.lost) == (0, 0)


def test_another_vni_is_another_device_and_costs_nothing(lab_up: LabUp) -> None:
    lab = lab_up(default_document(hosts=2, network=NETWORK))
    h1, h2 = lab.host("h1"), lab.host("h2")
    a, b = h1.run("a"), h2.run("b")
    with Pings(a, b.address, 0.005) as running:
        switch(h1, "backend.vni=77")
        wait_until(lambda: settled(lab), deadline_s=60, what="the move to VNI 77")
    assert running.lost == 0
    assert way(h1, block_of(h2)) == "flannel.77"


def test_a_host_that_is_late_is_reached_by_the_old_way_until_it_is_ready(lab_up: LabUp) -> None:
    lab = lab_up(default_document(hosts=3, network=NETWORK))
    h1, h2, h3 = lab.hosts
    a, b, late = h1.run("a"), h2.run("b"), h3.run("late")
    blocks = {host.name: block_of(host) for host in lab.hosts}
    with Pings(a, late.address, 0.005) as to_late, Pings(a, b.address, 0.005) as to_ready:
        lab.fault("h3", "kill-agent")
        switch(h1, "backend=host-gw")
        wait_until(lambda: way(h1, blocks["h2"]) == "ens33", deadline_s=60, what="h1 to h2 moved")
        assert way(h1, blocks["h3"]) == "flannel.1", "h3 has not said that it is ready"
        shown = h1.exec(["netloom", "network", "show", "default"])
        assert "moving" in shown
        assert "h3" in shown
        h3.start_agent()
        wait_until(lambda: settled(lab), deadline_s=60, what="the end of the move")
        assert way(h1, blocks["h3"]) == "ens33"
    assert (to_late.lost, to_ready.lost) == (0, 0)


@pytest.mark.parametrize(
    ("backend", "code", "words"),
    [
        ("host-gw", 3, ["is not on-link", "use backend vxlan"]),
        ("bgp", 4, ["a router is between h1 and h2", "write a BGPPeer", "--force"]),
    ],
)
def test_a_switch_that_cannot_work_is_refused_before_anything_moves(
    lab_up: LabUp, backend: str, code: int, words: list[str]
) -> None:
    """Plain packets to a host behind a router: named, with the remedy, and nothing is written."""
    lab = lab_up_router(lab_up)
    host = lab.hosts[0]
    wait_until(
        lambda: all(
            json.loads(e.value).get("segments")
            for e in lab.store().list("/netloom/v1/cluster/hosts/").entries
        ),
        deadline_s=60,
        what="every host's segments",
    )
    before = lab.store().list("/netloom/v1/cluster/networks/")
    done = host.popen(
        ["netloom", "network", "set", "default", f"backend={backend}"], stdout=-1, stderr=-1
    )
    _, said = done.communicate(timeout=90)
    assert done.returncode == code
    assert not [word for word in words if word not in said]
    assert lab.store().list("/netloom/v1/cluster/networks/").entries == before.entries


def test_bgp_over_a_router_that_heard_nothing_is_told_where_it_was_forced(lab_up: LabUp) -> None:
    lab = lab_up_router(lab_up, ({**NETWORK, "backend": "bgp"},))
    told = wait_until(
        lambda: [
            problem["text"]
            for problem in lab.hosts[0].status()["problems"]
            if "a router is between" in problem["text"]
        ],
        deadline_s=60,
        what="the warning",
    )
    assert "between this host and h2," in told[0]


def lab_up_router(
    lab_up: LabUp, networks: tuple[dict[str, Any], ...] = (NETWORK,), **options: Any
) -> Lab:
    """Bring up two hosts on two segments with a router between."""
    return lab_up(
        {
            "segments": [
                {"name": "left", "subnet": "192.168.31.0/24", "gateway": "192.168.31.1"},
                {"name": "right", "subnet": "192.168.32.0/24", "gateway": "192.168.32.1"},
            ],
            "routers": [
                {
                    "name": "gw",
                    "interfaces": [
                        {"name": "left", "segment": "left", "address": "192.168.31.1"},
                        {"name": "right", "segment": "right", "address": "192.168.32.1"},
                    ],
                }
            ],
            "hosts": [
                {
                    "name": "h1",
                    "interfaces": [
                        {"name": "ens33", "segment": "left", "address": "192.168.31.62"}
                    ],
                },
                {
                    "name": "h2",
                    "interfaces": [
                        {"name": "ens33", "segment": "right", "address": "192.168.32.63"}
                    ],
                },
            ],
            "networks": list(networks),
        },
        **options,
    )
