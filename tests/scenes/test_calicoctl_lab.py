"""``calicoctl`` on a host of a lab: leaks by way of a report, limits and reservations that hold."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest

from netloom.drivers.cni.runtime import PluginFailed
from netloom.kernel import namespaces
from netloom.lab.documents import default_document
from netloom.lab.lab import Lab, LabHost
from netloom.lab.waiting import wait_until
from netloom.model.errors import NetloomError

from .cni_world import OURS, World, chain

LabUp = Callable[..., Lab]
CALICO = {"name": "calico", "preset": "calico", "backend": "host-gw", "pools": ["10.65.0.0/24"]}
FLANNEL = {"name": "blue", "preset": "flannel", "pools": ["10.66.0.0/16"]}
HEAD = "apiVersion: projectcalico.org/v3\nkind: "


def calicoctl(host: LabHost, *arguments: str, text: str = "") -> tuple[int, str, str]:
    done = subprocess.run(
        host.command(["calicoctl", *arguments]),
        env=dict(host.environment),
        input=text,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


def test_a_leak_goes_from_check_into_a_report_and_from_there_to_release(
    lab_up: LabUp, tmp_path: Path
) -> None:
    lab = lab_up(default_document(hosts=2, network=CALICO))
    h1, h2 = lab.host("h1"), lab.host("h2")
    one, two = h1.run("one"), h1.run("two")
    report = tmp_path / "report.json"

    def leaked() -> bool:
        code, out, err = calicoctl(h1, "ipam", "check", "-o", str(report))
        assert code == 0, err
        return "Check complete; found 1 problems." in out

    namespaces.delete(two.namespace)
    wait_until(leaked, deadline_s=120, what="the leak")
    held = json.loads(report.read_text())["findings"]
    assert [each["subject"] for each in held] == [two.address]

    code, _, err = calicoctl(h2, "ipam", "release", f"--from-report={report}")
    assert (code, "release its leaks there" in err) == (4, True)
    code, _, err = calicoctl(h1, "ipam", "release", f"--ip={one.address}")
    assert (code, "is no leak" in err) == (4, True), "its container runs"
    said = calicoctl(h1, "ipam", "release", f"--from-report={report}")
    assert said[:2] == (0, "Released 1 IPs of 1 allocations.\n")
    again = calicoctl(h1, "ipam", "release", f"--from-report={report}")
    assert again[:2] == (0, "Released 0 IPs of 0 allocations.\n")

    report.write_text(report.read_text().replace("leak", "lea"))
    assert calicoctl(h1, "ipam", "release", f"--from-report={report}")[0] == 0
    report.write_text('{"findings": [7]}')
    code, _, err = calicoctl(h1, "ipam", "release", f"--from-report={report}")
    assert (code, "ipam check -o FILE" in err) == (3, True)


def test_limits_and_reservations_hold_for_running_hosts(lab_up: LabUp) -> None:
    """Blocks are of one address each: half of them are reserved, and a host may have two."""
    network = {**CALICO, "pools": [{"cidr": "10.65.0.0/28", "blockSize": 32}]}
    lab = lab_up(default_document(hosts=1, network=network))
    host = lab.host("h1")
    text = (
        f"{HEAD}IPReservation\nmetadata: {{name: lab}}\nspec: {{reservedCIDRs: [10.65.0.0/29]}}\n"
    )
    assert calicoctl(host, "apply", "-f", "-", text=text)[0] == 0
    limit = "--strictaffinity=true", "--max-blocks-per-host=2"
    assert calicoctl(host, "ipam", "configure", *limit)[0] == 0
    lab.settle()
    for name in ("first", "second"):
        assert ip_address(host.run(name).address) in ip_network("10.65.0.8/29")
    shown = calicoctl(host, "ipam", "show", "--show-blocks")[1]
    assert (
        "| IP Pool  | 10.65.0.0/28  |        16 | 2 (12%)    | 6 (38%)  | 8 (50%)      |" in shown
    )
    with pytest.raises(NetloomError, match="no free IPv4 address on this host") as caught:
        host.run("third")
    assert "get ipamconfig" in str(caught.value) + caught.value.hint
    assert calicoctl(host, "ipam", "configure", "--max-blocks-per-host=3")[0] == 0
    lab.settle()
    assert ip_address(host.run("fourth").address) in ip_network("10.65.0.8/29")


def test_a_limit_that_is_lowered_takes_nothing_away_and_lets_nothing_more_be_claimed(
    lab_up: LabUp, tmp_path: Path
) -> None:
    """Blocks are of two addresses each; the host has three when it is told that one is enough."""
    network = {**CALICO, "pools": [{"cidr": "10.65.0.0/27", "blockSize": 31}]}
    lab = lab_up(default_document(hosts=2, network=network))
    h1, h2 = lab.host("h1"), lab.host("h2")
    boxes = [h1.run(f"c{number}") for number in range(5)]
    wait_until(lambda: len(h1.blocks()) == 3, deadline_s=120, what="three blocks")
    before, far = h1.blocks(), h2.run("far")
    limit = "--strictaffinity=true", "--max-blocks-per-host=1"
    assert calicoctl(h1, "ipam", "configure", *limit)[0] == 0
    text = "h1 holds 3 blocks of pool 10.65.0.0/27, the IPAMConfiguration lets it have 1"

    def status() -> None:
        """Ask as a runtime does whether one more container can be attached."""
        ours = chain({**OURS, "network": "calico"}, version="1.1.0")
        World(lab, h1, tmp_path).runtime().status(ours)

    def told() -> bool:
        return any(text in problem["text"] for problem in h1.status()["problems"])

    wait_until(told, deadline_s=120, what="the status")
    assert text in h1.exec(["netloom", "ipam", "show"])
    status()
    assert h1.run("sixth").address not in {box.address for box in boxes}, "it had an address left"
    with pytest.raises(PluginFailed, match="no IPv4 address is free in 10"):
        status()
    for _ in range(2):
        with pytest.raises(NetloomError, match="no free IPv4 address on this host"):
            h1.run("seventh")
        assert h1.blocks() == before
        for box in boxes:
            wait_until(lambda box=box: far.pings(box.address), deadline_s=120, what=box.name)
        lab.fault("h1", "kill-agent")
        h1.start_agent()
        wait_until(told, deadline_s=120, what="the status of the new agent")
    h1.remove("c0")
    assert h1.run("seventh").address == boxes[0].address
    assert calicoctl(h1, "ipam", "configure", "--max-blocks-per-host=4")[0] == 0
    wait_until(lambda: not told(), deadline_s=120, what="the limit's end")
    status()
    assert ip_address(h1.run("eighth").address) in ip_network("10.65.0.0/27")


def test_in_host_block_mode_a_closed_pool_is_claimed_when_it_opens(lab_up: LabUp) -> None:
    lab = lab_up(default_document(hosts=1, network=FLANNEL))
    host = lab.host("h1")
    spec = "blockSize: 24, vxlanMode: Always, natOutgoing: true"
    pool = f"{HEAD}IPPool\nmetadata: {{name: NAME, annotations: {{netloom/network: blue}}}}\n"
    closed = f"{pool}spec: {{cidr: 10.68.0.0/16, {spec}, nodeSelector: rack == '1'}}\n"
    opened = f"{pool}spec: {{cidr: 10.69.0.0/16, {spec}}}\n"
    text = "---\n".join([closed.replace("NAME", "racks"), opened.replace("NAME", "all")])
    code, _, err = calicoctl(host, "apply", "-f", "-", text=text)
    assert code == 0, err

    def blocks() -> list[str]:
        (found,) = (each for each in host.status()["networks"] if each["name"] == "blue")
        return [block["cidr"] for block in found["blocks"]]

    wait_until(lambda: "10.69.0.0/24" in blocks(), deadline_s=120, what="the open pool's block")
    assert blocks() == ["10.66.0.0/24", "10.69.0.0/24"]
    assert calicoctl(host, "label", "nodes", "h1", "rack=1")[0] == 0
    wait_until(
        lambda: "10.68.0.0/24" in blocks(), deadline_s=120, what="the block of the rack's pool"
    )


def test_netlooms_own_release_takes_what_its_own_check_said(lab_up: LabUp, tmp_path: Path) -> None:
    lab = lab_up(default_document(hosts=1, network=CALICO))
    host = lab.host("h1")
    gone = host.run("gone")
    namespaces.delete(gone.namespace)

    def found() -> str:
        done = subprocess.run(
            host.command(["netloom", "ipam", "check", "-o", "json"]),
            env=dict(host.environment),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        return done.stdout if done.returncode == 6 else ""

    report = tmp_path / "report.json"
    report.write_text(wait_until(found, deadline_s=120, what="the leak"))
    said = host.exec(["netloom", "ipam", "release", "--from-report", str(report), "--yes"])
    assert f"{gone.address} of calico is free" in said
