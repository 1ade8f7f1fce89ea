"""A new block on one host until all of twenty hosts' kernels have its route, and what it costs.

The floor is the same route given to the same BIRDs by ``configure`` alone, with no agent running:
what BGP, BIRD and twenty kernels take by themselves on this machine.
"""

from __future__ import annotations

import ipaddress
import time
from contextlib import closing

from bench.figures import figure, ratio
from bench.routers import (
    BLOCK_BITS,
    agent_memory,
    bird_directory,
    bird_memory,
    block,
    give,
    last,
    listening,
    put,
    routers,
    start_all,
    wait_routes,
    wait_sessions,
)
from netloom.kernel import wire
from netloom.kernel.bird.apply import write_private
from netloom.kernel.bird.control import CONFIG, Control
from netloom.lab import agents
from netloom.lab.lab import Lab
from netloom.model.datastore import Delete, Transaction

HOSTS = 20
RUNS = 40
ROUTES = 1000
_AIM = "aim: 300 median, 1000 always"
_BLOCKS = "protocol static blocks4 {\n  ipv4;\n"
_FLOOR = "floor.conf"


def main() -> None:
    """Measure and print."""
    for words, members in (("embedded store", 0), ("etcd", 1)):
        with routers(HOSTS, members) as lab:
            start_all(lab)
            wait_sessions(lab)
            attached = _attaches(lab)
            committed = _commits(lab)
            if not members:
                _memory(lab)
            floor = _floor(lab)
            whole = figure(f"attach to the last of {HOSTS} kernels, {words}", "ms", attached)
            print(f"  slowest {whole.percentile(1.0):.0f} ms   ({_AIM})")
            mine = figure(f"block's commit to the last, {words}", "ms", committed)
            print(f"  slowest {mine.percentile(1.0):.0f} ms   ({_AIM})")
            least = figure("floor: BIRD's configure to the last, no agents", "ms", floor)
            print(f"  slowest {least.percentile(1.0):.0f} ms")
            ratio("commit / floor", mine.median, least.median, "-")


def _attaches(lab: Lab) -> list[float]:
    """Attach the first container on each host: it needs the host's first block."""
    samples = []
    with listening(lab.hosts) as kernels:
        for host in lab.hosts:
            began = time.perf_counter()
            container = host.run("c")
            cidr = ipaddress.ip_network((container.address, BLOCK_BITS), strict=False)
            samples.append((last(kernels, wire.RTM_NEWROUTE, cidr) - began) * 1000)
    return samples


def _commits(lab: Lab) -> list[float]:
    """Give the first host block after block, as a claim does, and take each away again."""
    samples = []
    with closing(lab.store()) as store, listening(lab.hosts) as kernels:
        for number in range(RUNS):
            cidr = block(number)
            operation = put(cidr, lab.hosts[0])
            began = time.perf_counter()
            store.commit(Transaction([operation]))
            samples.append((last(kernels, wire.RTM_NEWROUTE, cidr) - began) * 1000)
            store.commit(Transaction([Delete(operation.key)]))
            last(kernels, wire.RTM_DELROUTE, cidr)
    return samples


def _memory(lab: Lab) -> None:
    """Take the memory of agents and BIRDs before and with a thousand routes."""
    for blocks in (0, ROUTES // HOSTS):
        give(lab, blocks)
        wait_routes(lab, HOSTS * (blocks + 1))
        routes = HOSTS * (blocks + 1)
        both = [(agent_memory(host), bird_memory(host)) for host in lab.hosts]
        for words, part in (("resident", "resident"), ("shared pages divided", "shared")):
            for name, at in (("agent", 0), ("BIRD", 1)):
                sizes = [getattr(each[at], part) for each in both]
                figure(f"{name} at {routes} routes, {words}", "MiB", sizes)


def _floor(lab: Lab) -> list[float]:
    """Configure the first host's BIRD with block after block, and without, by the command alone."""
    for host in lab.hosts:
        agents.stop(host.home)
    first, samples = lab.hosts[0], []
    folder = bird_directory(first)
    before = (folder / CONFIG).read_text("utf-8")
    with Control(folder) as control, listening(lab.hosts) as kernels:
        for number in range(RUNS):
            cidr = block(ROUTES + number)
            after = before.replace(_BLOCKS, f"{_BLOCKS}  route {cidr} blackhole;\n")
            for text, kind in ((after, wire.RTM_NEWROUTE), (before, wire.RTM_DELROUTE)):
                write_private(folder / _FLOOR, text)
                began = time.perf_counter()
                reply = control.ask(f'configure "{_FLOOR}"')
                assert not reply.failed, reply.complaint
                took = (last(kernels, kind, cidr) - began) * 1000
                if kind == wire.RTM_NEWROUTE:
                    samples.append(took)
    return samples


if __name__ == "__main__":
    main()
