"""Which network card? Calico's methods on hosts with two cards, changed while agents run."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from netloom.lab.documents import DEFAULT_NETWORK, load_document
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
    document = load_document("scene3")
    del document["hosts"][1]["blocks"]
    return lab_up({**document, "networks": [dict(DEFAULT_NETWORK)]})  # its own needs module ipip


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
            deadline_s=120,
            what=f"the tunnel to go to {remote} by {method}",
        )
        wait_until(lambda: a.pings(b.address), deadline_s=120, what=f"traffic by {method}")
        assert method.replace("=", " ", 1) in vms71.status()["underlay_reason"]
    choose(lab, None)
    wait_until(
        lambda: "default route" in vms71.status()["underlay_reason"],
        deadline_s=120,
        what="the default route's card again",
    )
    wait_until(lambda: bool(vms71.status()["well"]), deadline_s=120, what="all well")


def test_every_candidate_is_shown_with_its_reason(lab: Lab) -> None:
    vms71 = lab.host("vms71")
    choose(lab, "interface=ens33,eth0")
    wait_until(
        lambda: "ens33" in vms71.status()["underlay"].get("ipv4", ""),
        deadline_s=120,
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
        deadline_s=120,
        what="the warning",
    )


def test_a_method_that_finds_nothing_leaves_the_tunnel_and_is_told(lab: Lab) -> None:
    vms71, vms72 = lab.host("vms71"), lab.host("vms72")
    a, b = vms71.run("aa"), vms72.run("bb")
    choose(lab, "cidr=203.0.113.0/24")
    wait_until(
        lambda: any("203.0.113.0/24" in p["text"] for p in vms71.status()["problems"]),
        deadline_s=120,
        what="the problem",
    )
    assert a.pings(b.address)
    vms71.exec(["ip", "route", "del", *vms71_route(vms71.exec(["ip", "route"]))])
    wait_until(lambda: a.pings(b.address), deadline_s=120, what="the repair all the same")


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


#: The same for IPv6, by Calico's own variable; IPv4's has its own, and keeps what that says.
TABLE_6 = [
    ("cidr=fd30::/64", "fd30::72"),
    ("cidr=fd26::/64", "fd26::72"),
    ("interface=ens33,eth0", "fd30::72"),
    ("interface=ens32,eth1", "fd26::72"),
    ("can-reach=fd30::1", "fd30::72"),
]


def of_both_families() -> dict[str, Any]:
    """Return scene 3 with an IPv6 subnet on either segment, its addresses ending as IPv4's do."""
    document = load_document("scene3")
    del document["hosts"][1]["blocks"]
    for segment, prefix in zip(document["segments"], ("fd26::", "fd30::"), strict=True):
        segment["subnets"] = [segment.pop("subnet"), f"{prefix}/64"]
    for node in (*document["routers"], *document["hosts"]):
        for card, prefix in zip(node["interfaces"], ("fd26::", "fd30::"), strict=True):
            address = card.pop("address")
            card["addresses"] = [address, prefix + address.rpartition(".")[2]]
    pools = ["10.244.0.0/16", "fd00:244::/48"]
    return {**document, "networks": [{**DEFAULT_NETWORK, "pools": pools}]}


def test_the_variable_for_ipv6_chooses_its_card_and_leaves_ipv4_alone(
    lab_up: LabUp, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab = lab_up(of_both_families())
    vms71, vms72 = lab.host("vms71"), lab.host("vms72")
    a, b = vms71.run("aa"), vms72.run("bb")
    monkeypatch.setenv("IP_AUTODETECTION_METHOD", "cidr=192.168.26.0/24")
    for method, remote in TABLE_6:
        monkeypatch.setenv("IP6_AUTODETECTION_METHOD", method)
        for host in lab.hosts:
            lab.fault(host.name, "kill-agent")
            host.start_agent()
        wait_until(
            lambda remote=remote: f"dst {remote}" in vms71.exec(["bridge", "fdb", "show"]),
            deadline_s=120,
            what=f"the tunnel to go to {remote} by {method}",
        )
        assert "dst 192.168.26.72" in vms71.exec(["bridge", "fdb", "show"])
        assert method.replace("=", " ", 1) in vms71.status()["underlay_reason"]
        for address in b.addresses:
            wait_until(
                lambda address=address: a.pings(address),
                deadline_s=120,
                what=f"traffic to {address} by {method}",
            )
