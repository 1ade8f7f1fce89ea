"""Pools and block sizes are changed live: new addresses from the new, old ones until they go."""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Callable

import pytest

from netloom.lab.documents import default_document
from netloom.lab.lab import Lab, LabHost
from netloom.lab.traffic import Pings
from netloom.lab.waiting import wait_until

from .bgp_lab import document, settled, wait_mesh
from .test_switching_faults import stream

LabUp = Callable[..., Lab]
OLD, NEW = "10.233.0.0/16", "10.234.0.0/16"


def of(address: str, cidr: str) -> bool:
    return ipaddress.ip_address(address) in ipaddress.ip_network(cidr)


def deals_of(host: LabHost, cidr: str, size: int) -> str:
    """Wait until the host holds a block of ``size`` in ``cidr``; return it."""
    return wait_until(
        lambda: next(
            (b for b in host.blocks() if of(b.split("/")[0], cidr) and b.endswith(f"/{size}")), ""
        ),
        deadline_s=120,
        what=f"a /{size} of {cidr} on {host.name}",
    )


def gone(lab: Lab, block: str) -> None:
    """Wait until a block is nobody's, and no host has a route for it."""
    wait_until(
        lambda: (
            not any(block in host.blocks() for host in lab.hosts)
            and not any(block in host.exec(["ip", "route"]) for host in lab.hosts)
        ),
        deadline_s=120,
        what=f"{block} is given back",
    )


def apply(host: LabHost, verb: str, *words: str) -> str:
    return host.exec(["netloom", verb, *words])


def test_a_pool_is_replaced_by_another_while_its_containers_talk(lab_up: LabUp) -> None:
    """As Calico's users do it: a new IPPool, the old one disabled, and deleted at the end."""
    pool = {"cidr": OLD, "blockSize": 26, "name": "old", "natOutgoing": True}
    lab = lab_up(document((100, 101), pools=[pool]))
    one, two = lab.hosts
    a, b = one.run("a"), two.run("b")
    wait_mesh(lab)
    leaving = [block for host in lab.hosts for block in host.blocks()]
    with Pings(a, b.address, 0.01) as pings, stream(a, b, b.address):
        new = {
            "apiVersion": "projectcalico.org/v3",
            "kind": "IPPool",
            "metadata": {"name": "new", "annotations": {"netloom/network": "calnet1"}},
            "spec": {"cidr": NEW, "blockSize": 26, "natOutgoing": True},
        }
        done = one.popen(["netloom", "apply", "-f", "-"], stdin=-1, stdout=-1, stderr=-1)
        said = done.communicate(json.dumps(new), timeout=120)
        assert done.returncode == 0, said
        apply(one, "patch", "ippool", "old", "-p", '{"spec": {"disabled": true}}')
        c = wait_until(
            lambda: fresh(one, "c", NEW), deadline_s=120, what="a container with a new address"
        )
        assert c.pings(a.address)
        assert wait_until(lambda: c.pings(b.address), deadline_s=120, what="c reaches b")
        wait_until(lambda: b.pings(c.address), deadline_s=120, what="b reaches c")
        assert leaving[0] in one.blocks(), "a lives there"
        for cidr in (OLD, NEW):
            assert cidr in one.exec(["nft", "list", "table", "inet", "netloom"]), "both have NAT"
    assert pings.lost == 0
    refused = one.popen(["netloom", "delete", "ippool", "old"], stdout=-1, stderr=-1)
    assert "have addresses of" in refused.communicate(timeout=120)[1]
    one.remove("a")
    gone(lab, leaving[0])
    assert leaving[1] in two.blocks(), "b is there still"
    two.remove("b")
    gone(lab, leaving[1])
    d = two.run("d")
    wait_until(lambda: c.pings(d.address), deadline_s=120, what="c reaches d")
    wait_until(lambda: not held_of(lab, OLD), deadline_s=120, what="the mirrored endpoints")
    apply(one, "delete", "ippool", "old")
    wait_until(lambda: settled(lab), deadline_s=120, what="empty plans")


def fresh(host: LabHost, name: str, cidr: str):
    """Return a new container if its address is in ``cidr``; one that came too early goes again."""
    container = host.run(name)
    if of(container.address, cidr):
        return container
    host.remove(name)
    return None


def held_of(lab: Lab, cidr: str) -> list[str]:
    entries = lab.store().list("/netloom/v1/endpoints/").entries
    return [e.key for e in entries for a in json.loads(e.value)["addresses"] if of(a, cidr)]


@pytest.mark.parametrize(
    ("attachment", "mode", "size"),
    [("bridge", "host-block", 26), ("bridge", "host-block", 20), ("routed", "on-demand", 26)],
)
def test_the_block_size_is_changed_while_containers_talk(
    lab_up: LabUp, attachment: str, mode: str, size: int
) -> None:
    """Hosts get a block of the new size at once; the former goes with its last container."""
    network = {
        "name": "default",
        "preset": "flannel",
        "attachment": attachment,
        "addressing": mode,
        "backend": "vxlan",
    }
    lab = lab_up(default_document(hosts=2, network=network))
    one, two = lab.hosts
    a, b = one.run("a"), two.run("b")
    former = [block for host in lab.hosts for block in host.blocks()]
    with Pings(a, b.address, 0.01) as pings, stream(b, a, a.address):
        apply(one, "network", "set", "default", f"pools[0].blockSize={size}")
        blocks = [deals_of(host, "10.244.0.0/16", size) for host in lab.hosts]
        c, d = one.run("c"), two.run("d")
        assert of(c.address, blocks[0])
        assert of(d.address, blocks[1])
        for other in (a, b, d):
            wait_until(lambda: c.pings(other.address), deadline_s=120, what=f"c to {other.name}")  # noqa: B023
    assert pings.lost == 0
    for host, container, block in ((one, "a", former[0]), (two, "b", former[1])):
        host.remove(container)
        gone(lab, block)
    assert [host.blocks() for host in lab.hosts] == [[block] for block in blocks]
    assert d.pings(c.address)
    assert one.pings(d.address)


def test_a_host_that_moves_to_another_rack_gets_its_addresses_from_that_racks_pool(
    lab_up: LabUp,
) -> None:
    """As Calico's users give each rack a pool; what the host leaves empty can be had by others."""
    pools = [
        {"cidr": f"10.24{rack}.0.0/16", "nodeSelector": f"rack == '{rack}'"} for rack in (1, 2)
    ]
    network = {"name": "default", "preset": "flannel", "pools": pools}
    lab = lab_up(default_document(hosts=2, network=network))
    one, two = lab.hosts
    for host in lab.hosts:
        apply(one, "label", "nodes", host.name, "rack=1")
        deals_of(host, "10.241.0.0/16", 24)
    a, b = one.run("a"), two.run("b")
    former = one.blocks()[0]
    with Pings(a, b.address, 0.01) as pings:
        apply(one, "label", "nodes", "h1", "rack=2", "--overwrite")
        block = deals_of(one, "10.242.0.0/16", 24)
        c = one.run("c")
        assert of(c.address, block)
        wait_until(lambda: b.pings(c.address), deadline_s=120, what="b reaches c")
        shown = one.exec(["netloom", "network", "show", "default"]).splitlines()
        assert [line.split()[-1] for line in shown if former in line] == ["draining"]
    assert pings.lost == 0
    one.remove("a")
    gone(lab, former)
    assert one.blocks() == [block]
    assert c.pings(b.address)
    wait_until(lambda: settled(lab), deadline_s=120, what="empty plans")
