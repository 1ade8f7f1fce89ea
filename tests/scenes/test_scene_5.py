"""Scene 5: flannel under plain Docker, with two real engines.

node1 192.168.17.10 has etcd, both nodes have Docker. What a user of flannel has stays as it is:
the key and its prefix, ``/etc/sysconfig/flanneld``, ``daemon.json``.
"""

from __future__ import annotations

import json
import shutil
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import pytest

from netloom.kernel import namespaces
from netloom.lab import agents, engines, etcd, processes, record, teardown
from netloom.lab.documents import load_document
from netloom.lab.host import LabHost
from netloom.lab.lab import Lab
from netloom.lab.processes import Process
from netloom.lab.waiting import wait_until
from netloom.lab.wire import Capture
from netloom.model.errors import Unavailable

PREFIX = "/atomic.io/network"
KEY = f"{PREFIX}/config"
POOL = ip_network("172.20.0.0/16")
GATEWAY = "192.168.17.2"
ETCD = "http://192.168.17.10:2379"
SYSCONFIG = f"""# Flanneld configuration options
FLANNEL_ETCD_ENDPOINTS="{ETCD}"
FLANNEL_ETCD_PREFIX="{PREFIX}"
"""
PATIENCE_S = 60.0
#: An /etc of the host's own: the machine's below, the file of the host's upon it.
WITH_ITS_ETC = """
set -eu
mount -n -t tmpfs tmpfs "$1"
mkdir -p "$1/etc/sysconfig" "$1/work"
printf %s "$2" >"$1/etc/sysconfig/flanneld"
mount -n -t overlay overlay -o "lowerdir=/etc,upperdir=$1/etc,workdir=$1/work" /etc
shift 2
exec "$@"
"""
MISSING = [name for name in ("dockerd", "docker", "etcd", "etcdctl") if not shutil.which(name)]
pytestmark = pytest.mark.skipif(bool(MISSING), reason=f"missing: {', '.join(MISSING)}")


@dataclass(frozen=True)
class Backend:
    """What a user sees of a backend: its part of the configuration, its device, its MTU."""

    config: str
    device: str
    mtu: int
    length: int


OWN_KEYS = {"log-driver": "json-file", "max-concurrent-downloads": 2}
BACKENDS = {
    "udp": Backend('{ "Network": "172.20.0.0/16" }', "flannel0", 1472, 16),
    "vxlan": Backend(
        '{ "Network": "172.20.0.0/16", "Backend": {"Type": "vxlan"} }', "flannel.1", 1450, 32
    ),
}


@pytest.fixture
def document() -> dict[str, Any]:
    return load_document("scene5")


@pytest.fixture
def lab(lab_up: Callable[..., Lab], document: dict[str, Any]) -> Lab:
    """The two nodes, with etcd on the first."""
    made = lab_up(document, run_agents=False)
    node1 = made.host("node1")
    (member,) = etcd.plan_members([node1.underlay], record.directory(made.name))
    inside = ["nsenter", f"--net={namespaces.path(node1.namespace)}"]
    log = node1.home.directory / "etcd.log"
    processes.start_detached([*inside, *member.command([member])], node1.environment, log)
    until(lambda: "is healthy" in etcdctl(made, "endpoint", "health", check=False), "etcd")
    return made


def until(condition: Callable[[], object], what: str) -> None:
    wait_until(lambda: condition() or None, deadline_s=PATIENCE_S, what=what)


def until_on(hosts: list[LabHost], condition: Callable[[LabHost], object], what: str) -> None:
    """Wait for every host; one that does not get there is named with what its daemon said."""
    for host in hosts:
        try:
            until(lambda host=host: condition(host), f"{host.name}: {what}")  # type: ignore[misc]
        except Unavailable as error:
            raise AssertionError(f"{error}\n{agents.last_words(host.home, 30)}") from None


def etcdctl(lab: Lab, *words: str, check: bool = True) -> str:
    argv = ["env", "ETCDCTL_API=3", "etcdctl", f"--endpoints={ETCD}", *words]
    return lab.host("node1").exec(["sh", "-c", 'exec "$@" 2>&1', "sh", *argv], check=check)


