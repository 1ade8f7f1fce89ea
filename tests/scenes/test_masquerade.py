"""What leaves the network has its host's address, but for what flannel leaves alone as well."""

from __future__ import annotations

import subprocess
from collections.abc import Callable

from netloom.kernel import namespaces
from netloom.lab.documents import default_document
from netloom.lab.host import LabContainer, LabHost
from netloom.lab.lab import Lab
from netloom.lab.wire import Capture

OUTSIDE = "192.168.31.1"
#: Somebody who marks packets as kube-proxy does when it translates their source itself.
MARK = """
table ip elsewhere {
    chain forward {
        type filter hook forward priority mangle; policy accept;
        ip daddr 192.168.31.1 meta mark set %s
    }
}
"""


def source_on_the_wire(host: LabHost, box: LabContainer) -> str:
    """Return the source address that a packet of the container has outside."""
    with Capture(host, host.node.interfaces[0].name, f"icmp and dst host {OUTSIDE}") as capture:
        box.popen(["ping", "-c1", "-W1", OUTSIDE], stdout=subprocess.DEVNULL).wait()
        (first, *_) = capture.until(lambda frames: frames, f"a packet to {OUTSIDE}")
    return str(first.source)


def mark(host: LabHost, value: str) -> None:
    netns = f"--net={namespaces.path(host.namespace)}"
    subprocess.run(["nsenter", netns, "nft", "-f", "-"], input=MARK % value, text=True, check=True)


def test_a_packet_that_kube_proxy_marked_is_left_to_it(lab_up: Callable[..., Lab]) -> None:
    lab = lab_up(default_document(hosts=1, network={"name": "default", "preset": "flannel"}))
    (host,) = lab.hosts
    box = host.run("a")
    assert source_on_the_wire(host, box) == host.underlay
    mark(host, "0x8001")
    assert source_on_the_wire(host, box) == host.underlay, "another mark is nothing to us"
    mark(host, "0x4001")
    assert source_on_the_wire(host, box) == box.address
