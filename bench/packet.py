"""What our firewall costs a packet: the way from container to container, our table there or not.

One thread sends; all of the way through both hosts is done in its system call. The quickest of many
batches is what the way takes when nobody else wants the processor. In bulk a piece of many packets
goes the way as one, and an acknowledgement comes back.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping
from typing import Any

from bench.figures import figure
from bench.stream import streaming
from netloom.kernel.namespaces import in_namespace, path
from netloom.lab.documents import default_document
from netloom.lab.lab import Lab
from netloom.lab.place import Place
from netloom.lab.processes import myself

ROUNDS = 12
BATCHES = 300
BATCH = 100
_PORT = 9
_PAYLOAD = b"x" * 64
_ANEW = "delete table inet netloom\nadd table inet netloom"
#: What is done to our table, which was just written anew.
WAYS = {
    "no table of ours": _ANEW,
    "without the guard of sources": "flush chain inet netloom guard",
    "without source NAT": "delete chain inet netloom postrouting",
    "our table": "",
}
NETWORK: Mapping[str, Any] = {
    "name": "gw",
    "pools": ["10.245.0.0/16"],
    "attachment": "routed",
    "backend": "host-gw",
}


def main() -> None:
    """Measure and print."""
    document = {**default_document(hosts=2), "networks": [NETWORK]}
    with Lab.up(document, name=f"bench{os.getpid()}", owner=myself()) as lab:
        hosts = (lab.host("h1"), lab.host("h2"))
        client, server = (host.run("c", networks=["gw"]) for host in hosts)
        for host in hosts:
            lab.fault(host.name, "kill-agent")  # it would put back what is taken away here
        samples: dict[str, list[float]] = {}
        with _socket(client) as mouth, _socket(server) as ear:
            ear.bind(("", _PORT))
            mouth.connect((server.address, _PORT))
            tables = [
                host.exec(["nft", "-s", "list", "table", "inet", "netloom"]) for host in hosts
            ]
            for _ in range(ROUNDS):
                for name, after in WAYS.items():
                    for host, table in zip(hosts, tables, strict=True):
                        host.exec(["nft", f"{_ANEW}\n{table}\n{after}"])
                    samples.setdefault(f"UDP, 64 bytes, {name}", []).append(_quickest_us(mouth))
                    with streaming(client, server, server.address) as stream:
                        in_bulk = samples.setdefault(f"TCP, 40 packets, {name}", [])
                        in_bulk.append(stream.quickest_us())
    for name, found in sorted(samples.items()):
        figure(name, "µs", found)


def _socket(place: Place) -> socket.socket:
    return in_namespace(
        path(place.namespace), lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    )


def _quickest_us(mouth: socket.socket) -> float:
    quickest = float("inf")
    for _ in range(BATCHES):
        begun = time.perf_counter()
        for _ in range(BATCH):
            mouth.send(_PAYLOAD)
        quickest = min(quickest, (time.perf_counter() - begun) / BATCH * 1e6)
    return quickest
