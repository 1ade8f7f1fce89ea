"""Scene 4: the bare laboratory: host-gateway by hand, then by the agent.

Two nodes 10.0.12.11 and 10.0.12.7 in one /22; node1 holds 1.1.1.0/24, node2 1.1.2.0/24.
"""

from __future__ import annotations

import shutil
from typing import Any

import pytest

from netloom.lab import wiring
from netloom.lab.documents import load_document
from netloom.lab.host import LabHost
from netloom.lab.lab import Lab
from netloom.lab.place import Place
from netloom.lab.waiting import wait_until


@pytest.fixture(params=["sqlite", "etcd"])
def members(request) -> int:
    """How many members of etcd the lab's store has; 0 is the file that needs none."""
    if request.param == "etcd" and not shutil.which("etcd"):
        pytest.skip("missing: etcd-server")
    return int(request.param == "etcd")


def by_hand(lab: Lab, host: LabHost, number: int) -> Place:
    """Make a container as the tutorial does: a namespace, a veth into cni0, two addresses."""
    netns = wiring.namespace(lab.name, host.name, "c")
    wiring.make_namespace(netns)
    wiring.ip(
        host.namespace,
        [
            "link add cni0 type bridge",
            f"address add 1.1.{number}.1/24 dev cni0",
            "link set cni0 up",
            f"link add veth0 type veth peer name eth0 netns {netns}",
            "link set veth0 master cni0 up",
        ],
    )
    wiring.ip(
        netns,
        [
            f"address add 1.1.{number}.2/24 dev eth0",
            "link set eth0 up",
            f"route add default via 1.1.{number}.1",
        ],
    )
    wiring.write_sysctls(host.namespace, {"ipv4/ip_forward": "1"})
    return Place(f"{host.name}/c", netns, host.environment)


def four_pings(
    one: LabHost, two: LabHost, first: Place, second: Place, wait_s: float = 5
) -> list[bool]:
    """Host to far container and container to far container, both ways."""
    ways = [(one, "1.1.2.2"), (first, "1.1.2.2"), (two, "1.1.1.2"), (second, "1.1.1.2")]
    return [place.pings(address, wait_s=wait_s) for place, address in ways]


def routes(host: LabHost) -> dict[str, Any]:
    return {route["dst"]: route for route in host.json(["ip", "-j", "route"])}


def test_1_and_2_by_hand_no_route_no_ping_and_with_two_routes_all_four(lab_up) -> None:
    """Without routes a node reaches its own container alone; one route on each node opens all."""
    lab = lab_up(load_document("scene4"), run_agents=False)
    one, two = lab.host("node1"), lab.host("node2")
    first, second = by_hand(lab, one, 1), by_hand(lab, two, 2)
    assert one.pings("1.1.1.2")
    assert two.pings("1.1.2.2")
    assert four_pings(one, two, first, second, wait_s=0.5) == [False] * 4
    one.exec(["ip", "route", "add", "1.1.2.0/24", "via", "10.0.12.7"])
    two.exec(["ip", "route", "add", "1.1.1.0/24", "via", "10.0.12.11"])
    assert four_pings(one, two, first, second) == [True] * 4


def test_3_the_agents_write_those_routes_by_themselves(lab_up, members: int) -> None:
    """Each registers its block and its address and routes to the other's: all four pings pass."""
    lab = lab_up(load_document("scene4"), etcd_members=members)
    one, two = lab.host("node1"), lab.host("node2")
    first, second = one.run("c"), two.run("c")
    assert (first.address, second.address) == ("1.1.1.2", "1.1.2.2")
    assert routes(one)["1.1.2.0/24"]["gateway"] == "10.0.12.7"
    assert routes(two)["1.1.1.0/24"]["gateway"] == "10.0.12.11"
    assert four_pings(one, two, first, second) == [True] * 4


def test_3_a_node_that_joins_is_routed_to_and_one_that_leaves_no_more(lab_up, members: int) -> None:
    """The route comes with the node, stays while only its agent is away, goes when it leaves."""
    document = load_document("scene4")
    document["hosts"].append(
        {
            "name": "node3",
            "interfaces": [{"name": "eth0", "segment": "lan", "address": "10.0.12.9"}],
        }
    )
    document["networks"][0]["pools"] = [{"cidr": "1.1.0.0/16", "blockSize": 24}]
    lab = lab_up(document, run_agents=False, etcd_members=members)
    one, three = lab.host("node1"), lab.host("node3")
    one.start_agent()
    before = set(routes(one))
    three.start_agent()
    (block,) = wait_until(three.blocks, deadline_s=60, what="the block of node3")
    wait_until(lambda: block in routes(one), deadline_s=60, what="the route to node3")
    assert block not in before
    assert routes(one)[block]["gateway"] == "10.0.12.9"
    lab.fault("node3", "stop-agent")
    assert block in routes(one)
    one.exec(["netloom", "host", "forget", "node3"])
    wait_until(lambda: block not in routes(one), deadline_s=60, what="the route to node3 to go")
