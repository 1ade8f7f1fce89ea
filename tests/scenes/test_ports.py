"""Packets through the firewall: who sees which source, and where published ports lead.

One host with a bridged and two routed containers, a machine outside that is also a container's
stand-in on another host. A server tells each asker which source address it saw.
"""

from __future__ import annotations

import ipaddress
import socket
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import pytest

from netloom.core import firewall
from netloom.core.published import loopback_sysctls
from netloom.kernel import sysctl
from netloom.kernel.nft import NftTables
from netloom.lab.waiting import wait_until
from netloom.model.endpoint import Endpoint, PortMapping
from netloom.model.kernel import CONTAINER_GROUP, Link, NftTable
from netloom.model.network import Network
from netloom.reconcile.contracts import Change, Verb

from . import telling

if TYPE_CHECKING:
    from tests.conftest import Netns

ip = ipaddress.ip_address
TCP, UDP = socket.SOCK_STREAM, socket.SOCK_DGRAM
HOST4, HOST6 = "192.168.31.62", "fd31::62"
OUTSIDE4, OUTSIDE6 = "192.168.31.63", "fd31::63"
FAR4, FAR6 = "10.244.9.9", "fd00:1:0:9::9"
BLUE = Network.parse({"name": "blue", "pools": ["10.244.0.0/16", "fd00:1::/48"]})
BLOCKS = [
    ipaddress.ip_network(text)
    for text in ("10.244.1.0/24", "10.244.2.0/24", "fd00:1:0:1::/64", "fd00:1:0:2::/64")
]


@dataclass(frozen=True)
class Container:
    """One container: its namespace, its addresses, the host's end of its link."""

    netns: Netns
    v4: str
    v6: str
    host_ifname: str
    master: str | None

    def endpoint(self, *ports: PortMapping) -> Endpoint:
        addresses = (ip(self.v4), ip(self.v6))
        name = self.netns.name
        return Endpoint("blue", "h1", name, "eth0", self.netns.path, self.host_ifname,
                        "02:00:00:00:00:01", addresses, ports=ports)  # fmt: skip


@dataclass(frozen=True)
class World:
    host: Netns
    outside: Netns
    bridged: Container
    neighbour: Container
    routed: Container
    tables: NftTables = field(default_factory=NftTables)

    @property
    def containers(self) -> tuple[Container, ...]:
        return self.bridged, self.neighbour, self.routed

    def publish(self, *endpoints: Endpoint, network: Network = BLUE) -> NftTable:
        """Do what the agent does for these endpoints: write the table, set the sysctls."""
        links = [Link(c.host_ifname, "veth", master=c.master) for c in self.containers]
        table = firewall.table([network], endpoints, BLOCKS)

        def go() -> None:
            self.tables.read()
            assert self.tables.apply([Change(Verb.ADD, table)])[0].error is None
            for setting in loopback_sysctls(endpoints, links):
                sysctl.write(setting.name, setting.value)

        self.host.call(go)
        return table


def bridged(host: Netns, netns: Netns, number: int) -> Container:
    v4, v6, end = f"10.244.1.{number}", f"fd00:1:0:1::{number}", f"veth{number}"
    pair = ["type", "veth", "peer", "name", "eth0", "netns", netns.path]
    host.run("ip", "link", "add", end, *pair)
    host.run("ip", "link", "set", end, "master", "cni0", "up")
    # With br_netfilter a packet to a published port never leaves the bridge: back out the same way.
    host.run("bridge", "link", "set", "dev", end, "hairpin", "on")
    netns.run("ip", "address", "add", f"{v4}/24", "dev", "eth0")
    netns.run("ip", "address", "add", f"{v6}/64", "dev", "eth0", "nodad")
    netns.run("ip", "link", "set", "eth0", "up")
    netns.run("ip", "route", "add", "default", "via", "10.244.1.1")
    netns.run("ip", "-6", "route", "add", "default", "via", "fd00:1:0:1::1")
    return Container(netns, v4, v6, end, "cni0")


