"""Two hosts with one underlay address: both say so, who had it first keeps it, the others talk on.

Cloned machines, virtual machines that are each behind the same address translation, a slip of the
pen: what is sent to such an address reaches one of two machines. On one wire nobody but ARP says
which of them, until one has another address; that much is nothing that we could change.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from typing import Any

import pytest

from netloom.lab.documents import DEFAULT_NETWORK, default_document
from netloom.lab.lab import Lab, LabHost
from netloom.lab.traffic import Pings
from netloom.lab.waiting import wait_until

LabUp = Callable[..., Lab]
TWIN = "192.168.31.63"


def move_to(host: LabHost, address: str) -> None:
    """Give the host another address, as whoever cloned or configured it would."""
    for words in (
        "addr flush dev ens33",
        f"addr add {address}/24 dev ens33",
        "route replace default via 192.168.31.1",
    ):
        host.exec(["ip", *words.split()])


def texts(host: LabHost) -> list[str]:
    return [f"{each['subject']}: {each['text']}" for each in host.status()["problems"]]


def exit_code(host: LabHost) -> int:
    return subprocess.run(
        host.command(["netloom", "status"]),
        env=host.environment,
        capture_output=True,
        timeout=60,
        check=False,
    ).returncode


def says(host: LabHost, text: str) -> bool:
    return text in texts(host)


def leads(host: LabHost, block: str) -> bool:
    """Tell whether the host has a way to a block of another host."""
    return bool(host.exec(["ip", "route", "show", block]).strip())


def peer(host: LabHost, name: str) -> dict[str, Any]:
    (found,) = (each for each in host.status()["peers"] if each["name"] == name)
    return dict(found)


def whole(lab: Lab) -> bool:
    """Tell whether every host has a way to every other one, and none has anything to say."""
    return all(
        host.status()["well"] and leads(host, block)
        for host in lab.hosts
        for other in lab.hosts
        if other is not host
        for block in other.blocks()
    )


@pytest.fixture(params=["vxlan", "host-gw", "bgp"])
def lab(request: pytest.FixtureRequest, lab_up: LabUp) -> Lab:
    """Four hosts on one segment, a container on each."""
    lab = lab_up(default_document(4, {**DEFAULT_NETWORK, "backend": request.param}))
    for host in lab.hosts:
        host.run(f"c{host.name}")
    wait_until(lambda: whole(lab), deadline_s=60, what="ways between all hosts")
    return lab


def test_the_later_one_is_not_sent_to_both_say_so_and_it_heals(lab: Lab) -> None:
    h1, h2, h3, h4 = lab.hosts
    containers = [host.container(f"c{host.name}") for host in lab.hosts]
    (block,), (own,) = h3.blocks(), h2.blocks()
    with Pings(containers[0], containers[3].address) as others:
        move_to(h3, TWIN)
        shared = f"underlay address {TWIN} is also host"
        first, later = f"host h2: {shared} h3's (h3)", f"host h3: {shared} h2's (h2), which had it"
        wait_until(lambda: says(h2, first), deadline_s=60, what="the first to say so")
        wait_until(
            lambda: any(text.startswith(later) for text in texts(h3)),
            deadline_s=60,
            what="the later one to say so",
        )
        came = f"peer h3: network default: h3 came to {TWIN}, which another host had before it"
        for host in (h1, h4):
            wait_until(
                lambda: (
                    not leads(host, block)  # noqa: B023
                    and any(text.startswith(came) for text in texts(host))  # noqa: B023
                ),
                deadline_s=60,
                what="no way there",
            )
            assert leads(host, own), "the first keeps its traffic"
            assert (peer(host, "h2")["addresses"], peer(host, "h3")["addresses"]) == ([TWIN], [])
        assert exit_code(h2) == exit_code(h3) == 6
        stays = "this host's own as well: what is sent there stays here"
        wait_until(
            lambda: stays in peer(h3, "h2")["problem"], deadline_s=60, what="h3's word on h2"
        )
        assert not containers[0].pings(containers[2].address, wait_s=1)
        move_to(h3, "192.168.31.99")
        wait_until(lambda: whole(lab), deadline_s=60, what="all well again")
    assert others.lost == 0
    for container in containers[1:]:
        wait_until(lambda: containers[0].pings(container.address), deadline_s=60, what="traffic")  # noqa: B023


def test_one_that_starts_at_anothers_address_elsewhere_harms_nobody(lab_up: LabUp) -> None:
    """No wire joins the two, as with virtual machines that are translated; the store alone does.

    When the first one is forgotten, or has ended for a while, the address is the other one's.
    """
    document = default_document(3)
    document["segments"].append({"name": "elsewhere", "subnets": ["192.168.99.0/24"]})
    document["hosts"][2]["interfaces"][0] |= {"segment": "elsewhere", "address": "192.168.99.63"}
    lab = lab_up(document)
    h1, h2, h3 = lab.hosts
    a, b = h1.run("a"), h2.run("b")
    wait_until(lambda: a.pings(b.address), deadline_s=60, what="traffic")
    with Pings(a, b.address) as between:
        lab.fault("h3", "kill-agent")
        move_to(h3, TWIN)
        h3.start_agent()
        shared = f"underlay address {TWIN} is also host"
        wait_until(
            lambda: says(h2, f"host h2: {shared} h3's (h3)"), deadline_s=60, what="the first's word"
        )
        (block,) = h3.blocks()
        wait_until(lambda: not leads(h1, block), deadline_s=60, what="no way there")
    assert between.lost == 0
    lab.fault("h2", "kill-agent")
    h1.exec(["netloom", "host", "forget", "h2", "--force"])
    wait_until(lambda: peer(h1, "h3")["addresses"] == [TWIN], deadline_s=60, what="its turn")
    wait_until(lambda: leads(h1, block), deadline_s=60, what="the way there")
