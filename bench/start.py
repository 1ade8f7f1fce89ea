"""Agent start to last route, against the floor: the same netlink bytes sent from memory at once.

Beside the time that passes, which other work on the machine lengthens, stands the processor time
that the agent's process has taken by then, the kernel's work on its requests included.
"""

from __future__ import annotations

import subprocess
import sys
import time
from contextlib import closing

from bench.crowd import Crowd, crowd
from bench.figures import figure, ratio
from bench.notices import Notices
from netloom.core.desired import desired
from netloom.core.underlay import facts
from netloom.kernel import encode, namespaces
from netloom.kernel.netlink import Netlink
from netloom.kernel.rtnetlink import RtKernel
from netloom.model.kernel import Link
from netloom.model.keys import CLUSTER
from netloom.model.view import View
from netloom.reconcile.cluster import from_listing
from netloom.reconcile.contracts import Change, Verb
from netloom.store.sqlite import SqliteStore

RUNS = 5
#: What ``netloom agent`` has loaded when it asks for its first turn.
_LOADED = "import netloom.cli.main, netloom.cli.agent, netloom.agent.agent"


def main(sizes: tuple[int, ...] = (1000, 4000)) -> None:
    """Measure and print."""
    bare = figure("interpreter start, bare", "ms", [_python("pass") for _ in range(RUNS * 2)])
    loaded = figure(
        "interpreter start with the agent's imports",
        "ms",
        [_python(_LOADED) for _ in range(RUNS * 2)],
    )
    for size in sizes:
        starts, processor, floors, least = [], [], [], []
        for _ in range(RUNS):
            with crowd(size) as made:
                took, used = _floor(made)
                floors.append(took)
                least.append(used)
            with crowd(size) as made:
                took, used = _start(made)
                starts.append(took)
                processor.append(used)
        start = figure(f"agent start to last route, {size} peers", "ms", starts)
        burnt = figure(f"processor time of it, {size} peers", "ms", processor)
        floor = figure(f"floor: the same bytes from memory, {size} peers", "ms", floors)
        sent = figure(f"processor time of it, {size} peers", "ms", least)
        ratio("start less imports / floor", start.median - loaded.median, floor.median, "≤ 1.5")
        ratio("start less bare start / floor", start.median - bare.median, floor.median, "≤ 1.5")
        ratio("by processor time, interpreter and imports included", burnt.median, sent.median, "-")


def _python(code: str) -> float:
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True)
    return (time.perf_counter() - began) * 1000


def _start(made: Crowd) -> tuple[float, float]:
    """Start an agent in the crowd; return when its last route is there, and its processor time."""
    with closing(Notices(made.netns)) as notices:
        began = time.perf_counter()
        agent = made.start_agent()
        try:
            ended = notices.wait_for(made.size)
            used = time.clock_gettime(_processor_clock(agent.pid))
        finally:
            agent.terminate()
            agent.wait(20)
    return (ended - began) * 1000, used * 1000


def _processor_clock(pid: int) -> int:
    """Return the id of another process's processor clock, as clock_getcpuclockid(3) makes it."""
    return (~pid << 3) | 2


def _floor(made: Crowd) -> tuple[float, float]:
    """Send what the agent would send, encoded beforehand, in one go per kind of message.

    Return the time that passes and the processor time, both of the sending alone.
    """
    store = SqliteStore(made.store_path)
    cluster = from_listing(store.list(CLUSTER), store.store_id)
    store.close()
    kernel = RtKernel(namespaces.path(made.netns))
    base = kernel.read(("link", "address", "route"))
    state = desired(View(cluster, "bench", facts(base))).state
    links = [obj for obj in state.values() if isinstance(obj, Link)]
    kernel.apply([Change(Verb.ADD, link) for link in links])
    index = {o.name: o.index for o in kernel.read(("link",)) if isinstance(o, Link)}
    requests = [
        encode.encode(Verb.ADD, obj, index[obj.link])
        for kind in ("neighbour", "fdb", "route")
        for obj in state.values()
        if obj.kind_name == kind
    ]
    with closing(Netlink.inside(namespaces.path(made.netns))) as netlink:
        began, used = time.perf_counter(), time.process_time()
        acks = netlink.send(requests)
        took, used = time.perf_counter() - began, time.process_time() - used
    kernel.close()
    assert not any(ack.errno for ack in acks), "the floor's bytes were refused"
    return took * 1000, used * 1000


if __name__ == "__main__":
    main()
