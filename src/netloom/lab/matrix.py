"""Who reaches whom: every container pings every other, answers as they come."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass

from netloom.lab.host import LabContainer

_TIME = re.compile(r"time[=<]([0-9.]+) ms")
#: So many pings at once: more would only measure how long they wait for a processor.
AT_ONCE = 4


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of one ping; ``rtt_ms`` None means that nothing came back."""

    source: str
    target: str
    rtt_ms: float | None


def ping(source: LabContainer, target: LabContainer, wait_s: float = 5.0) -> Answer:
    """Ping once and return the answer."""
    argv = source.command(["ping", "-n", "-c", "1", "-W", str(wait_s), target.address])
    done = subprocess.run(argv, capture_output=True, encoding="utf-8", check=False)
    found = _TIME.search(done.stdout)
    return Answer(source.name, target.name, float(found[1]) if found else None)


def answers(containers: Sequence[LabContainer]) -> Iterator[Answer]:
    """Ping from each to each other; yield each answer when it is there, in any order."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        running = [
            pool.submit(ping, source, target)
            for source in containers
            for target in containers
            if source is not target
        ]
        for future in as_completed(running):
            yield future.result()
