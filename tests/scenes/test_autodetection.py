"""Which network card? Calico's methods on hosts with two cards, changed while agents run."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from netloom.lab.documents import load_document
from netloom.lab.lab import Lab
from netloom.lab.place import CommandFailed
from netloom.lab.waiting import wait_until

LabUp = Callable[..., Lab]
METHOD = "netloom/ip-autodetection-method"

#: The table of scene 3: what vms71 is told, and by which address it then reaches vms72's block.
TABLE = [
    ("interface=ens33,eth0", "192.168.30.72"),
    ("interface=ens32,eth1", "192.168.26.72"),
    ("skip-interface=eth1,ens32", "192.168.30.72"),
    ("can-reach=192.168.30.1", "192.168.30.72"),
    ("cidr=192.168.26.0/24", "192.168.26.72"),
]


@pytest.fixture
def lab(lab_up: LabUp) -> Lab:
    return lab_up(load_document("two-cards"))


def choose(lab: Lab, method: str | None) -> None:
    """Tell both hosts by one patch each, as an operator would."""
    for name in ("vms71", "vms72"):
        patch = json.dumps({"metadata": {"annotations": {METHOD: method}}})
        lab.host("vms71").exec(["netloom", "patch", "node", name, "-p", patch])


def test_a_changed_method_moves_the_tunnel_while_agents_run(lab: Lab) -> None:
    vms71, vms72 = lab.host("vms71"), lab.host("vms72")
    a, b = vms71.run("aa"), vms72.run("bb")
    assert a.pings(b.address)
    for method, remote in TABLE:
        choose(lab, method)
        wait_until(
            lambda remote=remote: f"dst {remote}" in vms71.exec(["bridge", "fdb", "show"]),
            deadline_s=10,
            what=f"the tunnel to go to {remote} by {method}",
        )
        wait_until(lambda: a.pings(b.address), deadline_s=10, what=f"traffic by {method}")
        assert method.replace("=", " ", 1) in vms71.status()["underlay_reason"]
    choose(lab, None)
    wait_until(
        lambda: "default route" in vms71.status()["underlay_reason"],
        deadline_s=10,
        what="the default route's card again",
    )
    wait_until(lambda: bool(vms71.status()["well"]), deadline_s=10, what="all well")


def test_every_candidate_is_shown_with_its_reason(lab: Lab) -> None:
    vms71 = lab.host("vms71")
    choose(lab, "interface=ens33,eth0")
    wait_until(
        lambda: "ens33" in vms71.status()["underlay"].get("ipv4", ""),
        deadline_s=10,
        what="the choice",
    )
    said = vms71.exec(["netloom", "host", "show", "vms71"])
    rows = [line.split(maxsplit=3) for line in said.splitlines() if line.startswith("ens3")]
    assert rows == [
        ["ens32", "192.168.26.71/24", "no", "not chosen by IPv4: interface ens33,eth0"],
        ["ens33", "192.168.30.71/24", "yes", "by interface ens33,eth0"],
    ]


def test_a_host_that_chose_another_segment_than_its_peer_is_warned(lab: Lab) -> None:
    vms71 = lab.host("vms71")
    patch = json.dumps({"metadata": {"annotations": {METHOD: "interface=ens33"}}})
    vms71.exec(["netloom", "patch", "node", "vms71", "-p", patch])
    wait_until(
        lambda: any(
            "192.168.26.72 is reached over ens32, not over ens33" in problem["text"]
            for problem in vms71.status()["problems"]
        ),
        deadline_s=10,
        what="the warning",
    )


def test_a_method_that_finds_nothing_leaves_the_tunnel_and_is_told(lab: Lab) -> None:
    vms71, vms72 = lab.host("vms71"), lab.host("vms72")
    a, b = vms71.run("aa"), vms72.run("bb")
    choose(lab, "cidr=203.0.113.0/24")
    wait_until(
        lambda: any("203.0.113.0/24" in p["text"] for p in vms71.status()["problems"]),
        deadline_s=10,
        what="the problem",
    )
    assert a.pings(b.address)
    vms71.exec(["ip", "route", "del", *vms71_route(vms71.exec(["ip", "route"]))])
    wait_until(lambda: a.pings(b.address), deadline_s=10, what="the repair all the same")


def vms71_route(table: str) -> list[str]:
    """Return the destination of the route to the peer's block."""
    return next(line.split()[:1] for line in table.splitlines() if "dev flannel.1" in line)


def test_a_method_that_does_not_parse_is_refused_before_it_is_written(lab: Lab) -> None:
    vms71 = lab.host("vms71")
    patch = json.dumps({"metadata": {"annotations": {METHOD: "intreface=ens33"}}})
    with pytest.raises(CommandFailed) as caught:
        vms71.exec(["netloom", "patch", "node", "vms71", "-p", patch])
    assert caught.value.code == 3
    assert "did you mean 'interface'?" in caught.value.output
