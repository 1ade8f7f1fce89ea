"""Scene 2: a /24 for every host, over VXLAN, then without it.

Three hosts 192.168.31.62, .63, .64 on ``ens33``, network 10.244.0.0/16, real agents, containers
attached through the CNI executable. What a user must see is read with the tools that the user has.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from ipaddress import ip_address, ip_network
from typing import Any

import pytest

from netloom.lab.documents import load_document
from netloom.lab.host import LabContainer, LabHost
from netloom.lab.lab import Lab
from netloom.lab.processes import myself
from netloom.lab.traffic import Pings
from netloom.lab.waiting import wait_until
from netloom.lab.wire import Capture
from netloom.model.host import Block
from netloom.model.keys import BLOCKS

POOL = ip_network("10.244.0.0/16")
TUNNEL = "flannel.1"
VNI = 1


@pytest.fixture(scope="module")
def lab(lab_names: Iterator[str]) -> Iterator[Lab]:
    """Scene 2 with containers ``a`` and ``b`` on every host; tests only look at it."""
    document = load_document("scene2")
    document["containers"] = [
        {"host": host, "name": name} for host in ("h1", "h2", "h3") for name in ("a", "b")
    ]
    with Lab.up(document, name=next(lab_names), owner=myself()) as made:
        yield made


def blocks_of(lab: Lab) -> dict[str, Any]:
    """Return each host's block as the datastore has it."""
    store = lab.store()
    try:
        found = [Block.parse(json.loads(e.value)) for e in store.list(BLOCKS).entries]
    finally:
        store.close()
    return {block.host_id: block.cidr for block in found if block.confirmed}


def peers_of(lab: Lab, host: LabHost) -> list[LabHost]:
    return [other for other in lab.hosts if other.name != host.name]


def tunnel_mac(host: LabHost) -> str:
    return str(host.json(["ip", "-j", "link", "show", TUNNEL])[0]["address"])


def routes_of(host: LabHost | LabContainer) -> dict[str, dict[str, Any]]:
    return {route["dst"]: route for route in host.json(["ip", "-j", "route"])}


def set_backend(lab: Lab, backend: object) -> None:
    """Change the network's backend; return when every host has it in its kernel."""
    definition = lab.networks()[0].render()
    revision = lab.set_network({**definition, "backend": backend})
    for host in lab.hosts:
        host.wait_applied(revision)


def test_1_every_host_has_a_24_of_its_own_and_the_datastore_says_which(lab: Lab) -> None:
    """The mapping of host to subnet is in the datastore; the subnets lie in the network's range."""
    blocks = blocks_of(lab)
    assert sorted(blocks) == ["h1", "h2", "h3"]
    assert len(set(blocks.values())) == 3
    for block in blocks.values():
        assert block.prefixlen == 24
        assert block.subnet_of(POOL)
    for host in lab.hosts:
        assert host.blocks() == [str(blocks[host.name])]


def test_1_subnet_env_tells_container_engines_of_the_block(lab: Lab) -> None:
    """The four lines that flannel's plugin and scripts read; the MTU is what a container has."""
    for host in lab.hosts:
        gateway = f"{blocks_of(lab)[host.name].network_address + 1}/24"
        assert host.exec(["sh", "-c", 'cat "$NETLOOM_SUBNET_FILE"']) == (
            f"FLANNEL_NETWORK={POOL}\nFLANNEL_SUBNET={gateway}\n"
            "FLANNEL_MTU=1450\nFLANNEL_IPMASQ=true\n"
        )


def test_2_a_container_hangs_on_cni0_and_its_routes_lead_through_it(lab: Lab) -> None:
    """Bridge cni0 has the block's .1 and veth ports; both routes of a container lead to it."""
    blocks = blocks_of(lab)
    for host in lab.hosts:
        first = blocks[host.name].network_address + 1
        bridge = host.json(["ip", "-j", "-4", "address", "show", "dev", "cni0"])[0]
        found = [(a["local"], a["prefixlen"]) for a in bridge["addr_info"]]
        assert found == [(str(first), 24)]
        ports = host.json(["ip", "-j", "-d", "link", "show", "master", "cni0"])
        assert [port["linkinfo"]["info_kind"] for port in ports] == ["veth", "veth"]
        for container in host.containers():
            assert ip_address(container.address) in blocks[host.name]
            routes = routes_of(container)
            assert routes["default"]["gateway"] == str(first)
            assert routes[str(POOL)]["gateway"] == str(first)
            card = container.json(["ip", "-j", "link", "show", "eth0"])[0]
            assert card["mtu"] == 1450


