"""Hosts with flannel's own daemon and hosts with ours share one network.

h1 has our agent, h2 and h3 have flannel's daemon; all use flannel's keys in one etcd. The blocks
are three, one for each. Every property is looked at from both sides.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
from tests.scenes import flanneld
from tests.scenes.flanneld import FlannelContainer, Flanneld

from netloom.kernel.udp.control import Control
from netloom.lab import etcd, wiring
from netloom.lab.documents import load_document
from netloom.lab.host import LabContainer, LabHost
from netloom.lab.lab import Lab
from netloom.lab.processes import Process, myself
from netloom.lab.traffic import Pings
from netloom.lab.waiting import wait_until
from netloom.lab.wire import Capture
from netloom.model.errors import NetloomError, Unavailable
from netloom.store.flannel.lease import Lease, parse_key
from netloom.store.flannel.subnet_env import SubnetEnv

DAEMON, WHY_NOT = flanneld.find()
pytestmark = [
    pytest.mark.slow,  # a lab, an etcd and three daemons for each way hosts reach each other
    pytest.mark.skipif(not DAEMON, reason=WHY_NOT),
    pytest.mark.skipif(not shutil.which("etcd"), reason="etcd-server is not installed"),
    pytest.mark.skipif(not shutil.which("etcdctl"), reason="etcd-client is not installed"),
    pytest.mark.skipif(
        not (flanneld.PLUGINS / "bridge").exists(), reason="needs containernetworking-plugins"
    ),
]
PREFIX = "/coreos.com/network"
SUBNETS = f"{PREFIX}/subnets/"
PATIENCE_S = 60.0
CONFIG: dict[str, Any] = {
    "Network": "10.5.0.0/16",
    "SubnetMin": "10.5.1.0",
    "SubnetMax": "10.5.3.0",
}
WAYS: dict[str, dict[str, Any]] = {
    "vxlan": {"Type": "vxlan"},
    "vxlan-direct": {"Type": "vxlan", "DirectRouting": True},
    "host-gw": {"Type": "host-gw"},
    "udp": {"Type": "udp"},
}
MTU = {"vxlan": 1450, "vxlan-direct": 1450, "host-gw": 1500, "udp": 1472}
TUNNELLED = ["vxlan"]


@dataclass
class Mixed:
    """The lab, and who runs where."""

    lab: Lab
    way: str
    folder: Path
    ours: LabHost
    theirs: Flanneld
    a: LabContainer
    b: FlannelContainer | LabContainer

    def etcdctl(self, *arguments: str) -> str:
        """Run etcdctl as an operator would."""
        member = etcd.members(self.lab.name)[0]
        netns = wiring.namespace(self.lab.name, member.name)
        return subprocess.run(
            ["ip", "netns", "exec", netns, "etcdctl", "--endpoints", member.endpoint, *arguments],
            env={"ETCDCTL_API": "3", "PATH": "/usr/bin:/usr/sbin:/sbin"},
            capture_output=True,
            text=True,
            check=True,
        ).stdout

    def leases(self) -> dict[str, bytes]:
        """Return the leases in etcd by block."""
        found = json.loads(self.etcdctl("get", "--prefix", SUBNETS, "-w", "json")).get("kvs", ())
        return {
            _text(each["key"]).removeprefix(SUBNETS): _text(each["value"]).encode()
            for each in found
        }

    def lease(self, host: LabHost) -> tuple[str, bytes]:
        """Return the key's last part and the value of the lease that names this host."""
        for segment, value in self.leases().items():
            with suppress(Exception):
                if str(Lease.parse(value).public_ip) == host.underlay:
                    return segment, value
        raise AssertionError(f"no lease of {host.name}")

    def etcd_lease(self, segment: str) -> int:
        """Return the id of etcd's lease that a key hangs on."""
        shown = json.loads(self.etcdctl("get", SUBNETS + segment, "-w", "json"))
        return int(shown["kvs"][0]["lease"])


def _text(encoded: str) -> str:
    import base64

    return base64.b64decode(encoded).decode()


