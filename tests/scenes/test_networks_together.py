"""Several networks in one cluster, and containers that are in more than one of them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from netloom.lab.documents import default_document, load_document
from netloom.lab.lab import Lab
from netloom.lab.waiting import wait_until

LabUp = Callable[..., Lab]
KINDS = ("bridge", "routed")


def run(*argv: str) -> subprocess.CompletedProcess[str]:
    """Run one of our commands outside the lab."""
    command = [sys.executable, "-m", *argv]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def network(name: str, number: int, attachment: str) -> dict[str, Any]:
    """Return a network that takes nothing that another number takes."""
    bridge = {"bridge": f"br{number}"} if attachment == "bridge" else {}
    return {
        "name": name,
        "pools": [f"10.{number}.0.0/16", f"fd00:{number}::/56"],
        "attachment": {"type": attachment, **bridge},
        "backend": {"type": "vxlan", "vni": number},
    }


@pytest.mark.parametrize("first", KINDS)
@pytest.mark.parametrize("second", KINDS)
def test_a_container_in_two_networks_reaches_both_and_the_first_leads_out(
    lab_up: LabUp, first: str, second: str
) -> None:
    """Each network is reached by its own interface; the default route is the first network's."""
    document = default_document(hosts=2)
    document["networks"] = [network("one", 11, first), network("two", 12, second)]
    lab = lab_up(document)
    h1, h2 = lab.host("h1"), lab.host("h2")
    both = h1.run("both", networks=["one", "two"])
    far = {name: h2.run(f"in-{name}", networks=[name]) for name in ("one", "two")}
    near = h1.run("near", networks=["two"])
    assert len(both.addresses) == 4
    for interface, other in (("eth0", far["one"]), ("eth1", far["two"]), ("eth1", near)):
        for address in other.addresses:
            (way,) = both.json(["ip", "-j", "route", "get", address])
            assert way["dev"] == interface, f"{address} is reached by {way['dev']}"
            assert both.pings(address), f"{interface} does not lead to {other.name} {address}"
    for address in both.addresses[:2]:
        assert far["one"].pings(address)
    for address in both.addresses[2:]:
        assert far["two"].pings(address)
        assert near.pings(address)
    (out,) = both.json(["ip", "-j", "route", "get", "192.0.2.1"])
    assert out["dev"] == "eth0"
    assert both.pings(h2.underlay)
    h1.exec(["netloom", "ipam", "check"])
    h1.remove("both")
    assert h1.status()["endpoints"] == 1
    assert "eth1" not in h1.exec(["ip", "link"])


def test_every_choice_of_network_side_by_side_and_everyone_reaches_everyone(lab_up: LabUp) -> None:
    """Both families and one, a block per host and blocks on demand; ``ping`` asks what can be."""
    document = load_document("dualstack")
    document["hosts"] = document["hosts"][:2]
    on_demand = {"mode": "on-demand", "maxBlocksPerHost": 20}
    both = [
        {"cidr": "10.60.0.0/16", "blockSize": 26},
        {"cidr": "fd00:60::/56", "blockSize": 122},
    ]
    six = {"cidr": "fd00:66::/56", "blockSize": 122}
    document["networks"] += [
        {"name": "cal", "pools": both, "addressing": on_demand}
        | {"attachment": "routed", "backend": "host-gw"},
        {"name": "six", "pools": [six], "addressing": on_demand}
        | {
            "attachment": {"type": "bridge", "bridge": "br6"},
            "backend": {"type": "vxlan", "vni": 6},
        },
        {"name": "six2", "pools": ["fd00:67::/56"]}
        | {"attachment": "routed", "backend": {"type": "vxlan", "vni": 7}},
    ]
    lab = lab_up(document)
    for host in lab.hosts:
        for name in ("default", "cal", "six", "six2"):
            host.run(name, networks=[name])
    # Each host hears of the blocks that the other has claimed by now.
    wait_until(
        lambda: run("netloom", "ping", "--lab", lab.name).returncode == 0,
        deadline_s=60,
        what="everyone to reach everyone",
    )
    assert lab.host("h1").status()["well"]