def test_3_route_neighbour_and_fdb_entry_stand_for_every_peer(lab: Lab) -> None:
    """For each peer: `<block> via <its .0> dev flannel.1 onlink`, its MAC PERMANENT, its host."""
    blocks = blocks_of(lab)
    for host in lab.hosts:
        routes = routes_of(host)
        neighbours = host.exec(["ip", "neigh", "show", "dev", TUNNEL]).splitlines()
        entries = host.exec(["bridge", "fdb", "show", "dev", TUNNEL]).splitlines()
        for peer in peers_of(lab, host):
            block, mac = blocks[peer.name], tunnel_mac(peer)
            route = routes[str(block)]
            assert route["gateway"] == str(block.network_address)
            assert (route["dev"], route["flags"]) == (TUNNEL, ["onlink"])
            wanted = f"{block.network_address} lladdr {mac} PERMANENT"
            assert wanted in [line.strip() for line in neighbours]
            wanted = f"{mac} dst {peer.underlay} self permanent"
            assert wanted in [line.strip() for line in entries]
        assert len(neighbours) == len(entries) == 2


def test_3_the_tunnel_device_is_what_the_tutorials_show(lab: Lab) -> None:
    """`ip -d link show flannel.1`: the VNI, port 8472, no learning, the block's .0 as a /32."""
    for host in lab.hosts:
        shown = host.json(["ip", "-j", "-d", "address", "show", "dev", TUNNEL])[0]
        settings = shown["linkinfo"]["info_data"]
        assert (settings["id"], settings["port"], settings["learning"]) == (VNI, 8472, False)
        assert (settings["local"], settings["link"]) == (host.underlay, "ens33")
        assert shown["mtu"] == 1450
        own = blocks_of(lab)[host.name].network_address
        address = next(a for a in shown["addr_info"] if a["family"] == "inet")
        assert (address["local"], address["prefixlen"]) == (str(own), 32)


def test_every_container_reaches_every_other(lab: Lab) -> None:
    containers = [container for host in lab.hosts for container in host.containers()]
    for source, target in itertools.permutations(containers, 2):
        assert source.pings(target.address), f"{source.name} to {target.name}"


def test_4_on_the_wire_frames_are_wrapped_with_the_networks_vni(lab: Lab) -> None:
    """UDP between the hosts' addresses, VNI 1, inside it the containers' own addresses."""
    one, two = lab.host("h1"), lab.host("h2")
    source, target = one.container("a"), two.container("a")
    with Capture(one, "ens33", "udp port 8472") as wire:
        assert source.pings(target.address)
        wire.until(lambda frames: len(frames) >= 2, "request and reply")
    request, reply = wire.frames[:2]
    assert (str(request.source), str(request.destination)) == (one.underlay, two.underlay)
    assert (str(reply.source), str(reply.destination)) == (two.underlay, one.underlay)
    assert request.vni == reply.vni == VNI
    assert request.inner is not None
    assert request.inner.what == "ICMP echo request"
    ends = (str(request.inner.source), str(request.inner.destination))
    assert ends == (source.address, target.address)
    assert request.inner.destination_mac == tunnel_mac(two)


def test_5_containers_of_one_host_talk_without_touching_the_tunnel(lab: Lab) -> None:
    """A ping between neighbours leaves nothing on the underlay nor on the tunnel device."""
    one = lab.host("h1")
    near, neighbour, far = one.container("a"), one.container("b"), lab.host("h2").container("a")
    with Capture(one, "ens33", "udp port 8472") as wire, Capture(one, TUNNEL) as tunnel:
        assert near.pings(neighbour.address)
        assert near.pings(far.address)
        for capture in (wire, tunnel):
            capture.until(lambda frames: len(frames) >= 2, "the later ping, which does pass here")
    seen = [str(frame) for frame in (*wire.frames, *tunnel.frames)]
    assert any(far.address in line for line in seen)
    assert not any(neighbour.address in line for line in seen)


def test_6_to_host_gw_and_back_routes_change_and_the_tunnel_goes(lab_up) -> None:
    """Routes become `<block> via <peer's host> dev ens33`, the tunnel device goes away."""
    lab = lab_up(load_document("scene2"))
    one, blocks = lab.host("h1"), blocks_of(lab)
    source, target = one.run("a"), lab.host("h2").run("a")
    set_backend(lab, "host-gw")
    routes = routes_of(one)
    for peer in peers_of(lab, one):
        route = routes[str(blocks[peer.name])]
        assert (route["gateway"], route["dev"]) == (peer.underlay, "ens33")
    assert TUNNEL not in one.exec(["ip", "-br", "link"])
    assert source.pings(target.address)
    set_backend(lab, {"type": "vxlan", "vni": VNI})
    assert routes_of(one)[str(blocks["h2"])]["dev"] == TUNNEL
    assert source.pings(target.address)


