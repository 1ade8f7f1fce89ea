"""Scene 1: three hosts, one pure layer-3 network, by calicoctl's words; all but the Docker steps.

Each step is played as its user would: a member of etcd on each host, calicoctl's own configuration
file, `calicoctl node run`, and then what ``ip`` shows. The network needs no word of Netloom's.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from netloom.kernel import namespaces
from netloom.lab import etcd, processes, record
from netloom.lab.documents import load_document
from netloom.lab.host import LabContainer
from netloom.lab.lab import Lab, LabHost
from netloom.lab.waiting import wait_until

LabUp = Callable[..., Lab]

CONFIG = """\
apiVersion: v1
kind: calicoApiConfig
metadata:
spec:
  datastoreType: "etcdv2"
  etcdEndpoints: "http://192.168.26.100:2379,http://192.168.26.101:2379,http://192.168.26.102:2379"
"""
POOL = "10.233.0.0/16"
NETWORK = "calico"
PATIENCE_S = 60.0

pytestmark = pytest.mark.skipif(
    not shutil.which("etcd") or not shutil.which("bird"), reason="etcd or bird is not installed"
)


class Scene:
    """The three hosts with their etcd, and calicoctl with its configuration file."""

    def __init__(self, lab: Lab, folder: Path) -> None:
        self.lab = lab
        self.folder = folder
        self.config = folder / "calicoctl.cfg"
        self.config.write_text(CONFIG)

    def calicoctl(self, host: LabHost, *words: str, **variables: str) -> str:
        settings = [f"{name}={value}" for name, value in variables.items()]
        return host.exec(["env", *settings, "calicoctl", "-c", str(self.config), *words])

    def status(self, host: LabHost) -> str:
        return self.calicoctl(host, "node", "status")

    def run(self) -> list[LabContainer]:
        """Make one container on each host."""
        return [
            host.run(f"c{number}", networks=[NETWORK]) for number, host in enumerate(self.lab.hosts)
        ]

    def blocks(self) -> dict[str, str]:
        return {host.name: block for host in self.lab.hosts for block in host.blocks()}


@pytest.fixture
def scene(lab_up: LabUp, tmp_path: Path) -> Scene:
    """Steps 1 and 2: etcd on every host, then ``node run`` on every host."""
    lab = lab_up(load_document("scene1"), run_agents=False)
    members = etcd.plan_members([host.underlay for host in lab.hosts], record.directory(lab.name))
    for host, member in zip(lab.hosts, members, strict=True):
        inside = ["nsenter", f"--net={namespaces.path(host.namespace)}"]
        log = host.home.directory / "etcd.log"
        processes.start_detached([*inside, *member.command(members)], host.environment, log)
    first = lab.hosts[0]
    health = ["env", "ETCDCTL_API=3", "etcdctl", "--endpoints=http://192.168.26.100:2379",
              "endpoint", "health"]  # fmt: skip
    wait_until(
        lambda: _answers(first, health), deadline_s=PATIENCE_S, what="a leader of etcd's members"
    )
    found = Scene(lab, tmp_path)
    for host in lab.hosts:
        logs = str(tmp_path / host.name)
        said = found.calicoctl(host, "node", "run", "--log-dir", logs, CALICO_IPV4POOL_CIDR=POOL)
        assert said.splitlines()[-1] == "Calico node started successfully"
    return found


def _answers(host: LabHost, command: list[str]) -> bool:
    return (
        subprocess.run(
            host.command(command), capture_output=True, env=host.environment, check=False
        ).returncode
        == 0
    )


def routes(host: LabHost | LabContainer, *words: str) -> list[str]:
    return [line.rstrip() for line in host.exec(["ip", "route", "show", *words]).splitlines()]


def wait_for_routes(scene: Scene) -> None:
    """Wait until each host has a route of BIRD's to every other one's block."""

    def there() -> bool:
        blocks = scene.blocks()
        return len(blocks) == 3 and all(
            any(re.match(rf"(blackhole )?{block} .*proto bird", line) for line in routes(host))
            for host in scene.lab.hosts
            for name, block in blocks.items()
        )

    wait_until(there, deadline_s=PATIENCE_S, what="every block on every host")


def test_scene_1_by_calicoctls_words(scene: Scene) -> None:
    hosts = scene.lab.hosts
    # 3. The table on any host: the two others, in calicoctl's frame.
    for host in hosts:
        wait_until(
            lambda host=host: scene.status(host).count("Established") == 2,  # type: ignore[misc]
            deadline_s=PATIENCE_S,
            what=f"{host.name}'s sessions",
        )
    lines = scene.status(hosts[0]).splitlines()
    assert lines[0] == "Calico process is running."
    assert lines[2:5] == [
        "IPv4 BGP status",
        "+----------------+-------------------+-------+----------+-------------+",
        "|  PEER ADDRESS  |     PEER TYPE     | STATE |  SINCE   |    INFO     |",
    ]
    peers = [line.split("|")[1].strip() for line in lines[6:8]]
    assert peers == ["192.168.26.101", "192.168.26.102"]
    for line in lines[6:8]:
        assert re.search(r"\| node-to-node mesh \| up +\| \d\d:\d\d:\d\d \| Established +\|", line)
    assert "No IPv6 peers found." in lines

    # 5. No container, no interface.
    assert not any("cali" in host.exec(["ip", "-br", "link"]) for host in hosts)

    # 6. One container per host: one address out of a /26 of that host, exactly two routes.
    containers = scene.run()
    wait_for_routes(scene)
    blocks = scene.blocks()
    for host, container in zip(hosts, containers, strict=True):
        assert blocks[host.name].endswith("/26")
        (inside,) = container.json(["ip", "-j", "-4", "address", "show", "eth0"])
        (address,) = inside["addr_info"]
        assert (address["local"], address["prefixlen"]) == (str(container.address), 32)
        assert routes(container) == [
            "default via 169.254.1.1 dev eth0",
            "169.254.1.1 dev eth0 scope link",
        ]

    # 7. The host's tables, line by line.
    for host, container in zip(hosts, containers, strict=True):
        (link,) = [
            each for each in host.json(["ip", "-j", "link"]) if each["ifname"].startswith("cali")
        ]
        assert re.fullmatch(r"cali[0-9a-f]{11}", link["ifname"])
        assert link["address"] == "ee:ee:ee:ee:ee:ee"
        own = host.json(["ip", "-j", "-4", "address", "show", link["ifname"]])
        assert not [each for each in own if each.get("addr_info")]
        expected = {
            "default via 192.168.26.2 dev ens32",
            f"192.168.26.0/24 dev ens32 proto kernel scope link src {host.underlay}",
            f"{container.address} dev {link['ifname']} proto 78 scope link",
            f"blackhole {blocks[host.name]} proto bird",
            *(
                f"{blocks[other.name]} via {other.underlay} dev ens32 proto bird"
                for other in hosts
                if other is not host
            ),
        }
        assert set(routes(host)) == expected  # and not one more
        (neighbour,) = host.json(["ip", "-j", "neigh", "show", "dev", link["ifname"]])
        (end,) = container.json(["ip", "-j", "link", "show", "eth0"])
        assert (neighbour["dst"], neighbour["lladdr"]) == (str(container.address), end["address"])
        assert "tunl0" not in host.exec(["ip", "-br", "link"])

    # 8. Two hops, no address is another's, and nothing is wrapped.
    first, second, third = containers
    with hosts[1].popen(
        ["tcpdump", "-nlc4", "-i", "ens32", "icmp or proto 4 or udp"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as wire:
        assert wire.stderr is not None
        while "listening" not in wire.stderr.readline():
            pass
        answer = first.exec(["ping", "-c2", str(second.address)])
        seen, _ = wire.communicate(timeout=60)
    assert " 0% packet loss" in answer
    assert "ttl=62" in answer
    assert seen.count(f"IP {first.address} > {second.address}: ICMP echo request") == 2
    assert seen.count(f"IP {second.address} > {first.address}: ICMP echo reply") == 2
    assert first.pings(third.address)
    assert third.pings(second.address)


def test_calicoctl_shows_the_cluster_as_its_users_know_it(scene: Scene) -> None:
    scene.run()
    first = scene.lab.hosts[0]
    nodes = scene.calicoctl(first, "get", "nodes", "-o", "wide").splitlines()
    assert [line.split() for line in nodes if line] == [
        ["NAME", "ASN", "IPV4", "IPV6"],
        *(
            [host.name, "(64512)", f"{host.underlay}/24"]
            for host in scene.lab.hosts
        ),
    ]  # fmt: skip
    pools = json.loads(scene.calicoctl(first, "get", "ippools", "-o", "json"))["items"]
    assert [pool["spec"]["cidr"] for pool in pools] == [POOL]
    wait_until(
        lambda: len(scene.calicoctl(first, "get", "workloadendpoints").split("\n")) == 6,
        deadline_s=PATIENCE_S,
        what="three containers in the datastore",
    )


def test_a_physical_router_peers_with_the_hosts_and_reaches_containers(
    scene: Scene, tmp_path: Path
) -> None:
    """Step 9, with a BIRD that nobody here configures as the router, in another AS."""
    containers = scene.run()
    peer = tmp_path / "tor.yaml"
    peer.write_text(
        """\
