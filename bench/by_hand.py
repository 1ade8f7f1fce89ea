"""The floor of routed containers: the same cables and routes made by hand, no agent, no firewall.

What forwarding through two hosts costs by itself on this machine. A firewall that masquerades makes
the kernel track connections, whoever writes its rules: hosts that do so are a floor of their own.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from netloom.kernel import namespaces
from netloom.lab.documents import default_document
from netloom.lab.host import LabHost
from netloom.lab.lab import Lab
from netloom.lab.place import Place
from netloom.lab.processes import myself
from netloom.lab.waiting import wait_until

#: Client, server, and the server's address.
Pair = tuple[Place, Place, str]
_GATEWAY = "169.254.1.1"
#: Meets no packet here: that there is source NAT at all makes the kernel track.
_MASQUERADE = """
add table inet masks
add chain inet masks post { type nat hook postrouting priority srcnat; policy accept; }
add rule inet masks post ip saddr 10.99.0.0/16 masquerade fully-random
"""


@dataclass(frozen=True, slots=True)
class ByHand:
    """Two hosts without an agent, and a container on each."""

    hosts: Pair
    containers: Pair


@contextmanager
def by_hand(*, masquerading: bool = False) -> Iterator[ByHand]:
    """Wire a container on each of two hosts; ``masquerading``: these have a firewall that does."""
    document = default_document(hosts=2, network=None)
    name = f"bench{os.getpid()}{'masks' if masquerading else 'hand'}"
    with Lab.up(document, name=name, owner=myself(), run_agents=False) as lab:
        h1, h2 = lab.hosts
        client = _container(h1, "10.244.1.2", "10.244.2.0/24", h2)
        server = _container(h2, "10.244.2.2", "10.244.1.0/24", h1)
        wait_until(lambda: client.pings("10.244.2.2"), deadline_s=10, what="the way by hand")
        for host in (h1, h2):
            if masquerading:
                host.exec(["nft", _MASQUERADE])
        yield ByHand((h1, h2, h2.underlay), (client, server, "10.244.2.2"))


def _container(host: LabHost, address: str, others: str, peer: LabHost) -> Place:
    """Make a routed container as attachment ``routed`` does; taking the lab down removes it."""
    netns = f"{host.namespace}.c"
    namespaces.create(netns)
    for where, words in (
        (host.namespace, f"link add cali0 type veth peer name eth0 netns {netns}"),
        (host.namespace, "link set cali0 up"),
        (host.namespace, f"route add {address} dev cali0"),
        (host.namespace, f"route add {others} via {peer.underlay}"),
        (netns, "link set eth0 up"),
        (netns, f"addr add {address}/32 dev eth0"),
        (netns, f"route add {_GATEWAY} dev eth0"),
        (netns, f"route add default via {_GATEWAY}"),
    ):
        subprocess.run(["ip", "-n", where, *words.split()], check=True)
    forwards = ["ip_forward=1", "conf.cali0.proxy_arp=1", "neigh.cali0.proxy_delay=0"]
    host.exec(["sysctl", "-qw", *(f"net.ipv4.{each}" for each in forwards)])
    return Place(f"{host.name}/c", netns, host.environment)