def start_flanneld(host: LabHost, sysconfig: str = SYSCONFIG) -> None:
    """Start ``flanneld`` as its unit would, with the host's own ``/etc/sysconfig/flanneld``."""
    own = host.home.directory / "own"
    own.mkdir()
    environment = {k: v for k, v in host.environment.items() if k != "NETLOOM_DATASTORE"}
    argv = [
        *("nsenter", f"--net={namespaces.path(host.namespace)}"),
        *("unshare", "--mount", "--propagation", "slave"),
        *("sh", "-c", WITH_ITS_ETC, "sh", str(own), sysconfig),
        *(sys.executable, "-m", "netloom.cli.flanneld", "-ip-masq"),
    ]
    process = processes.start_detached(argv, environment, host.home.log)
    assert process is not None, host.home.log.read_text()
    record.write_json(host.home.directory / "agent.json", process.render())


def problems(host: LabHost) -> str:
    try:
        return "; ".join(problem["text"] for problem in host.status()["problems"])
    except Unavailable:
        return ""


def well(host: LabHost) -> bool:
    try:
        status = host.status()
    except Unavailable:  # it does not listen yet
        return False
    return bool(status["ready"] and host.blocks() and host.home.subnet_file.exists())


def docker(host: LabHost, *words: str) -> str:
    return host.exec(["docker", *words]).strip()


def container(host: LabHost, name: str) -> str:
    """Run a container; return its address."""
    docker(host, "run", "-d", "--init", "--name", name, engines.IMAGE, "sleep", "3600")
    form = "{{.NetworkSettings.IPAddress}}"
    return docker(host, "inspect", "-f", form, name)


def ping(host: LabHost, name: str, address: str, *, wait_s: int = 5) -> str:
    """Ping from a container of Docker's; return what ping printed."""
    argv = ["ping", "-c", "3", "-i", "0.2", "-W", str(wait_s), address]
    return host.exec(["docker", "exec", name, *argv], check=False)


def device(host: LabHost, name: str) -> tuple[int, list[str]]:
    """Return an interface's MTU and its IPv4 addresses with their length."""
    (link,) = host.json(["ip", "-j", "-4", "address", "show", "dev", name])
    return link["mtu"], [f"{a['local']}/{a['prefixlen']}" for a in link["addr_info"]]


def flannel_up(lab: Lab, backend: Backend) -> None:
    """Start both programs before the key is there, write it, wait until all is well."""
    for host in lab.hosts:
        start_flanneld(host)
    until_on(lab.hosts, lambda host: KEY in problems(host), "the missing key by name")
    etcdctl(lab, "put", KEY, backend.config)
    until_on(lab.hosts, well, "ready")


def docker_with_settings(lab: Lab) -> None:
    """Start both engines as they are before anybody thinks of flannel: with keys of their own."""
    for host in lab.hosts:
        host.home.docker.mkdir()
        host.home.daemon_json.write_text(json.dumps(OWN_KEYS))
        host.start_docker()
        assert "-P FORWARD DROP" in host.exec(["iptables", "-S"])


def check_host(host: LabHost, backend: Backend) -> None:
    """Check steps 1 and 2: the device, the file, Docker's settings and bridge."""
    (block,) = [ip_network(each) for each in host.blocks()]
    assert block.subnet_of(POOL)
    first = f"{block.network_address + 1}/{block.prefixlen}"
    mtu, (address,) = device(host, backend.device)
    assert (mtu, address) == (backend.mtu, f"{block.network_address}/{backend.length}")
    assert host.home.subnet_file.read_text() == (
        f"FLANNEL_NETWORK={POOL}\nFLANNEL_SUBNET={first}\n"
        f"FLANNEL_MTU={backend.mtu}\nFLANNEL_IPMASQ=true\n"
    )
    host.exec(["netloom", "docker-opts", "--write"])
    told = {"bip": first, "mtu": backend.mtu, "ip-masq": False}
    assert json.loads(host.home.daemon_json.read_text()) == OWN_KEYS | told
    host.start_docker()
    assert device(host, "docker0")[1] == [first]