def test_7_host_gw_refuses_a_peer_behind_a_router_by_name_and_says_what_to_do(lab_up) -> None:
    """The peer on the segment is routed to; the one behind the router is named, with the remedy."""
    lab = lab_up(load_document("scene2-router"))
    one, blocks = lab.host("h1"), blocks_of(lab)
    assert routes_of(one)[str(blocks["h2"])]["gateway"] == "192.168.31.63"
    assert str(blocks["h3"]) not in routes_of(one)
    (problem,) = [p for p in one.status()["problems"] if p["subject"] == "peer h3"]
    assert "192.168.32.64" in problem["text"]
    assert "directRouting" in problem["remedy"]
    said = one.exec(["netloom", "status"], check=False)
    assert "h3" in said
    assert "192.168.32.64 is not on-link" in said


def test_7_where_direct_routing_is_only_preferred_the_far_peer_is_tunnelled_to(lab_up) -> None:
    lab = lab_up(load_document("scene2-router"))
    one, blocks = lab.host("h1"), blocks_of(lab)
    set_backend(lab, {"type": "vxlan", "directRouting": True})
    routes = routes_of(one)
    assert (routes[str(blocks["h2"])]["gateway"], routes[str(blocks["h2"])]["dev"]) == (
        "192.168.31.63",
        "ens33",
    )
    assert routes[str(blocks["h3"])]["dev"] == TUNNEL
    source, near, far = one.run("a"), lab.host("h2").run("a"), lab.host("h3").run("a")
    with Capture(one, "ens33", "udp port 8472 or icmp") as wire:
        assert source.pings(near.address)
        assert source.pings(far.address)
        wire.until(lambda frames: len(frames) >= 4, "two requests and two replies")
    bare = [frame for frame in wire.frames if frame.vni is None]
    wrapped = [frame.inner for frame in wire.frames if frame.inner is not None]
    assert {str(frame.destination) for frame in bare} == {source.address, near.address}
    assert {str(frame.destination) for frame in wrapped} == {source.address, far.address}


@pytest.mark.parametrize(
    ("pool", "routes", "named"),
    [
        ("192.168.0.0/16", [], "192.168.31.0/24"),
        ("10.244.0.0/16", [{"to": "10.244.7.0/24", "via": "192.168.31.1"}], "10.244.7.0/24"),
    ],
    ids=["the underlay", "a route of the host"],
)
def test_8_a_range_that_collides_is_refused_by_name(lab_up, pool, routes, named) -> None:
    """The problem names the range and what it collides with; the host's own routes stay as is."""
    document = load_document("scene2")
    document["hosts"] = document["hosts"][:2]
    document["hosts"][0]["routes"] = routes
    document["networks"][0]["pools"] = [{"cidr": pool, "blockSize": 24}]
    lab = lab_up(document)
    one = lab.host("h1")
    (problem,) = one.status()["problems"]
    assert problem["subject"] == "network default"
    assert pool in problem["text"]
    assert named in problem["text"]
    assert problem["remedy"]
    assert "proto 78" not in one.exec(["ip", "route"])
    assert one.pings("192.168.31.63")


def test_an_agent_killed_and_started_again_loses_no_packet(lab_up) -> None:
    """A ping every 5 ms goes on while the agent is killed with -9, away, and started again."""
    lab = lab_up(load_document("scene2"))
    one = lab.host("h1")
    source, target = one.run("a"), lab.host("h2").run("a")
    with Pings(source, target.address, interval_s=0.005) as pings:
        lab.fault("h1", "kill-agent")
        seen = pings.received
        wait_until(lambda: pings.received > seen + 100, deadline_s=60, what="100 more replies")
        one.start_agent()
        seen = pings.received
        wait_until(lambda: pings.received > seen + 100, deadline_s=60, what="100 more replies")
    assert pings.sent > 200
    assert pings.lost == 0


def test_with_the_store_away_containers_still_attach_and_talk(lab_up) -> None:
    """Addresses come from the host's own block; status says that the store is away."""
    lab = lab_up(load_document("scene2"))
    one, two = lab.host("h1"), lab.host("h2")
    far = two.run("a")
    lab.fault("store", "stop-store")
    wait_until(lambda: one.status()["store"]["state"] == "away", deadline_s=60, what="h1 to notice")
    late = one.run("late")
    assert ip_address(late.address) in ip_network(one.blocks()[0])
    assert late.pings(far.address)
    lab.fault("store", "start-store")
    for host in lab.hosts:
        wait_until(
            lambda host=host: host.status()["store"]["state"] == "connected",
            deadline_s=60,
            what=f"{host.name} to find the store again",
        )
    assert late.pings(far.address)