def routed(host: Netns, netns: Netns, number: int) -> Container:
    v4, v6, end = f"10.244.2.{number}", f"fd00:1:0:2::{number}", f"cali{number}"
    mac = "ee:ee:ee:ee:ee:ee"
    pair = ["type", "veth", "peer", "name", "eth0", "netns", netns.path]
    host.run("ip", "link", "add", end, "address", mac, "group", str(CONTAINER_GROUP), *pair)
    host.run("ip", "link", "set", end, "up")
    netns.run("ip", "link", "set", "eth0", "up")
    own = netns.json("ip", "-j", "link", "show", "eth0")[0]["address"]
    for address, gateway, length in ((v4, "169.254.1.1", 32), (v6, "fe80::1", 128)):
        nodad = ["nodad"] if length == 128 else []
        netns.run("ip", "address", "add", f"{address}/{length}", "dev", "eth0", *nodad)
        family = "-6" if length == 128 else "-4"
        netns.run("ip", family, "route", "add", gateway, "dev", "eth0")
        netns.run("ip", family, "route", "add", "default", "via", gateway, "dev", "eth0")
        netns.run("ip", "neigh", "add", gateway, "lladdr", mac, "dev", "eth0", "nud", "permanent")
        host.run("ip", family, "route", "add", f"{address}/{length}", "dev", end)
        host.run("ip", "neigh", "add", address, "lladdr", own, "dev", end, "nud", "permanent")
    return Container(netns, v4, v6, end, None)


@pytest.fixture
def world(make_netns: Callable[[str], Netns], two_hosts: tuple[Netns, Netns]) -> World:
    host, outside = two_hosts
    host.call(lambda: sysctl.write("ipv6/conf/default/accept_dad", "0"))  # cni0's own, at once
    host.run("ip", "link", "add", "cni0", "group", str(CONTAINER_GROUP), "type", "bridge")
    host.run("ip", "address", "add", "10.244.1.1/24", "dev", "cni0")
    host.run("ip", "address", "add", "fd00:1:0:1::1/64", "dev", "cni0", "nodad")
    host.run("ip", "link", "set", "cni0", "up")
    host.call(lambda: sysctl.write("ipv4/ip_forward", "1"))
    host.call(lambda: sysctl.write("ipv6/conf/all/forwarding", "1"))
    # Neighbours are asked for from a link-local address; the kernel's own is tentative at first.
    host.run("ip", "address", "add", "fe80::62/64", "dev", "ens33", "nodad")
    outside.run("ip", "address", "add", "fe80::63/64", "dev", "ens33", "nodad")
    # The machine outside plays a container of another host too: an address inside the pools.
    outside.run("ip", "address", "add", f"{FAR4}/32", "dev", "lo")
    outside.run("ip", "address", "add", f"{FAR6}/128", "dev", "lo", "nodad")
    for block in BLOCKS:
        gateway = HOST4 if block.version == 4 else HOST6
        outside.run("ip", "route", "add", str(block), "via", gateway)
    host.run("ip", "route", "add", "10.244.9.0/24", "via", OUTSIDE4)
    host.run("ip", "-6", "route", "add", "fd00:1:0:9::/64", "via", OUTSIDE6)
    made = World(
        host,
        outside,
        bridged(host, make_netns("c2"), 2),
        bridged(host, make_netns("c3"), 3),
        routed(host, make_netns("c4"), 4),
    )
    wait_until_ports_forward(host)
    return made


def wait_until_ports_forward(host: Netns) -> None:
    """Wait until the kernel has noticed that both ends of the bridge's ports are up."""
    deadline = time.monotonic() + 60
    while any(port["state"] != "forwarding" for port in host.json("bridge", "-j", "link")):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def telling_server(netns: Netns, port: int, kind: int = TCP) -> AbstractContextManager[None]:
    return telling.server(netns.path, port, kind)


def ask(netns: Netns, address: str, port: int, *, source: str = "", kind: int = TCP) -> str:
    return telling.ask(netns.path, address, port, source=source, kind=kind)


def test_what_leaves_the_pools_has_the_hosts_source_and_what_stays_keeps_its_own(
    world: World,
) -> None:
    world.publish()
    with telling_server(world.outside, 7000):
        for container in (world.bridged, world.routed):
            assert ask(container.netns, OUTSIDE4, 7000) == HOST4
            assert ask(container.netns, OUTSIDE6, 7000) == HOST6
            assert ask(container.netns, FAR4, 7000) == container.v4
            assert ask(container.netns, FAR6, 7000) == container.v6
    with telling_server(world.routed.netns, 7001):
        assert ask(world.bridged.netns, world.routed.v4, 7001) == world.bridged.v4
        assert ask(world.bridged.netns, world.routed.v6, 7001) == world.bridged.v6
        assert ask(world.outside, world.routed.v4, 7001, source=OUTSIDE4) == OUTSIDE4


def test_a_pool_without_nat_outgoing_keeps_its_source_everywhere(world: World) -> None:
    pools = [{"cidr": "10.244.0.0/16", "natOutgoing": False}, "fd00:1::/48"]
    world.publish(network=Network.parse({"name": "blue", "pools": pools}))
    with telling_server(world.outside, 7000):
        assert ask(world.bridged.netns, OUTSIDE4, 7000) == world.bridged.v4
        assert ask(world.bridged.netns, OUTSIDE6, 7000) == HOST6


