"""Container to container against host to host, over the same underlay in the same run.

Between two hosts of a lab there is no wire: a packet takes some 8 µs, and each cable and each
forwarding more is a tenth of that. What these take by themselves is measured in the same run:
containers wired by hand, without an agent, on hosts without a firewall and on such as masquerade.
The latter do all that our hosts have to; and "host to host" is between hosts of ours, whose kernels
track connections as well: between bare hosts it is more.

How much one stream carries is also a matter of its congestion control, whose name is printed: one
that paces (bbr) waits most of the time. What the processor does for it is measured by itself, in
one thread.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench.by_hand import Pair, by_hand
from bench.figures import figure, ratio
from bench.stream import streaming
from netloom.lab.documents import default_document
from netloom.lab.lab import Lab
from netloom.lab.place import Place
from netloom.lab.processes import myself
from netloom.lab.waiting import wait_until

#: Many short rounds: what else the machine does then falls on all alike.
RUNS = 12
BULK_S = 1
PINGPONG_S = 1
_PORT = 5900
NETWORKS: tuple[Mapping[str, Any], ...] = (
    {
        "name": "vx",
        "pools": [{"cidr": "10.244.0.0/16", "blockSize": 24}],
        "attachment": "bridge",
        "backend": {"type": "vxlan", "vni": 1},
    },
    {
        "name": "gw",
        "pools": [{"cidr": "10.245.0.0/16", "blockSize": 24}],
        "attachment": "routed",
        "backend": "host-gw",
    },
    {
        "name": "udp",
        "pools": [{"cidr": "10.246.0.0/16", "blockSize": 24}],
        "attachment": {"type": "bridge", "bridge": "cni1"},
        "backend": "udp",
    },
    {
        "name": "bgp",
        "pools": [{"cidr": "10.247.0.0/16", "blockSize": 26}],
        "addressing": "on-demand",
        "attachment": "routed",
        "backend": "bgp",
    },
)
#: Of host-to-host figures: throughput and requests, round trip.
AIMS = {
    "vx": ("≥ 0.7", "≤ 1.43"),
    "gw": ("≥ 0.9", "≤ 1.11"),
    "udp": ("≥ 0.3", "≤ 1.6"),
    "bgp": ("≥ 0.9", "≤ 1.15"),
}
WORDS = {
    "host": "host to host",
    "vx": "vxlan with bridge",
    "gw": "host-gw with routed",
    "udp": "udp with bridge",
    "bgp": "bgp with routed",
    "bare": "bare host to host",
    "hand": "routed by hand",
    "masks": "by hand, masquerading",
}


def main() -> None:
    """Measure and print."""
    document = {**default_document(hosts=2), "networks": list(NETWORKS)}
    name = f"bench{os.getpid()}"
    with (
        Lab.up(document, name=name, owner=myself()) as lab,
        by_hand() as hand,
        by_hand(masquerading=True) as masks,
    ):
        h1, h2 = lab.host("h1"), lab.host("h2")
        pairs: dict[str, Pair] = {"host": (h1, h2, h2.underlay)}
        for network in AIMS:
            client = h1.run(f"{network}-c", networks=[network])
            server = h2.run(f"{network}-s", networks=[network])
            pairs[network] = (client, server, server.address)
            wait_until(
                lambda: client.pings(server.address),  # noqa: B023 - called before the next one
                deadline_s=30,
                what=f"the way through {network}",
            )
        pairs |= {"bare": hand.hosts, "hand": hand.containers, "masks": masks.containers}
        _measure(pairs)


def _measure(pairs: Mapping[str, Pair]) -> None:
    control = Path("/proc/sys/net/ipv4/tcp_congestion_control").read_text().strip()
    names = list(pairs)
    bulk: dict[str, list[float]] = {name: [] for name in names}
    costs: dict[str, list[float]] = {name: [] for name in names}
    trips: dict[str, list[float]] = {name: [] for name in names}
    rates: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(RUNS):
        first = turn % len(names)  # none always comes behind the same one
        for name in (*names[first:], *names[:first]):
            bulk[name].append(_bulk(*pairs[name]))
            with streaming(*pairs[name]) as stream:
                costs[name].append(stream.quickest_us())
            trip_us, rate = _pingpong(*pairs[name])
            trips[name].append(trip_us)
            rates[name].append(rate)
    _tell(f"TCP, one stream ({control})", "Gbit/s", bulk)
    _tell("TCP round trip", "µs", trips)
    _tell("TCP requests", "1/s", rates)
    found = {name: figure(f"TCP, 40 packets, {WORDS[name]}", "µs", costs[name]) for name in names}
    for name in ("gw", "bgp"):
        words = f"TCP, 40 packets, {WORDS[name]} / {WORDS['masks']}"
        ratio(words, found[name].median, found["masks"].median, "-")


def _tell(title: str, unit: str, samples: Mapping[str, list[float]]) -> None:
    """Print the figures of one thing; floors and bare hosts have no aim."""
    base = figure(f"{title}, {WORDS['host']}", unit, samples["host"])
    for name in samples:
        if name == "host":
            continue
        mine = figure(f"{title}, {WORDS[name]}", unit, samples[name])
        more, less = AIMS.get(name, ("-", "-"))
        aimed = more if unit != "µs" else less
        ratio(f"{title}, {WORDS[name]} / host to host", mine.median, base.median, aimed)


def _bulk(client: Place, server: Place, address: str) -> float:
    with _serving(server, ["iperf3", "-s", "-1", "-p", str(_PORT)]):
        argv = ["iperf3", "-c", address, "-p", str(_PORT), "-t", str(BULK_S), "-J"]
        result = json.loads(client.exec(argv, timeout_s=30))
    return float(result["end"]["sum_received"]["bits_per_second"]) / 1e9


def _pingpong(client: Place, server: Place, address: str) -> tuple[float, float]:
    """Return the median round trip in microseconds and the round trips per second."""
    where = ["-i", address, "-p", str(_PORT + 1), "--tcp"]
    with _serving(server, ["sockperf", "server", *where]):
        said = client.exec(
            ["sockperf", "ping-pong", *where, "-t", str(PINGPONG_S), "-m", "64", "--full-rtt"],
            timeout_s=30,
        )
    plain = re.sub(r"\x1b\[[0-9;]*m", "", said)
    median = re.search(r"percentile 50\.000\s*=\s*([\d.]+)", plain)
    count = re.search(r"\[Valid Duration\] RunTime=([\d.]+) sec; SentMessages=(\d+)", plain)
    assert median, plain
    assert count, plain
    return float(median[1]), int(count[2]) / float(count[1])


@contextmanager
def _serving(place: Place, argv: list[str]) -> Iterator[None]:
    server = place.popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        time.sleep(0.3)  # until it listens: neither tool says when
        yield
    finally:
        server.kill()
        server.wait()


if __name__ == "__main__":
    main()
