"""What every test may use: network namespaces that are gone afterwards, whatever happens.

A namespace is called ``nl-t<run>-<name>``; ``<run>`` names the pytest process by its pid and its
start time, so that a later run can tell the leftovers of a dead run from the work of a live one.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, settings

from netloom.kernel import namespaces
from netloom.model.errors import InvalidConfig

T = TypeVar("T")

#: No machine is too slow for a property. The examples are the same each time, so that a change is
#: judged by what it does; ``--hypothesis-profile=search`` looks for others.
settings.register_profile(
    "search", deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True
)
settings.register_profile("same", settings.get_profile("search"), derandomize=True)
settings.load_profile("same")

#: Every name of ours: the run's process id and start time, then the test's own part.
NAME = re.compile(r"nl-t(\d+)x([0-9a-f]+)-.*")

#: The folders whose files are short, in the order in which several workers take them. Those of all
#: other folders come before, by their names alone, so that no folder's files come all at once.
SHORT = ("property", "kernel", "store_contract", "unit")


@dataclass(frozen=True)
class Netns:
    """A namespace of this test, with what a test does to it."""

    name: str

    @property
    def path(self) -> str:
        """Return the path that CNI, podman and our own code open."""
        return str(namespaces.path(self.name))

    def run(self, *command: str, input: str | None = None) -> str:
        """Run a command inside and return its output; a failure shows what it said."""
        done = subprocess.run(
            ["nsenter", f"--net={self.path}", *command],
            capture_output=True,
            text=True,
            input=input,
            timeout=180,
            check=False,
        )
        if done.returncode:
            raise AssertionError(f"{' '.join(command)}: {done.returncode}: {done.stderr}")
        return done.stdout

    def sh(self, line: str) -> str:
        """Run one command line inside, split at blanks as a shell does, without a shell."""
        return self.run(*shlex.split(line))

    def json(self, *command: str) -> Any:
        """Run a command that prints JSON (``ip -j …``) and return what it printed."""
        return json.loads(self.run(*command) or "[]")

    def popen(self, *command: str, **options: Any) -> subprocess.Popen[str]:
        """Start a process inside; the caller ends it (what is left dies with the namespace)."""
        return subprocess.Popen(["nsenter", f"--net={self.path}", *command], text=True, **options)

    def call(self, function: Callable[[], T]) -> T:
        """Run Python code inside, in a thread of its own."""
        return namespaces.in_namespace(self.path, function)


def _start_time(pid: int) -> str:
    """Return when a process started, in hex ticks since boot; "" when there is none."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return f"{int(fields[19]):x}"


def _kill_inside(name: str) -> None:
    """End the processes that live in a namespace of ours: a test started them, nobody else can."""
    try:
        wanted = namespaces.identity(namespaces.path(name))
    except InvalidConfig:
        return  # a plain file: its creator died half-way
    for entry in os.listdir("/proc"):
        if entry.isdigit() and int(entry) != os.getpid():
            try:
                status = os.stat(f"/proc/{entry}/ns/net")
                if (status.st_dev, status.st_ino) == wanted:
                    os.kill(int(entry), signal.SIGKILL)
            except OSError:
                continue


def _remove(name: str) -> None:
    _kill_inside(name)
    namespaces.delete(name)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Give several workers the long files first: what is short is left to even out their ends.

    They take files in this order when pytest is told ``--no-loadscope-reorder``.
    """
    if hasattr(config, "workerinput"):
        items.sort(key=_turn)


def _turn(item: pytest.Item) -> tuple[int, str]:
    folder = item.path.relative_to(Path(__file__).parent).parts[0]
    return (SHORT.index(folder) + 1, "") if folder in SHORT else (0, item.path.name)


@contextmanager
def sweeping() -> Iterator[None]:
    """Keep other runs, which may begin at any time, from sweeping meanwhile."""
    with ExitStack() as stack:
        with suppress(PermissionError):  # who may not write there has nothing to sweep
            file = stack.enter_context(open("/run/netloom-test-sweep", "w"))
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


@pytest.fixture(scope="session")
def run_id() -> str:
    """Name this pytest process: ``<pid>x<start time>``; use it in every name you make."""
    return f"{os.getpid()}x{_start_time(os.getpid())}"


@pytest.fixture(scope="session", autouse=True)
def _sweep(run_id: str) -> Iterator[None]:
    """Remove the namespaces of runs that are dead, and at the end whatever is left of ours."""
    with sweeping():
        for name in namespaces.names("nl-t"):
            match = NAME.fullmatch(name)
            if match and _start_time(int(match[1])) != match[2]:
                _remove(name)
    yield
    for name in namespaces.names(f"nl-t{run_id}-"):
        _remove(name)


@pytest.fixture(autouse=True)
def _no_thread_stays() -> Iterator[None]:
    """Let no test leave a thread at work: it would take from all that come after it."""
    before = set(threading.enumerate())
    yield
    for thread in set(threading.enumerate()) - before:
        thread.join(60)
        assert not thread.is_alive(), f"the test has ended and its thread {thread.name} has not"


@pytest.fixture
def make_netns(run_id: str, request: pytest.FixtureRequest) -> Iterator[Callable[[str], Netns]]:
    """Return a function that makes a namespace with lo up; all are removed after the test."""
    made: list[str] = []

    def make(name: str) -> Netns:
        full = f"nl-t{run_id}-{name}"
        namespaces.create(full)
        made.append(full)
        netns = Netns(full)
        netns.run("ip", "link", "set", "lo", "up")
        return netns

    yield make
    for full in reversed(made):
        _remove(full)


@pytest.fixture(scope="session")
def nobody() -> tuple[str, ...]:
    """Return the words before a command that run it as a user without rights.

    Skips where that user cannot run our Python, such as in a checkout below /root.
    """
    words = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
    ours = [*words, sys.executable, "-c", "import netloom"]
    if subprocess.run(ours, capture_output=True, check=False).returncode:
        pytest.skip("missing: a checkout that other users may read")
    return words


@pytest.fixture
def netns(make_netns: Callable[[str], Netns]) -> Netns:
    """Return a fresh namespace with lo up."""
    return make_netns("host")


@pytest.fixture
def two_hosts(make_netns: Callable[[str], Netns]) -> tuple[Netns, Netns]:
    """Return two hosts joined by a veth called ens33 in both: 192.168.31.62/24 and .63/24.

    IPv6: fd31::62/64 and fd31::63/64. The link is ready to carry packets.
    """
    one, two = make_netns("h1"), make_netns("h2")
    pair = ["type", "veth", "peer", "name", "ens33", "netns", two.path]
    one.run("ip", "link", "add", "ens33", *pair)
    for host, number in ((one, 62), (two, 63)):
        host.run("ip", "address", "add", f"192.168.31.{number}/24", "dev", "ens33")
        host.run("ip", "address", "add", f"fd31::{number}/64", "dev", "ens33", "nodad")
        host.run("ip", "link", "set", "ens33", "up")
    for host in (one, two):
        _await(lambda host=host: _has_carrier(host))
    return one, two


def _has_carrier(host: Netns) -> bool:
    """Tell whether ens33 is up and has its link-local address: the kernel does both later."""
    (link,) = host.json("ip", "-j", "address", "show", "ens33")
    scopes = [address["scope"] for address in link["addr_info"]]
    return link["operstate"] == "UP" and "link" in scopes


def _await(condition: Callable[[], bool], within_s: float = 60.0) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, "the link did not come up"
