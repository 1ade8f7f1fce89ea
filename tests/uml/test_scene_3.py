"""Scene 3: which network card? Tunnels by IPIP between hosts with two cards each.

vms71 has ens32 and ens33, vms72 has eth1 and eth0, crossed; the tunnel's route shows which card was
taken. Real agents, containers attached through the CNI executable, the real module ipip.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest

from netloom.lab.documents import load_document
from netloom.lab.host import LabContainer, LabHost
from netloom.lab.lab import Lab
from netloom.lab.processes import myself
from netloom.lab.waiting import wait_until
from netloom.lab.wire import Capture
from netloom.model.keys import network_key

BLOCK = "10.244.5.192/26"
TUNNEL_ADDRESS = "10.244.5.192"

#: Calico's methods, given to both hosts alike, and by which address vms71 then reaches vms72's
#: block. A way of choosing is one line.
METHODS = [
    ("interface=ens33,eth0", "192.168.30.72"),
    ("interface=ens32,eth1", "192.168.26.72"),
    ("skip-interface=eth1,ens32", "192.168.30.72"),
    ("cidr=192.168.26.0/24", "192.168.26.72"),
    ("can-reach=192.168.30.1", "192.168.30.72"),
]
#: What says it on a Node; the variable IP_AUTODETECTION_METHOD says the same for one agent.
ANNOTATION = "netloom/ip-autodetection-method"


@pytest.fixture(scope="module")
def lab(lab_names: Iterator[str]) -> Iterator[Lab]:
    """Both hosts, a container on each; vms72 holds the block that the scene names."""
    document = load_document("scene3")
    document["containers"] = [{"host": "vms71", "name": "a"}, {"host": "vms72", "name": "b"}]
    with Lab.up(document, name=next(lab_names), owner=myself()) as made:
        yield made


def ends(lab: Lab) -> tuple[LabHost, LabContainer, LabHost, LabContainer]:
    one, two = lab.host("vms71"), lab.host("vms72")
    return one, one.container("a"), two, two.container("b")


def route(host: LabHost, block: str) -> str:
    """Return the route to a block as `ip route` prints it."""
    return host.exec(["ip", "route", "show", block]).strip()


def choose(lab: Lab, method: str | None) -> None:
    """Tell both hosts how to choose their card, by one patch each, as an operator would."""
    for host in lab.hosts:
        patch = json.dumps({"metadata": {"annotations": {ANNOTATION: method}}})
        host.exec(["netloom", "patch", "node", host.name, "-p", patch])


def leads(lab: Lab, via: str) -> str:
    """Wait until vms71's route to vms72's block leads by ``via``; return it."""
    one = lab.host("vms71")
    return wait_until(
        lambda: found if f" via {via} " in (found := route(one, BLOCK)) else "",
        deadline_s=60,
        what=f"a route to {BLOCK} via {via}",
    )


@pytest.mark.parametrize(("method", "via"), METHODS)
def test_the_tunnels_route_shows_which_card_was_taken(lab: Lab, method: str, via: str) -> None:
    choose(lab, method)
    assert leads(lab, via) == f"{BLOCK} via {via} dev tunl0 proto bird onlink"
    one, source, two, target = ends(lab)
    back = route(two, next(iter(one.blocks())))
    assert f" via {via[:-2]}71 dev tunl0 " in f"{back} "
    assert source.pings(target.address, count=3)


def test_without_a_method_the_choice_is_told_with_its_reason(lab: Lab) -> None:
    """First found is the default route's card, on both hosts."""
    choose(lab, None)
    leads(lab, "192.168.26.72")
    for host in lab.hosts:
        assert "the default route's" in host.status()["underlay_reason"]


