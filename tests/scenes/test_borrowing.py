"""A host without a free block borrows single addresses, and they are routed to where they are."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from netloom.lab.host import LabContainer
from netloom.lab.lab import Lab, LabHost
from netloom.lab.place import Place
from netloom.lab.traffic import Pings
from netloom.lab.waiting import wait_until
from netloom.model.errors import NetloomError

from . import routers
from .bgp_lab import document
from .test_bgp_resources import apply, resource

LabUp = Callable[..., Lab]
#: Two blocks for three hosts.
POOLS = [{"cidr": "10.60.0.0/29", "blockSize": 30}]
DUAL = [*POOLS, {"cidr": "fd60::/125", "blockSize": 126}]
BORROWING = {"mode": "on-demand", "borrowing": True}


def loans(lab: Lab) -> dict[str, tuple[str, str]]:
    """Return by address who lent it and who has it, as ``netloom ipam show`` says."""
    listed = json.loads(
        lab.hosts[0].exec(["netloom", "ipam", "show", "--show-blocks", "-o", "json"])
    )
    return {
        block["cidr"].split("/")[0]: (block["lender"], block["host"])
        for pool in listed
        for block in pool["blocks"]
        if block.get("lender") and block["state"] == "confirmed"
    }


def reached(place: Place, *others: Place) -> None:
    for other in others:
        wait_until(
            lambda: place.pings(other.address) and other.pings(place.address),  # noqa: B023
            deadline_s=120,
            what=f"{place.name} and {other.name} reach each other",
        )


def gone(lab: Lab, address: str) -> None:
    """Wait until nobody has borrowed ``address``, and no host has a route for it."""
    wait_until(
        lambda: (
            address not in loans(lab)
            and not any(
                line.split()[:2] in ([address, "via"], ["blackhole", address])
                for host in lab.hosts
                for line in host.exec(["ip", "route"]).splitlines()
            )
        ),
        deadline_s=120,
        what=f"{address} is given back",
    )


def surely(host: LabHost, name: str) -> LabContainer:
    """Run a container as a runtime does: again, where a lender did not answer in its time."""
    wait_until(lambda: run_or_nothing(host, name), deadline_s=90, what=f"an address for {name}")
    return host.container(name)


def filled(host: LabHost) -> list[str]:
    """Run containers until no address is left; return theirs."""
    found: list[str] = []
    number = len(host.containers())
    while address := run_or_nothing(host, f"full{number + len(found)}"):
        found.append(address)
    return found


@pytest.mark.parametrize(
    ("backend", "pools"),
    [("bgp", POOLS), ("vxlan", DUAL), ("host-gw", POOLS)],
    ids=lambda v: str(v)[:6],
)
def test_a_borrowed_address_is_reached_from_everywhere_and_goes_back(
    lab_up: LabUp, backend: str, pools: list[dict[str, Any]]
) -> None:
    lab = lab_up(document(pools=pools, addressing=BORROWING, backend=backend))
    one, two, three = lab.hosts
    a, b = one.run("a"), two.run("b")
    c = surely(three, "c")
    lender, borrower = (lab.host(name) for name in loans(lab)[c.address])
    assert borrower.name == three.name
    reached(c, a, b)
    last = three.exec(["ip", "route", "show", c.address]).splitlines()
    assert f"{c.address} dev cali" in last[0], "its container's route comes before the blackhole"
    with Pings(a, c.address, 0.01) as pings:
        lab.fault(lender.name, "kill-agent")
        lab.fault(three.name, "restart-agent")
        lab.fault(lender.name, "start-agent")
    assert pings.lost == 0
    assert c.address not in filled(lender), "also the lender's next run knows what is lent"
    reached(c, a, b)
    three.remove("c")
    gone(lab, c.address)
    assert surely(lender, "later").address == c.address


@pytest.mark.parametrize("as_number", [65000, routers.HOSTS_AS], ids=["tor", "reflector"])
def test_a_borrowed_address_is_reached_by_way_of_a_router(
    lab_up: LabUp, tmp_path: Path, as_number: int
) -> None:
    """From behind another AS, and where a router alone tells the hosts of each other."""
    made = routers.rack(3)
    pools = [("10.233.0.0/29", 30), ("fd00:10:233::/125", 126)]
    for network in made["networks"]:
        network["pools"] = [{"cidr": c, "blockSize": n, "natOutgoing": False} for c, n in pools]
        network["addressing"] = BORROWING
    lab = lab_up(made)
    one, two, three = lab.hosts
    a, b = one.run("a"), two.run("b")
    mesh = resource("BGPConfiguration", "default", nodeToNodeMeshEnabled=as_number == 65000)
    peers = (
        resource("BGPPeer", f"tor{n}", peerIP=each, asNumber=as_number)
        for n, each in enumerate(routers.ADDRESSES)
    )
    apply(one, mesh, *peers)
    hosts = [str(i.ip) for h in lab.hosts for c in h.node.interfaces for i in c.addresses]
    wanted = routers.Wanted(as_number, hosts)
    with routers.running("bird", lab.node("tor"), tmp_path / "tor", wanted):
        c = surely(three, "c")
        lent = loans(lab)
        assert set(c.addresses) <= set(lent)
        for address in c.addresses:
            for place in (a, b, lab.node("box")):
                wait_until(
                    lambda: place.pings(address),  # noqa: B023
                    deadline_s=120,
                    what=f"{place.name} reaches {address}",
                )
        three.remove("c")
        gone(lab, c.addresses[0])
        lender = lab.host(lent[c.addresses[0]][0])
        wait_until(
            lambda: c.addresses[0] in filled(lender), deadline_s=120, what="the address to be dealt"
        )
        wait_until(
            lambda: lab.node("box").pings(c.addresses[0]),
            deadline_s=120,
            what="the lender's container is reached",
        )


def test_a_wedged_lender_is_left_for_another_and_finds_no_request_later(lab_up: LabUp) -> None:
    lab = lab_up(document(pools=POOLS, addressing=BORROWING, backend="host-gw"))
    one, two, three = lab.hosts
    one.run("a")
    two.run("b")
    first = surely(three, "c")
    asked, _ = loans(lab)[first.address]
    three.remove("c")
    gone(lab, first.address)
    lab.fault(asked, "freeze-agent")
    second = surely(three, "d")
    assert loans(lab)[second.address][0] != asked
    lab.fault(asked, "thaw-agent")
    wait_until(
        lambda: len(loans(lab)) == 1 and "(pending)" not in shown(one),
        deadline_s=120,
        what="one loan, and nothing asked for",
    )


def test_borrowed_addresses_stay_while_the_store_is_away(lab_up: LabUp) -> None:
    lab = lab_up(document(pools=POOLS, addressing=BORROWING, backend="host-gw"))
    one, two, three = lab.hosts
    a = one.run("a")
    two.run("b")
    c = surely(three, "c")
    reached(a, c)
    with Pings(a, c.address, 0.01) as pings:
        lab.fault("store", "stop-store")
        for host in lab.hosts:
            lab.fault(host.name, "restart-agent")
        assert a.pings(c.address)
    assert pings.lost == 0
    three.remove("c")
    lab.fault("store", "start-store")
    gone(lab, c.address)


def test_calicos_switch_lets_hosts_borrow_or_keeps_them_from_it(lab_up: LabUp) -> None:
    """``strictAffinity: false`` as calicoctl's users write it; without a word nobody borrows."""
    lab = lab_up(document(pools=POOLS, addressing="on-demand", backend="host-gw"))
    one, two, three = lab.hosts
    one.run("a")
    two.run("b")
    with pytest.raises(NetloomError, match="no free /30 block"):
        three.run("c")
    one.exec(["calicoctl", "ipam", "configure", "--strictaffinity=false"])
    address = wait_until(
        lambda: run_or_nothing(three, "d"), deadline_s=120, what="a borrowed address"
    )
    shown_by = {
        f"| {address} | {three.name} ": ["calicoctl", "ipam", "show", "--show-borrowed"],
        "found 0 problems": ["netloom", "ipam", "check"],
    }
    for said, command in shown_by.items():
        wait_until(
            lambda said=said, command=command: said in one.exec(command, check=False),  # type: ignore[misc]
            deadline_s=120,
            what=said,
        )


def run_or_nothing(host: LabHost, name: str) -> str:
    """Return a new container's address, "" where there is none to have."""
    try:
        return host.run(name).address
    except NetloomError as error:
        if "no free /30 block" in str(error) or "can be borrowed" in str(error):
            return ""
        raise


def shown(host: LabHost) -> str:
    return host.exec(["netloom", "ipam", "show", "--show-blocks"])
