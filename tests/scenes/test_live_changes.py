"""A network's definition changes while containers are attached: they go on, or it is refused."""

from __future__ import annotations

import subprocess
from collections.abc import Callable

from netloom.lab.documents import default_document
from netloom.lab.lab import Lab, LabHost
from netloom.lab.waiting import wait_until
from netloom.model.keys import ENDPOINTS

LabUp = Callable[..., Lab]


def change(lab: Lab, *assignments: str) -> None:
    """Change the network and wait until both kernels have it."""
    host = lab.host("h1")
    said = host.json(["netloom", "network", "set", "default", *assignments, "-o", "json"])
    for each in lab.hosts:
        each.wait_applied(said["revision"])


def refused(host: LabHost, *argv: str) -> subprocess.CompletedProcess[str]:
    """Run a command that shall fail on the host."""
    done = subprocess.run(
        host.command(argv),
        env=host.environment,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode, done.stdout
    return done


def full_packet_passes(lab: Lab, size: int) -> bool:
    """Tell whether an IPv4 packet of ``size`` bytes gets from h1/a to h2/b in one piece.

    A packet that came while one host had the larger size and the other not yet was refused, and
    its sender keeps the smaller size for ten minutes: that is forgotten first.
    """
    a, b = lab.host("h1").container("a"), lab.host("h2").container("b")
    a.exec(["ip", "route", "flush", "cache"])
    payload = str(size - 28)
    argv = ["ping", "-n", "-q", "-c1", "-W1", "-M", "do", "-s", payload, b.address]
    return subprocess.run(a.command(argv), capture_output=True, check=False).returncode == 0


def test_containers_made_before_a_switch_of_the_backend_use_the_packets_that_fit_after_it(
    lab_up: LabUp,
) -> None:
    """A larger packet would be dropped without a word between the two ends of the veth pair."""
    network = {"name": "default", "preset": "flannel", "backend": "host-gw"}
    lab = lab_up(default_document(hosts=2, network=network))
    h1 = lab.host("h1")
    a = h1.run("a")
    lab.host("h2").run("b")
    assert full_packet_passes(lab, 1500)
    change(lab, "backend=vxlan")
    assert a.json(["ip", "-j", "link", "show", "eth0"])[0]["mtu"] == 1450
    assert full_packet_passes(lab, 1450)
    change(lab, "backend=host-gw")
    wait_until(lambda: full_packet_passes(lab, 1500), deadline_s=60, what="the larger packets")
    wait_until(
        lambda: "flannel" not in h1.exec(["ip", "link"]), deadline_s=60, what="the device to go"
    )
    change(lab, "mtu=1300")
    assert a.json(["ip", "-j", "link", "show", "eth0"])[0]["mtu"] == 1300
    assert not h1.json(["netloom", "plan", "-o", "json"])["changes"]


def test_an_attachment_is_not_changed_under_the_containers_that_have_it(lab_up: LabUp) -> None:
    """What is inside a container was made for the one attachment and is cut off by the other."""
    lab = lab_up(default_document(hosts=2))
    h1 = lab.host("h1")
    a = h1.run("a")
    b = lab.host("h2").run("b")
    wait_until(lambda: _mirrored(lab) == 2, deadline_s=60, what="both containers in the store")
    said = refused(h1, "netloom", "network", "set", "default", "attachment=routed")
    assert said.returncode == 4
    assert "attachment" in said.stderr
    assert "h1, h2" in said.stderr
    assert "--force" in said.stderr
    assert a.pings(b.address)
    h1.remove("a")
    lab.host("h2").remove("b")
    wait_until(lambda: _mirrored(lab) == 0, deadline_s=60, what="no container in the store")
    change(lab, "attachment=routed")
    assert h1.run("a").pings(lab.host("h2").run("b").address)


def _mirrored(lab: Lab) -> int:
    return len(lab.store().list(ENDPOINTS).entries)
