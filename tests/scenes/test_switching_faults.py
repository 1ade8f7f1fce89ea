"""What goes wrong while a backend is switched: agents, stores and hosts that come and go."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from tests.scenes.bgp_lab import settled
from tests.scenes.test_switching import NETWORK, block_of, switch, way

from netloom.lab.documents import default_document
from netloom.lab.lab import Lab, LabHost
from netloom.lab.place import Place
from netloom.lab.traffic import Pings
from netloom.lab.waiting import wait_until

LabUp = Callable[..., Lab]

#: Sends numbered lines for as long as its standard input is open; the other end checks each.
_RECEIVE = """
import socket, sys
server = socket.create_server(("0.0.0.0", 5001))
print("listening", flush=True)
peer, _ = server.accept()
want = 0
with peer.makefile("rb") as lines:
    for line in lines:
        assert int(line) == want, (line, want)
        want += 1
print(want)
"""
_SEND = """
import select, socket, sys
peer = socket.create_connection((sys.argv[1], 5001), timeout=60)
count = 0
while not select.select([sys.stdin], [], [], 0)[0]:
    lines = range(count, count + 5000)
    peer.sendall(b"".join(b"%d\\n" % number for number in lines))
    count += len(lines)
peer.shutdown(socket.SHUT_WR)
print(count)
"""


@contextmanager
def stream(source: Place, target: Place, address: str) -> Iterator[None]:
    """Run one TCP connection as fast as it goes; at the end, every line must have come, in order.

    Fails when it was reset or stood still for long.
    """
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    receiver = target.popen([sys.executable, "-c", _RECEIVE], **pipes)
    assert receiver.stdout is not None
    assert receiver.stdout.readline() == "listening\n"
    sender = source.popen([sys.executable, "-c", _SEND, address], **pipes)
    try:
        yield
        sent, _ = sender.communicate("\n", timeout=90)
        received, _ = receiver.communicate(timeout=90)
        assert (sender.returncode, receiver.returncode) == (0, 0)
        assert int(sent) == int(received) > 0
    finally:
        for process in (sender, receiver):
            if process.poll() is None:
                process.kill()
                process.communicate()


def serves(lab: Lab, host: str, label: str) -> bool:
    """Tell whether a host has said that it can be reached by a backend of such a label."""
    entries = lab.store().list("/netloom/v1/cluster/hosts/").entries
    records = [json.loads(entry.value) for entry in entries]
    served = [one for r in records if r["name"] == host for one in r["serves"]["default"]]
    return any(label in one for one in served)


def wait_settled(lab: Lab, what: str) -> None:
    wait_until(lambda: settled(lab), deadline_s=60, what=what)


def test_a_tcp_stream_goes_on_there_and_back_though_the_mtu_shrinks(lab_up: LabUp) -> None:
    """Begun with host-gw and 1500 bytes, through vxlan with 1450: no reset, no byte missing."""
    lab = lab_up(default_document(hosts=2, network={**NETWORK, "backend": "host-gw"}))
    h1, h2 = lab.hosts
    a, b = h1.run("a"), h2.run("b")

    def mtu() -> tuple[int, ...]:
        return tuple(c.json(["ip", "-j", "link", "show", "eth0"])[0]["mtu"] for c in (a, b))

    assert mtu() == (1500, 1500)
    with stream(a, b, b.address), Pings(b, a.address, 0.005) as pings:
        switch(h1, "backend=vxlan")
        wait_settled(lab, "the move to vxlan")
        assert mtu() == (1450, 1450), "containers that run take the new MTU"
        switch(h1, "backend=host-gw")
        wait_settled(lab, "the move back")
        assert mtu() == (1500, 1500)
    assert pings.lost == 0


@pytest.mark.parametrize("strict", ["all", "ens33"])
def test_strict_reverse_path_filters_of_the_hosts_cost_nothing(lab_up: LabUp, strict: str) -> None:
    """While two hosts follow one after the other, packets come another way than they go."""
    lab = lab_up(default_document(hosts=2, network=NETWORK))
    h1, h2 = lab.hosts
    a, b, own, theirs = h1.run("a"), h2.run("b"), block_of(h1), block_of(h2)
    for host in lab.hosts:
        for place in (strict, "default", "flannel.1"):
            host.exec(["sysctl", "-qw", f"net/ipv4/conf/{place}/rp_filter=1"])
    with Pings(a, b.address, 0.005) as there, Pings(b, a.address, 0.005) as back:
        moves = (
            ("vxlan", "vni=5", "flannel.5"),
            ("host-gw", "", "ens33"),
            ("vxlan", "vni=7", "flannel.7"),
        )
        for kind, vni, device in moves:
            lab.fault("h2", "kill-agent")
            former = way(h1, theirs)
            switch(h1, f"backend.type={kind}", *([f"backend.{vni}"] if vni else []))
            wait_until(lambda: serves(lab, "h1", vni or kind), deadline_s=60, what="h1 is ready")  # noqa: B023
            lab.fault("h1", "freeze-agent")
            h2.start_agent()
            wait_until(lambda: way(h2, own) == device, deadline_s=60, what="h2 has moved")  # noqa: B023
            assert way(h1, theirs) == former, "now the two ways differ"
            with Pings(a, b.address, 0.005) as between:
                pass
            assert between.lost == 0
            lab.fault("h1", "thaw-agent")
            wait_settled(lab, f"the move to {device}")
    assert (there.lost, back.lost) == (0, 0)


def test_agents_store_and_a_second_switch_in_the_middle_cost_nothing(lab_up: LabUp) -> None:
    lab = lab_up(default_document(hosts=3, network=NETWORK))
    h1, h2, h3 = lab.hosts
    a, b, c = h1.run("a"), h2.run("b"), h3.run("c")
    blocks = [block_of(host) for host in (h2, h3)]
    with Pings(a, b.address, 0.005) as to_b, Pings(a, c.address, 0.005) as to_c:
        lab.fault("h3", "kill-agent")
        switch(h1, "backend=host-gw")
        wait_until(lambda: way(h1, blocks[0]) == "ens33", deadline_s=60, what="h1 to h2 moved")
        lab.fault("h2", "kill-agent")
        lab.fault("store", "stop-store")
        h3.start_agent()
        lab.fault("store", "start-store")
        switch(h1, "backend.type=vxlan", "backend.vni=9")  # before the first move ended
        h2.start_agent()
        wait_settled(lab, "the end of both moves")
        assert {way(h1, block) for block in blocks} == {"flannel.9"}
        assert "flannel.1:" not in h3.exec(["ip", "-o", "link"])
    assert (to_b.lost, to_c.lost) == (0, 0)


def test_both_families_move_while_a_host_joins_and_a_dead_one_is_forgotten(lab_up: LabUp) -> None:
    """h3 dies and holds the move up; h4 comes meanwhile; h3 is forgotten, and the move ends."""
    lab = lab_up(_dual_stack(4))
    h1, h2, _, h4 = lab.hosts
    lab.fault("h4", "kill-agent")
    h1.exec(["netloom", "host", "forget", "h4", "--force"])
    a, b = h1.run("a"), h2.run("b")
    four, six = (address.split("/")[0] for address in b.addresses)
    with Pings(a, four, 0.005) as over4, Pings(a, six, 0.005) as over6:
        lab.fault("h3", "kill-agent")
        switch(h1, "backend=host-gw")
        blocks = {host.name: block_of(host) for host in (h1, h2)}
        wait_until(lambda: way(h1, blocks["h2"]) == "ens33", deadline_s=60, what="h1 moved")
        h4.start_agent()
        d = h4.run("d")
        with Pings(d, four, 0.01) as joined:
            h1.exec(["netloom", "host", "forget", "h3", "--force"])
            wait_until(lambda: len(moved_hosts(h1, h2, h4)) == 3, deadline_s=60, what="end")
    assert (over4.lost, over6.lost, joined.lost) == (0, 0, 0)


def moved_hosts(*hosts: LabHost) -> list[LabHost]:
    """Return the hosts on which nothing of vxlan is left, once the definition says so too."""
    if '"retiring"' in hosts[0].exec(["netloom", "network", "show", "default", "-ojson"]):
        return []
    return [host for host in hosts if "flannel" not in host.exec(["ip", "-o", "link"])]


def _dual_stack(hosts: int) -> dict[str, object]:
    return {
        "segments": [{"name": "lan", "subnets": ["192.168.31.0/24", "fd31::/64"]}],
        "hosts": [
            {
                "name": f"h{number}",
                "interfaces": [
                    {
                        "name": "ens33",
                        "segment": "lan",
                        "addresses": [f"192.168.31.{61 + number}", f"fd31::{61 + number}"],
                    }
                ],
            }
            for number in range(1, hosts + 1)
        ],
        "networks": [
            {
                "name": "default",
                "pools": [
                    {"cidr": "10.244.0.0/16", "blockSize": 24},
                    {"cidr": "fd00:10:244::/56", "blockSize": 64},
                ],
                "backend": "vxlan",
            }
        ],
    }
