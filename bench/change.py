"""One host joining among a thousand, repair among a thousand, and what the agent costs."""

from __future__ import annotations

import os
import subprocess
import time
from contextlib import closing
from pathlib import Path

from bench.crowd import Crowd, crowd, deletes, peer, puts
from bench.figures import figure
from bench.notices import Notices
from netloom.kernel import wire
from netloom.lab.waiting import wait_until
from netloom.model.datastore import Transaction
from netloom.store.sqlite import SqliteStore

SIZE = 1000
JOINS = 200
REPAIRS = 50
IDLE_S = 30.0


def main() -> None:
    """Measure and print."""
    with crowd(SIZE) as made:
        agent = made.start_agent()
        try:
            _settle(made)
            with closing(Notices(made.netns)) as notices:
                _joins(made, notices)
                _repairs(made, notices)
            _footprint(agent.pid)
        finally:
            agent.terminate()
            agent.wait(20)


def _settle(made: Crowd) -> None:
    def there() -> bool:
        argv = ["ip", "-n", made.netns, "route", "show", "proto", "78"]
        shown = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
        return shown.count("onlink") >= made.size

    wait_until(there, deadline_s=60, what="all routes", pause_s=0.2)
    time.sleep(2)  # registration and the kept picture are written


def _joins(made: Crowd, notices: Notices) -> None:
    store = SqliteStore(made.store_path)
    samples = []
    for number in range(made.size, made.size + JOINS):
        destination = peer(number)[1].cidr.network_address.packed
        store.commit(Transaction(puts(number)))
        began = time.perf_counter()
        samples.append((notices.wait(wire.RTM_NEWROUTE, destination) - began) * 1000)
        store.commit(Transaction(deletes(number)))
        notices.wait(wire.RTM_DELROUTE, destination)
    store.close()
    joined = figure(f"join among {SIZE}: commit to kernel", "ms", samples)
    print(f"  99th percentile {joined.percentile(0.99):.1f} ms   (aim: 10 median, 50 at the 99th)")


def _repairs(made: Crowd, notices: Notices) -> None:
    samples = []
    for number in range(REPAIRS):
        block = peer(number * 7 % made.size)[1].cidr
        argv = ["ip", "-n", made.netns, "route", "del", str(block)]
        subprocess.run(argv, check=True)
        began = notices.wait(wire.RTM_DELROUTE, block.network_address.packed)
        ended = notices.wait(wire.RTM_NEWROUTE, block.network_address.packed)
        samples.append((ended - began) * 1000)
    repaired = figure(f"repair of a route among {SIZE}", "ms", samples)
    print(f"  slowest {repaired.percentile(1.0):.1f} ms   (aim: 100 median, 1000 always)")


def _footprint(pid: int) -> None:
    status = Path(f"/proc/{pid}/status").read_text()
    resident = int(status.split("VmRSS:")[1].split()[0]) / 1024
    figure(f"agent's resident memory at {SIZE} peers (aim ≤ 64)", "MiB", [resident])
    before = _cpu_s(pid)
    time.sleep(IDLE_S)
    used = (_cpu_s(pid) - before) / IDLE_S * 100
    figure(f"agent idle at {SIZE} peers (aim ≤ 0.5)", "% core", [used])


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main()