@pytest.fixture(scope="module", params=list(WAYS))
def standing(
    request: pytest.FixtureRequest,
    lab_names: Iterator[str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Mixed]:
    document = load_document("scene2-router")
    document["networks"] = []
    if request.param in ("host-gw",):  # it needs one segment
        document["hosts"][2]["interfaces"][0] |= {"segment": "lan", "address": "192.168.31.64"}
    folder = tmp_path_factory.mktemp("flannel")
    with Lab.up(
        document,
        name=next(lab_names),
        owner=myself(),
        run_agents=False,
        etcd_members=1,
        etcd_options="format=flannel",
    ) as lab:
        h1, h2 = lab.host("h1"), lab.host("h2")
        theirs = Flanneld(lab.name, h2, folder)
        mixed = Mixed(lab, request.param, folder, h1, theirs, None, None)  # type: ignore[arg-type]
        config = CONFIG | {"Backend": WAYS[request.param]}
        mixed.etcdctl("put", f"{PREFIX}/config", json.dumps(config))
        theirs.start()
        h1.start_agent()
        mixed.a, mixed.b = h1.run("a"), theirs.run("b")
        yield mixed


@pytest.fixture
def mixed(standing: Mixed) -> Iterator[Mixed]:
    """The mixed cluster, with both ways open before and after."""
    in_touch(standing)
    yield standing
    in_touch(standing)


def in_touch(mixed: Mixed) -> None:
    """Wait until containers talk both ways and our host has nothing left to do."""
    for source, target in ((mixed.a, mixed.b), (mixed.b, mixed.a)):
        wait_until(
            lambda source=source, target=target: source.pings(target.address),  # type: ignore[misc]
            deadline_s=PATIENCE_S,
            what=f"{source.name} to reach {target.name}",
        )
    wait_until(lambda: mixed.ours.status()["ready"], deadline_s=PATIENCE_S, what="h1 ready")
    in_step(mixed.ours)


def in_step(host: LabHost) -> None:
    wait_until(
        lambda: not host.json(["netloom", "plan", "-o", "json"])["changes"],
        deadline_s=PATIENCE_S,
        what=f"an empty plan of {host.name}",
    )


def tunnel_mac(host: LabHost) -> str:
    return str(host.json(["ip", "-j", "link", "show", "flannel.1"])[0]["address"])


def routes(host: LabHost, block: str) -> list[Any]:
    return list(host.json(["ip", "-j", "route", "show", "exact", block]))


def stop_for_good(lab: Lab, host: LabHost) -> None:
    """End our agent and, where there is one, the UDP proxy that outlives it and holds the port."""
    lab.fault(host.name, "stop-agent")
    with suppress(NetloomError, OSError):
        control = Control(host.home.directory / "run" / "udp", "flannel0")
        pid = control.pid
        control.close()
        os.kill(pid, signal.SIGTERM)
        eventually(lambda: Process.of(pid) is None, "the proxy's end")
        host.exec(["ip", "link", "delete", "flannel0"], check=False)


def eventually(condition: Callable[[], Any], what: str) -> Any:
    return wait_until(condition, deadline_s=PATIENCE_S, what=what)


def test_containers_and_hosts_reach_each_other_both_ways(mixed: Mixed) -> None:
    a, b = mixed.a, mixed.b
    places = ((a, b), (b, a), (mixed.ours, b), (mixed.theirs.host, a))
    for source, target in places:
        source.exec(["ping", "-n", "-c", "2", "-i", "0.2", "-W", "5", target.address])


def test_the_largest_packet_fits_and_both_sides_have_one_mtu(mixed: Mixed) -> None:
    mtu = MTU[mixed.way]
    assert mixed.theirs.env.mtu_bytes == mtu
    for source, target in ((mixed.a, mixed.b), (mixed.b, mixed.a)):
        (link,) = source.json(["ip", "-j", "link", "show", "eth0"])
        assert link["mtu"] == mtu
        whole = ["ping", "-n", "-c", "1", "-W", "5", "-M", "do", "-s", str(mtu - 28)]
        source.exec([*whole, target.address])


def test_subnet_env_says_the_same_on_both_sides_but_for_the_block(mixed: Mixed) -> None:
    ours = SubnetEnv.load(mixed.ours.home.subnet_file)
    theirs = mixed.theirs.env
    assert ours.render() == replace(theirs, subnets=ours.subnets).render()
    assert [str(subnet.network) for subnet in ours.subnets] == mixed.ours.blocks()
    assert theirs.render() == mixed.theirs.file.read_text()


def test_what_they_write_we_read_and_would_write_alike_and_ours_has_their_shape(
    mixed: Mixed,
) -> None:
    for host in (mixed.ours, mixed.theirs.host):
        segment, value = mixed.lease(host)
        assert Lease.parse(value).render() == value
        assert parse_key(segment)
        left_s = json.loads(
            mixed.etcdctl("lease", "timetolive", f"{mixed.etcd_lease(segment):x}", "-w", "json")
        )["granted-ttl"]
        assert left_s == 86400
    ours, theirs = (mixed.lease(host)[1] for host in (mixed.ours, mixed.theirs.host))
    assert _shape(ours) == _shape(theirs)


def _shape(value: bytes) -> bytes:
    return re.sub(rb'"(\d+\.){3}\d+"|"([0-9a-f]{2}:){5}[0-9a-f]{2}"', b"X", value)


def test_each_side_has_the_others_tunnel_end_in_its_tables(mixed: Mixed) -> None:
    if mixed.way != "vxlan":
        pytest.skip("about vxlan")
    h1, h2 = mixed.ours, mixed.theirs.host
    block1 = parse_key(mixed.lease(h1)[0])[0]
    block2 = parse_key(mixed.lease(h2)[0])[0]
    for near, far, block in ((h1, h2, block2), (h2, h1, block1)):
        mac, gateway = tunnel_mac(far), str(block.network_address)
        (route,) = routes(near, str(block))
        assert (route["dev"], route["gateway"]) == ("flannel.1", gateway)
        assert "onlink" in route["flags"]
        neighbours = near.json(["ip", "-j", "neigh", "show", "dev", "flannel.1"])
        assert {(n["dst"], n["lladdr"]) for n in neighbours if "PERMANENT" in n["state"]} == {
            (gateway, mac)
        }
        fdb = near.json(["bridge", "-j", "fdb", "show", "dev", "flannel.1"])
        assert {(f["mac"], f["dst"]) for f in fdb if "dst" in f} == {(mac, far.underlay)}
        lease = Lease.parse(mixed.lease(far)[1])
        assert lease.data == {"VNI": 1, "VtepMAC": mac}


def test_between_hosts_of_one_segment_routes_go_directly(mixed: Mixed) -> None:
    if mixed.way not in ("vxlan-direct", "host-gw"):
        pytest.skip("about host-gw and DirectRouting")
    h1, h2 = mixed.ours, mixed.theirs.host
    for near, far in ((h1, h2), (h2, h1)):
        block = str(parse_key(mixed.lease(far)[0])[0])
        (route,) = routes(near, block)
        assert (route["dev"], route["gateway"]) == ("ens33", far.underlay)


def test_on_the_wire_it_is_plain_vxlan_with_vni_1_on_port_8472(mixed: Mixed) -> None:
    if mixed.way != "vxlan":
        pytest.skip("about vxlan")
    a, b = mixed.a, mixed.b
    with Capture(mixed.ours, "ens33", "udp port 8472") as wire:
        a.exec(["ping", "-n", "-c", "1", "-W", "5", b.address])
        frames = wire.until(lambda f: f[:2] if len(f) > 1 else None, "request and reply")
    for frame in frames:
        assert (frame.vni, frame.ports[1]) == (1, 8472)
        assert frame.inner is not None
    there, back = (frame.inner for frame in frames)
    assert (there.source_mac, there.destination_mac) == (  # type: ignore[union-attr]
        tunnel_mac(mixed.ours),
        tunnel_mac(mixed.theirs.host),
    )
    assert (str(back.source), str(back.destination)) == (b.address, a.address)  # type: ignore[union-attr]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_our_agents_restart_costs_no_packet(mixed: Mixed, number: signal.Signals) -> None:
    fault = "stop-agent" if number == signal.SIGTERM else "kill-agent"
    before = mixed.leases()
    with (
        Pings(mixed.a, mixed.b.address, 0.01) as there,
        Pings(mixed.b, mixed.a.address, 0.01) as back,
    ):
        mixed.lab.fault("h1", fault)
        mixed.ours.start_agent()
        in_step(mixed.ours)
    assert (there.lost, back.lost) == (0, 0)
    assert mixed.leases() == before


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_their_daemons_restart_is_survived(mixed: Mixed, number: signal.Signals) -> None:
    """Where its kernel state outlives it nothing is lost; its TUN device does not."""
    block = mixed.theirs.block
    with (
        Pings(mixed.a, mixed.b.address, 0.01) as there,
        Pings(mixed.b, mixed.a.address, 0.01) as back,
    ):
        mixed.theirs.stop(number)
        mixed.theirs.start()
        in_touch(mixed)
    if mixed.way != "udp":
        assert (there.lost, back.lost) == (0, 0)
    assert mixed.theirs.block == block


def test_a_host_of_ours_joins_and_takes_the_block_that_is_left(mixed: Mixed) -> None:
    h3 = mixed.lab.host("h3")
    h3.start_agent()
    c = h3.run("c")
    for source, target in ((mixed.b, c), (c, mixed.b), (mixed.a, c), (c, mixed.a)):
        eventually(lambda s=source, t=target: s.pings(t.address), f"{source.name} → {target.name}")  # type: ignore[misc]
    blocks = [parse_key(segment)[0] for segment in mixed.leases()]
    assert sorted(map(str, blocks)) == ["10.5.1.0/24", "10.5.2.0/24", "10.5.3.0/24"]
    assert h3.blocks() == [str(parse_key(mixed.lease(h3)[0])[0])]
    segment = mixed.lease(h3)[0]
    h3.remove("c")
    stop_for_good(mixed.lab, h3)
    mixed.etcdctl("del", SUBNETS + segment)


def test_a_third_host_of_theirs_joins_and_takes_the_block_that_is_left(mixed: Mixed) -> None:
    """Three blocks and three hosts: a claim that respected nothing would meet another's."""
    third = Flanneld(mixed.lab.name, mixed.lab.host("h3"), mixed.folder)
    third.start()
    c = third.run("d")
    for source, target in ((mixed.a, c), (c, mixed.a)):
        eventually(lambda s=source, t=target: s.pings(t.address), f"{source.name} → {target.name}")  # type: ignore[misc]
    blocks = [parse_key(segment)[0] for segment in mixed.leases()]
    assert sorted(map(str, blocks)) == ["10.5.1.0/24", "10.5.2.0/24", "10.5.3.0/24"]
    if mixed.way == "vxlan-direct":
        (route,) = routes(mixed.ours, third.block)
        assert route["dev"] == "flannel.1"
    third.stop()
    mixed.etcdctl("del", SUBNETS + third.block.replace("/", "-"))
    eventually(lambda: mixed.way == "udp" or not routes(mixed.ours, third.block), "its route gone")


def test_their_lease_deleted_by_hand_takes_our_route_and_a_restart_brings_it_back(
    mixed: Mixed,
) -> None:
    segment, _ = mixed.lease(mixed.theirs.host)
    block = mixed.theirs.block
    mixed.etcdctl("del", SUBNETS + segment)
    mixed.theirs.wait_end()  # a daemon whose lease was revoked ends
    if mixed.way != "udp":  # one route to all there
        eventually(lambda: not routes(mixed.ours, block), "our route to go")
    in_step(mixed.ours)
    mixed.theirs.start()
    assert mixed.theirs.block == block


def test_their_lease_that_ends_takes_our_route(mixed: Mixed) -> None:
    segment, value = mixed.lease(mixed.theirs.host)
    block = mixed.theirs.block
    mixed.theirs.stop(signal.SIGKILL)
    short = mixed.etcdctl("lease", "grant", "2").split()[1]
    mixed.etcdctl("put", f"--lease={short}", SUBNETS + segment, value.decode())
    eventually(lambda: segment not in mixed.leases(), "the lease to end")
    if mixed.way != "udp":
        eventually(lambda: not routes(mixed.ours, block), "our route to go")
    in_step(mixed.ours)
    mixed.theirs.start()
    assert mixed.theirs.block == block


@pytest.mark.parametrize("how", ["deleted", "revoked"])
def test_our_lease_taken_away_is_put_back_and_they_follow(mixed: Mixed, how: str) -> None:
    segment, value = mixed.lease(mixed.ours)
    if how == "deleted":
        mixed.etcdctl("del", SUBNETS + segment)
    else:
        mixed.etcdctl("lease", "revoke", f"{mixed.etcd_lease(segment):x}")
    eventually(lambda: mixed.leases().get(segment) == value, "our lease to be back")
    assert mixed.etcd_lease(segment) != 0
    in_touch(mixed)


def test_a_poison_key_harms_neither_our_routes_nor_our_containers(mixed: Mixed) -> None:
    """Some versions of flannel withdraw every route for it; what we hold stays."""
    block = mixed.theirs.block
    before = routes(mixed.ours, block)
    for key in (f"{SUBNETS}x", f"{PREFIX}/subnets-foo"):
        mixed.etcdctl("put", key, "y")
    eventually(lambda: "subnets/x" in json.dumps(mixed.ours.status()["problems"]), "it is named")
    assert routes(mixed.ours, block) == before
    for key in (f"{SUBNETS}x", f"{PREFIX}/subnets-foo"):
        mixed.etcdctl("del", key)
    eventually(
        lambda: "subnets/x" not in json.dumps(mixed.ours.status()["problems"]),
        "it is no problem any more",
    )


def test_their_daemon_never_complained_of_what_we_wrote(mixed: Mixed) -> None:
    with suppress(Unavailable):
        in_touch(mixed)
    said = mixed.theirs.log.read_text().splitlines()
    wrong = [line for line in said if re.match(r"[EF]\d{4} ", line)]
    # a lease that a test deleted, a daemon that a test ended, a key that a test poisoned
    own = re.compile(r"revoked|interrupted|context canceled|subnets/x|subnets-foo|key: x")
    assert [line for line in wrong if not own.search(line)] == []


def test_a_host_moves_from_their_daemon_to_our_agent_and_back_and_again(mixed: Mixed) -> None:
    """Block and containers stay; new ones come as before, by the plugins that the host had."""
    h2, theirs, block = mixed.theirs.host, mixed.theirs, mixed.theirs.block
    for _ in ("there", "and, after the way back, again"):
        theirs.stop()
        h2.start_agent()
        in_touch(mixed)
        in_step(h2)
        assert h2.blocks() == [block]
        assert ip_network(block) == parse_key(mixed.lease(h2)[0])[0]
        assert h2.home.subnet_file.read_text() == theirs.file.read_text()
        assert not h2.status()["problems"]
        stop_for_good(mixed.lab, h2)
        theirs.start()
        in_touch(mixed)
        assert theirs.block == block


def test_a_host_that_moved_gives_new_containers_to_our_plugin_once_its_bridge_is_gone(
    mixed: Mixed,
) -> None:
    """Last, as it ends what flannel's host had. Two plugins never deal from one block."""
    h2, theirs = mixed.theirs.host, mixed.theirs
    theirs.stop()
    h2.start_agent()
    in_step(h2)
    other = theirs.run("other")
    eventually(lambda: mixed.a.pings(other.address), "their plugin to work on")
    with pytest.raises(NetloomError, match="cni0"):
        h2.run("too-early")
    for name in list(theirs.containers):
        theirs.remove(name)
    h2.exec(["ip", "link", "delete", "cni0"])
    mixed.b = h2.run("late")
    eventually(lambda: mixed.a.pings(mixed.b.address), "our plugin's container")
    eventually(lambda: not h2.status()["problems"], "no problem left")
