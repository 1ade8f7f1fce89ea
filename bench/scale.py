"""Thousands of foreign leases in etcd: cold start, join of one and memory, beside flannel's daemon.

Every figure of flannel's is taken in the same run, turn by turn with ours, from the same etcd and
with the same flags; the routes are seen by the same listener. Where its daemon is not there (see
``tests/scenes/flanneld.py``: ``NETLOOM_FLANNELD``, the PATH, ``NETLOOM_BUILD_FLANNELD=1``) the
comparison is left out, and a line says so.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from tests.scenes import flanneld

from bench.figures import Figure, figure, ratio
from bench.leases import Leases, block, lease, leases
from bench.notices import Notices
from netloom.kernel import wire
from netloom.lab.waiting import wait_until
from netloom.model.datastore import Delete, Transaction
from netloom.model.errors import Unavailable

RUNS = 5
JOINS = 8  # in each run
_END_S = 20.0
_SETTLED_S = 30.0
_MISSED_S = 2.0
FLANNEL, OURS, LAYOUT = "flannel's daemon", "our flanneld", "netloom agent, own layout"
#: Of flannel's figures: cold start by size, join, memory.
AIMS = {1000: "≤ 0.8", 4000: "≤ 0.6"}
_JOIN_AIM, _MEMORY_AIM = "≤ 1.0", "≤ 1.3"


@dataclass(slots=True)
class Samples:
    """What was measured of one program."""

    start: list[float] = field(default_factory=list)
    processor: list[float] = field(default_factory=list)
    join: list[float] = field(default_factory=list)
    missed: int = 0
    resident: list[float] = field(default_factory=list)
    share: list[float] = field(default_factory=list)


Start = Callable[[], subprocess.Popen[bytes]]


def main(sizes: tuple[int, ...] = (1000, 4000)) -> None:
    """Measure and print."""
    theirs, why = flanneld.find()
    if why:
        print(f"  no comparison with flannel's daemon: {why}")
    for size in sizes:
        with leases(size) as made:
            programs: dict[str, Start] = {
                OURS: partial(made.flannels, str(_entry())),
                LAYOUT: made.own,
            }
            if theirs:
                programs = {FLANNEL: partial(made.flannels, theirs), **programs}
            samples = {name: Samples() for name in programs}
            for _ in range(RUNS):
                for name, start in programs.items():
                    _run(made, start, samples[name], joins=name != LAYOUT)
        _print(size, samples)


def _entry() -> Path:
    """Return our ``flanneld``, as its installation makes it."""
    return Path(sys.executable).with_name("flanneld")


def _run(made: Leases, start: Start, samples: Samples, *, joins: bool) -> None:
    made.clean()
    with closing(Notices(made.netns)) as notices:
        began = time.perf_counter()
        process = start()
        try:
            samples.start.append((notices.wait_for(made.size) - began) * 1000)
            samples.processor.append(time.clock_gettime((~process.pid << 3) | 2) * 1000)
            _settle(made, process)
            if joins:
                _joins(made, notices, samples)
            resident, share = _memory_mib(process.pid)
            samples.resident.append(resident)
            samples.share.append(share)
        except (TimeoutError, Unavailable):
            _say_why(made, process)
            raise
        finally:
            process.terminate()
            process.wait(_END_S)


def _say_why(made: Leases, process: subprocess.Popen[bytes]) -> None:
    """Show the end of a program's log: it did not do what was waited for."""
    code = process.poll()
    state = "it runs" if code is None else f"it ended with {code}"
    print(f"  {process.args!r}: {state}; its last words:\n{made.log.read_text()[-1500:]}")


def _settle(made: Leases, process: subprocess.Popen[bytes]) -> None:
    """Wait until the program has done what follows its start, and is at rest."""
    state = made.folder / "state"
    if state.exists():  # ours: it keeps the picture on the disk a while after the last change
        kept = state / "cluster.json"
        wait_until(kept.exists, deadline_s=_SETTLED_S, what="the kept picture", pause_s=0.1)
    else:
        written = made.folder / "subnet.env"
        wait_until(written.exists, deadline_s=_SETTLED_S, what="subnet.env", pause_s=0.1)
    used = [-1.0]

    def at_rest() -> bool:
        before, used[0] = used[0], time.clock_gettime((~process.pid << 3) | 2)
        return used[0] - before < 0.005

    wait_until(at_rest, deadline_s=_SETTLED_S, what="the program to be at rest", pause_s=0.5)


def _joins(made: Leases, notices: Notices, samples: Samples) -> None:
    """Let one more host join, and leave, again and again: from sending the commit to its route.

    Not from the commit's answer: a program that is quick has the route there before it.
    flannel's daemon takes the first of the changes that reach it together and drops the others
    (v0.20.2, subnet/etcd/registry.go, watchSubnets): a join that it never heard of is counted.
    """
    for number in range(made.size, made.size + JOINS):
        destination = block(number).network_address.packed
        join = Transaction([made.put(number)])
        began = time.perf_counter()
        made.store.commit(join)
        try:
            there = notices.wait(wire.RTM_NEWROUTE, destination, _MISSED_S)
        except TimeoutError:
            samples.missed += 1
        else:
            samples.join.append((there - began) * 1000)
        made.store.commit(Transaction([Delete(lease(number)[0])]))
        with suppress(TimeoutError):
            notices.wait(wire.RTM_DELROUTE, destination, _MISSED_S)


def _memory_mib(pid: int) -> tuple[float, float]:
    """Return the resident memory, and the part of it that is this process's own share."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    sizes = {name: int(size) / 1024 for name, size, *_ in (line.split() for line in lines)}
    return sizes["Rss:"], sizes["Pss:"]


def _print(size: int, samples: dict[str, Samples]) -> None:
    parts = (
        ("start", "start to last route", "ms", AIMS.get(size, "-")),
        ("processor", "processor time of it", "ms", "-"),
        ("join", "join: commit to route", "ms", _JOIN_AIM),
        ("resident", "resident memory", "MiB", _MEMORY_AIM),
        ("share", "its share of it (PSS)", "MiB", "-"),
    )
    for attribute, words, unit, aim in parts:
        figures: dict[str, Figure] = {
            name: figure(f"{size}: {words}, {name}", unit, getattr(each, attribute))
            for name, each in samples.items()
            if getattr(each, attribute)
        }
        if attribute == "join":
            _say_missed(samples)
        if FLANNEL in figures:
            ratio(f"{words}, ours / flannel's", figures[OURS].median, figures[FLANNEL].median, aim)


def _say_missed(samples: dict[str, Samples]) -> None:
    for name, each in samples.items():
        if each.missed:
            print(f"  {name} never heard of {each.missed} of {RUNS * JOINS} joins")


if __name__ == "__main__":
    main()