# Of the second backend only the device is another: ten seconds that every run need not pay.
@pytest.mark.parametrize("name", ["udp", pytest.param("vxlan", marks=pytest.mark.slow)])
def test_containers_of_two_docker_engines_talk_whatever_docker_does_to_forward(
    lab: Lab, name: str
) -> None:
    """Steps 1 to 5 in a user's order: Docker is there first, and drops what is forwarded."""
    backend = BACKENDS[name]
    docker_with_settings(lab)
    flannel_up(lab, backend)
    for host in lab.hosts:
        check_host(host, backend)
    one, two = lab.hosts
    near, far = container(one, "aa"), container(two, "bb")
    for host, address in ((one, near), (two, far)):
        assert ip_address(address) in ip_network(host.blocks()[0])
    assert f"mtu {backend.mtu}" in docker(one, "exec", "aa", "ip", "link", "show", "dev", "eth0")
    until_on(lab.hosts, lets_us_through, "our rules")
    # Between containers nobody translates addresses; outside a container has that of its host.
    with Capture(two, "docker0", "icmp") as wire:
        assert " 0% packet loss" in ping(one, "aa", far)
        wire.until(lambda frames: len(frames) >= 2, "request and reply")
    assert {str(frame.source) for frame in wire.frames} == {near, far}
    assert " 0% packet loss" in ping(two, "bb", near)
    assert " 0% packet loss" in ping(one, "aa", GATEWAY)
    block_by_another(two)
    assert " 100% packet loss" in ping(one, "aa", far, wait_s=1)


@pytest.fixture
def both_families(document: dict[str, Any]) -> None:
    """Give the nodes IPv6 addresses, too."""
    document["segments"][0] = {"name": "lan", "subnets": ["192.168.17.0/24", "fd17::/64"]}
    for host, number in zip(document["hosts"], ("10", "20"), strict=True):
        addresses = [f"192.168.17.{number}", f"fd17::{number}"]
        host["interfaces"] = [{"name": "ens33", "segment": "lan", "addresses": addresses}]


@pytest.mark.slow  # nothing but Docker's side of it is new: ten seconds
@pytest.mark.usefixtures("both_families")
def test_docker_takes_a_block_of_each_family(lab: Lab) -> None:
    config = '"EnableIPv6": true, "IPv6Network": "fd00:20::/48", "Backend": {"Type": "vxlan"}'
    flannel_up(lab, replace(BACKENDS["vxlan"], config=f'{{"Network": "{POOL}", {config}}}'))
    for host in lab.hosts:
        _, block = [ip_network(each) for each in host.blocks()]
        host.start_docker()
        host.exec(["netloom", "docker-opts", "--write"])
        told = json.loads(host.home.daemon_json.read_text())
        assert (told["ipv6"], told["fixed-cidr-v6"]) == (True, str(block))
        host.start_docker()
    one, two = lab.hosts
    container(one, "aa")
    container(two, "bb")
    form = "{{.NetworkSettings.GlobalIPv6Address}}"
    assert " 0% packet loss" in ping(one, "aa", docker(two, "inspect", "-f", form, "bb"))
    assert " 0% packet loss" in ping(two, "bb", docker(one, "inspect", "-f", form, "aa"))


def mtu_inside(host: LabHost, name: str) -> int:
    """Return the MTU that a container of Docker's has."""
    return int(docker(host, "exec", name, "cat", "/sys/class/net/eth0/mtu"))


def test_after_a_switch_docker_has_the_new_mtu_with_its_next_start_and_containers_with_theirs(
    lab: Lab,
) -> None:
    """Until then they keep theirs, and what is too long for the tunnel is told them by ICMP."""
    plain = f'{{ "Network": "{POOL}", "Backend": {{"Type": "host-gw"}} }}'
    flannel_up(lab, replace(BACKENDS["vxlan"], config=plain))
    for host in lab.hosts:
        host.exec(["netloom", "docker-opts", "--write"])
        host.start_docker()
    one, two = lab.hosts
    container(one, "aa")
    far = container(two, "bb")
    assert mtu_inside(one, "aa") == 1500
    long = ["docker", "exec", "aa", "ping", "-c", "1", "-W", "2", "-s", "1472", far]
    until(lambda: " 0% packet loss" in one.exec(long, check=False), "long packets, whole")

    etcdctl(lab, "put", KEY, BACKENDS["vxlan"].config)
    until_on(lab.hosts, lambda h: "MTU=1450" in h.home.subnet_file.read_text(), "the new MTU")
    until_on(lab.hosts, lambda h: "flannel.1" in h.status()["peers"][0]["path"], "the new way")
    assert mtu_inside(one, "aa") == 1500
    until(lambda: " 0% packet loss" in one.exec(long, check=False), "long packets, in two")

    assert "mtu 1450" in one.exec(["netloom", "docker-opts", "--write"])
    assert mtu_inside(one, "aa") == 1500, "Docker was not told to look"
    one.start_docker()
    docker(one, "start", "aa")
    assert mtu_inside(one, "aa") == 1450
    assert " 0% packet loss" in ping(one, "aa", far)