def test_multicast_out_of_a_pool_is_never_masqueraded(world: World) -> None:
    """What the host itself sends from an address of the pool passes the same chain.

    The kernel forwards multicast only for a routing daemon.
    """
    world.publish()
    world.host.run("ip", "address", "add", "10.244.1.77/32", "dev", "lo")
    for name in ("all", "ens33"):
        world.outside.call(partial(sysctl.write, f"ipv4/conf/{name}/rp_filter", "0"))
    with world.outside.call(lambda: socket.socket(socket.AF_INET, UDP)) as listener:
        listener.bind(("239.1.2.3", 7002))
        member = socket.inet_aton("239.1.2.3") + socket.inet_aton(OUTSIDE4)
        listener.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, member)
        listener.settimeout(60)

        def send() -> None:
            with socket.socket(socket.AF_INET, UDP) as channel:
                channel.bind(("10.244.1.77", 0))
                via = socket.inet_aton(HOST4)
                channel.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, via)
                channel.sendto(b"?", ("239.1.2.3", 7002))

        world.host.call(send)
        assert listener.recvfrom(100)[1][0] == "10.244.1.77"


def test_a_published_port_leads_in_from_outside_over_both_families(world: World) -> None:
    world.publish(
        world.bridged.endpoint(PortMapping(8080, 80), PortMapping(5353, 53, "udp")),
        world.routed.endpoint(PortMapping(8081, 80)),
    )
    with (
        telling_server(world.bridged.netns, 80),
        telling_server(world.bridged.netns, 53, UDP),
        telling_server(world.routed.netns, 80),
    ):
        for host, own in ((HOST4, OUTSIDE4), (HOST6, OUTSIDE6)):
            assert ask(world.outside, host, 8080) == own, "the container sees who really asks"
            assert ask(world.outside, host, 5353, kind=UDP) == own
            assert ask(world.outside, host, 8081) == own
        with pytest.raises(OSError, match="refused"):
            ask(world.outside, HOST4, 8082)


def test_host_ip_publishes_on_that_address_alone_and_wins_over_none(world: World) -> None:
    world.host.run("ip", "address", "add", "192.168.31.162/24", "dev", "ens33")
    world.publish(world.bridged.endpoint(PortMapping(8080, 80, "tcp", ip("192.168.31.162"))))
    with telling_server(world.bridged.netns, 80):
        assert ask(world.outside, "192.168.31.162", 8080) == OUTSIDE4
        with pytest.raises(OSError, match="refused"):
            ask(world.outside, HOST4, 8080)
        with pytest.raises(OSError, match="refused"):
            ask(world.outside, HOST6, 8080)


@pytest.mark.parametrize("place", ["127.0.0.1", HOST4, HOST6, "10.244.1.1"])
def test_a_published_port_leads_in_from_the_host_itself(world: World, place: str) -> None:
    world.publish(
        world.bridged.endpoint(PortMapping(8080, 80)),
        world.routed.endpoint(PortMapping(8081, 80)),
    )
    with telling_server(world.bridged.netns, 80), telling_server(world.routed.netns, 80):
        assert not ask(world.host, place, 8080).startswith("127.")
        assert not ask(world.host, place, 8081).startswith("127.")


def test_the_hosts_ipv6_loopback_is_left_alone(world: World) -> None:
    """Nothing sent from ::1 can leave the host, so a port there is refused and not left hanging."""
    world.publish(world.bridged.endpoint(PortMapping(8080, 80)))
    with telling_server(world.bridged.netns, 80), pytest.raises(OSError, match="refused"):
        ask(world.host, "::1", 8080)


@pytest.mark.parametrize("filtered", ["0", "1"], ids=["bridge", "br_netfilter"])
@pytest.mark.parametrize("kind", [TCP, UDP], ids=["tcp", "udp"])
@pytest.mark.parametrize("host", [HOST4, HOST6])
def test_a_container_reaches_itself_and_its_neighbours_through_the_hosts_port(
    world: World, host: str, kind: int, filtered: str
) -> None:
    """Whether or not the kernel shows bridged packets to the firewall, as Docker asks it to."""
    for name in ("bridge/bridge-nf-call-iptables", "bridge/bridge-nf-call-ip6tables"):
        if world.host.call(partial(sysctl.read, name)) is not None:
            world.host.call(partial(sysctl.write, name, filtered))
    protocol = "udp" if kind == UDP else "tcp"
    world.publish(
        world.bridged.endpoint(PortMapping(8080, 80, protocol)),
        world.routed.endpoint(PortMapping(8081, 80, protocol)),
    )
    with (
        telling_server(world.bridged.netns, 80, kind),
        telling_server(world.routed.netns, 80, kind),
    ):
        for asker in (world.bridged, world.neighbour, world.routed):
            for port in (8080, 8081):
                assert ask(asker.netns, host, port, kind=kind)


