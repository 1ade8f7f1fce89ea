"""Forty hosts that begin at once: until every host has every route, and the memory of all.

The floor is the same forty BIRDs with the same configurations, started by hand at once: its
greatest part is the time that BGP's two sides give each other before they connect. What is above
it is the start of forty agents on this machine's few cores, as their processor time tells.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

from bench.figures import figure, ratio
from bench.routers import (
    agent_memory,
    bird_directory,
    bird_memory,
    give,
    reflect,
    routers,
    start_all,
    wait_routes,
)
from netloom.kernel import namespaces
from netloom.kernel.bird import process
from netloom.kernel.bird.control import listener
from netloom.lab import agents, processes
from netloom.lab.lab import Lab
from netloom.lab.processes import Process

HOSTS = 40
REFLECTORS = 2
RUNS = 3


def main() -> None:
    """Measure and print."""
    for words, reflectors in (("one mesh", 0), (f"behind {REFLECTORS} reflectors", REFLECTORS)):
        starts, used, floors = [], [], []
        for run in range(RUNS):
            with routers(HOSTS) as lab:
                give(lab, 1)
                reflect(lab, reflectors)
                began = time.perf_counter()
                start_all(lab)
                wait_routes(lab, HOSTS)
                starts.append(time.perf_counter() - began)
                used.append(_processor_s(lab))
                if run == RUNS - 1:
                    _memory(lab, words)
                floors.append(_floor(lab))
        mine = figure(f"{HOSTS} agents' start to all routes, {words}", "s", starts)
        figure("processor time by then of one agent and its BIRD", "s", used)
        floor = figure(f"floor: {HOSTS} BIRDs alone, {words}", "s", floors)
        ratio("agents / BIRDs alone", mine.median, floor.median, "-")


def _pids(lab: Lab) -> list[int]:
    found = [host.agent.pid for host in lab.hosts if host.agent is not None]
    return found + [pid for host in lab.hosts if (pid := listener(bird_directory(host)))]


def _processor_s(lab: Lab) -> float:
    """Return what one host's agent and BIRD have taken, in the mean."""
    ticks = 0
    for pid in _pids(lab):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK") / len(lab.hosts)


def _memory(lab: Lab, words: str) -> None:
    """Take what all agents and all BIRDs hold together; shared pages count once."""
    for name, read in (("agents", agent_memory), ("BIRDs", bird_memory)):
        held = sum(read(host).shared for host in lab.hosts)
        figure(f"memory of {HOSTS} {name}, {words}", "MiB", [held])


def _floor(lab: Lab) -> float:
    """End agents and BIRDs, take their routes, and start BIRDs alone on what the agents wrote."""
    for host in lab.hosts:
        agents.stop(host.home)
    birds = [Process.of(listener(bird_directory(host))) for host in lab.hosts]
    processes.end([each for each in birds if each is not None])
    for host in lab.hosts:
        argv = ["ip", "-n", host.namespace, "route", "flush", "proto", "bird"]
        subprocess.run(argv, check=True)
    began = time.perf_counter()
    alone = [
        namespaces.in_namespace(
            namespaces.path(host.namespace),
            lambda: process.start(bird_directory(host), recover=False),  # noqa: B023 - called now
        )
        for host in lab.hosts
    ]
    try:
        wait_routes(lab, HOSTS)
        return time.perf_counter() - began
    finally:
        for child in alone:
            child.send_signal(signal.SIGTERM)
            child.wait()


if __name__ == "__main__":
    main()