apiVersion: v1
kind: bgpPeer
metadata:
  scope: global
  peerIP: 192.168.26.2
spec:
  asNumber: 64999
"""
    )
    assert "Successfully created 1 'BGPPeer'" in scene.calicoctl(
        scene.lab.hosts[0], "create", "-f", str(peer)
    )
    router = scene.lab.node("gw")
    config = tmp_path / "router.conf"
    neighbours = "".join(
        f"protocol bgp n{n} {{ local 192.168.26.2 as 64999; neighbor {host.underlay} as 64512; "
        "passive on; ipv4 { import all; export none; }; }\n"
        for n, host in enumerate(scene.lab.hosts)
    )
    config.write_text(
        "router id 192.168.26.2;\nprotocol device {}\n"
        "protocol kernel { ipv4 { export all; }; }\n" + neighbours
    )
    with router.popen(
        ["bird", "-f", "-c", str(config), "-s", str(tmp_path / "router.ctl")],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as daemon:
        try:
            wait_until(
                lambda: all(
                    any(
                        line.startswith(f"{block} ")
                        for line in router.exec(["ip", "route"]).splitlines()
                    )
                    for block in scene.blocks().values()
                ),
                deadline_s=PATIENCE_S,
                what="the router's routes",
            )
            for host in scene.lab.hosts:
                assert re.search(r"\| 192\.168\.26\.2 +\| global ", scene.status(host))
            for container in containers:
                assert router.pings(container.address)
                assert container.pings("192.168.26.2")
        finally:
            daemon.terminate()