def test_a_container_of_another_host_is_seen_with_its_own_address(world: World) -> None:
    world.publish(world.bridged.endpoint(PortMapping(8080, 80)))
    with telling_server(world.bridged.netns, 80):
        assert ask(world.outside, HOST4, 8080, source=FAR4) == FAR4
        assert ask(world.outside, HOST6, 8080, source=FAR6) == FAR6


def test_a_container_cannot_reach_what_listens_on_the_hosts_loopback(world: World) -> None:
    """Published ports open the bridge for 127.0.0.0/8; the table shuts it again (CVE-2020-8558)."""
    world.publish(world.bridged.endpoint(PortMapping(8080, 80)))
    assert world.host.call(lambda: sysctl.read("ipv4/conf/cni0/route_localnet")) == "1"
    world.neighbour.netns.run("ip", "address", "delete", "127.0.0.1/8", "dev", "lo")
    world.neighbour.netns.run("ip", "route", "add", "127.0.0.1", "via", "10.244.1.1")
    world.neighbour.netns.call(lambda: sysctl.write("ipv4/conf/eth0/route_localnet", "1"))
    with world.host.call(lambda: socket.socket(socket.AF_INET, UDP)) as heard:
        heard.bind(("127.0.0.1", 7003))
        heard.settimeout(60)

        def knock(text: bytes) -> None:
            with socket.socket(socket.AF_INET, UDP) as channel:
                channel.bind((world.neighbour.v4, 0))
                channel.sendto(text, ("127.0.0.1", 7003))

        world.neighbour.netns.call(partial(knock, b"guarded"))
        world.host.run("nft", "flush", "chain", "inet", "netloom", "guard")
        world.neighbour.netns.call(partial(knock, b"unguarded"))
        # Only the second one is heard: it was the guard that kept the first away.
        assert heard.recv(100) == b"unguarded"


def test_a_port_that_is_published_no_longer_leads_nowhere(world: World) -> None:
    world.publish(world.bridged.endpoint(PortMapping(8080, 80)))
    with telling_server(world.bridged.netns, 80):
        assert ask(world.outside, HOST4, 8080) == OUTSIDE4
        world.publish(world.bridged.endpoint())
        with pytest.raises(OSError, match="refused"):
            ask(world.outside, HOST4, 8080)


def test_connections_under_way_survive_the_tables_replacement(world: World) -> None:
    """The agent rewrites the table whenever a container with ports comes or goes."""
    world.publish(world.bridged.endpoint(PortMapping(8080, 80)))
    server = world.bridged.netns.call(lambda: socket.create_server(("0.0.0.0", 80)))
    with server:
        client = world.outside.call(lambda: socket.create_connection((HOST4, 8080), timeout=60))
        channel, _ = server.accept()
        with client, channel:
            channel.settimeout(60)
            for number in range(5):
                ports = [PortMapping(8080, 80), PortMapping(9000 + number, 90)]
                world.publish(world.bridged.endpoint(*ports))
                client.sendall(b"%d" % number)
                assert channel.recv(10) == b"%d" % number
                channel.sendall(b"%d" % number)
                assert client.recv(10) == b"%d" % number


@pytest.mark.parametrize("host", [HOST4, HOST6])
def test_a_client_that_never_stops_asking_over_udp_follows_the_port(
    world: World, host: str
) -> None:
    """It asks before the port is published, while it is, after it has moved, and afterwards."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    world.publish()

    def told(client: socket.socket) -> bool:
        try:
            client.send(b"?")
            return bool(client.recv(100))
        except OSError:  # refused, or nobody answered in time
            return False

    with world.outside.call(lambda: socket.socket(family, UDP)) as client:
        client.settimeout(0.5)
        client.connect((host, 5353))
        assert not told(client)
        world.publish(world.bridged.endpoint(PortMapping(5353, 53, "udp")))
        with telling_server(world.bridged.netns, 53, UDP):
            wait_until(lambda: told(client), deadline_s=60, what="an answer from the first one")
        world.publish(world.routed.endpoint(PortMapping(5353, 54, "udp")))
        with telling_server(world.routed.netns, 54, UDP):
            wait_until(lambda: told(client), deadline_s=60, what="an answer from the second one")
        world.publish()
        with telling_server(world.host, 5353, UDP):
            wait_until(lambda: told(client), deadline_s=60, what="an answer from the host itself")