def test_a_trace_from_container_to_container_shows_three_hops(lab: Lab) -> None:
    """The own host, the far host by its tunnel's address, the container."""
    one, source, _, target = ends(lab)
    said = source.exec(["busybox", "traceroute", "-n", "-q", "1", "-w", "5", target.address])
    hops = re.findall(r"^ *\d+ +(\S+)", said, re.MULTILINE)
    own = [
        address["local"]
        for link in one.json(["ip", "-j", "address"])
        for address in link["addr_info"]
    ]
    assert len(hops) == 3
    assert hops[0] in own
    assert hops[1:] == [TUNNEL_ADDRESS, target.address]


def test_the_device_is_calicos_with_the_first_address_of_the_block(lab: Lab) -> None:
    _, _, two, target = ends(lab)
    (device,) = two.json(["ip", "-d", "-j", "address", "show", "dev", "tunl0"])
    assert (device["linkinfo"]["info_kind"], device["mtu"]) == ("ipip", 1480)
    (address,) = device["addr_info"]
    assert (address["local"], address["prefixlen"]) == (TUNNEL_ADDRESS, 32)
    assert target.address != TUNNEL_ADDRESS
    (inside,) = target.json(["ip", "-j", "link", "show", "eth0"])
    assert inside["mtu"] == 1480


def test_on_the_wire_the_containers_packets_are_inside_the_hosts(lab: Lab) -> None:
    """IP protocol 4 and nothing else, between the addresses of the chosen cards; no NAT."""
    one, source, _, target = ends(lab)
    with Capture(one, "ens32", "ip proto 4") as wire:
        assert source.pings(target.address)
        wire.until(lambda frames: len(frames) >= 2, "request and reply")
    request = wire.frames[0]
    assert request.what == "IPIP"
    assert (str(request.source), str(request.destination)) == ("192.168.26.71", "192.168.26.72")
    assert request.inner is not None
    assert request.inner.what == "ICMP echo request"
    inner = str(request.inner.source), str(request.inner.destination)
    assert inner == (source.address, target.address)


def test_a_host_itself_speaks_to_containers_elsewhere_from_its_tunnels_address(lab: Lab) -> None:
    _, source, two, _ = ends(lab)
    assert two.pings(source.address)
    said = two.exec(["ip", "route", "get", source.address])
    assert f"src {TUNNEL_ADDRESS}" in said


def test_packets_of_full_size_pass_and_larger_ones_are_told_so(lab: Lab) -> None:
    _, source, _, target = ends(lab)
    fits = ["ping", "-c1", "-W5", "-M", "do", "-s", str(1480 - 28), target.address]
    assert "0% packet loss" in source.exec(fits)


def write(lab: Lab, backend: object) -> None:
    """Move to another backend; return when every kernel has left the former."""
    said = f"backend={backend if isinstance(backend, str) else json.dumps(backend)}"
    lab.hosts[0].exec(["netloom", "network", "set", "default", said])
    wait_until(lambda: not lab.networks()[0].retiring, deadline_s=60, what=said)
    entry = lab.store().get(network_key("default"))
    assert entry is not None
    for host in lab.hosts:
        host.wait_applied(entry.mod_revision)


def device_in_use(host: LabHost) -> bool:
    (device,) = host.json(["ip", "-j", "address", "show", "dev", "tunl0"])
    return "ifalias" in device or bool(device["addr_info"]) or "UP" in device["flags"]


def test_with_another_backend_the_device_is_given_back_and_then_taken_again(lab: Lab) -> None:
    one, source, _, target = ends(lab)
    for backend, device in (("vxlan", "flannel.1"), ("ipip", "tunl0")):
        write(lab, backend)
        assert f" dev {device} " in route(one, BLOCK)
        assert device_in_use(one) == (backend == "ipip")
        assert source.pings(target.address)


def test_in_mode_crosssubnet_hosts_of_one_segment_need_no_tunnel(lab: Lab) -> None:
    one, source, _, target = ends(lab)
    write(lab, {"type": "ipip", "mode": "CrossSubnet"})
    assert route(one, BLOCK) == f"{BLOCK} via 192.168.26.72 dev ens32 proto 78"
    assert source.pings(target.address)