def lets_us_through(host: LabHost) -> bool:
    """Tell whether Docker's FORWARD still drops, yet not what is ours (step 4)."""
    rules = host.exec(["iptables", "-S"]).splitlines()
    assert "-P FORWARD DROP" in rules
    ours = {"-A FORWARD -j DOCKER-USER", "-A DOCKER-USER -j NETLOOM-FORWARD"}
    return ours <= set(rules) and not problems(host)


def block_by_another(host: LabHost) -> None:
    """Let a firewall that is neither Docker's nor ours drop; return when the status names it."""
    chain = "{ type filter hook forward priority 10; policy drop; }"
    host.exec(["nft", f"add table inet site; add chain inet site fence {chain}"])
    named = "chain fence of table inet site drops what is forwarded"
    until_on([host], lambda _: named in problems(host), "the chain named by the status")


def test_with_the_wrong_prefix_the_key_that_was_looked_for_is_named_and_waited_for(
    lab: Lab,
) -> None:
    """Step 5; that the right key may come late is part of the test above."""
    (host, _) = lab.hosts
    etcdctl(lab, "put", KEY, BACKENDS["udp"].config)
    start_flanneld(host, SYSCONFIG.replace(PREFIX, "/coreos.com/network"))
    wrong = "/coreos.com/network/config"
    until_on([host], lambda _: wrong in problems(host), "the key's name")
    assert not host.blocks()
    etcdctl(lab, "put", wrong, BACKENDS["udp"].config)
    until_on([host], well, "the agent to go on")


CGROUPS = Path("/sys/fs/cgroup")


def contained(host: LabHost) -> set[int]:
    """Return the processes in containers of the host's engine, by their ids out here."""
    files = CGROUPS.glob(f"**/{host.namespace}/*/cgroup.procs")
    return {int(pid) for file in files for pid in file.read_text().split()}


def daemons(lab: Lab) -> list[Process]:
    """Return the lab's engines."""
    found = []
    for process in processes.members(lab.name):
        with suppress(OSError):
            if Path(f"/proc/{process.pid}/comm").read_text() == "dockerd\n":
                found.append(process)
    assert found
    return found


def remains(lab: Lab) -> list[str]:
    """Return what there still is of a lab: processes, namespaces, mounts, groups, files."""
    found = [str(process) for process in processes.members(lab.name)]
    found += teardown.namespaces_of(lab.name)
    found += [str(path) for path in CGROUPS.glob(f"**/nl-{lab.name}-*")]
    found += [
        line for line in Path("/proc/self/mounts").read_text().splitlines() if lab.name in line
    ]
    return found + [str(path) for path in [record.directory(lab.name)] if path.exists()]


def test_an_engine_that_is_killed_takes_its_containers_along_and_leaves_nothing(lab: Lab) -> None:
    """Whoever kills it, and when: nothing of it stays when the lab is down."""
    host = lab.host("node1")
    host.start_docker()
    container(host, "aa")
    inside = contained(host)
    assert inside
    for daemon in daemons(lab):
        daemon.signal(signal.SIGKILL)
    until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in inside), "the containers' end")
    host.start_docker()  # over what the dead one left
    docker(host, "start", "aa")
    (sleeper, *_) = contained(host)
    lab.down()
    assert remains(lab) == []
    assert not Path(f"/proc/{sleeper}").exists()
