"""What systemd hears, on a real datagram socket."""

from __future__ import annotations

import os
import socket
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from netloom.agent.notify import Notifier


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest) -> Iterator[tuple[socket.socket, str]]:
    """Return a service manager's end and what it puts into NOTIFY_SOCKET."""
    with (
        tempfile.TemporaryDirectory(prefix="nl-") as folder,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end,
    ):
        name = f"{folder}/notify" if request.param == "path" else f"@{folder}/notify"
        end.bind(name.replace("@", "\0"))
        end.settimeout(60)
        yield end, name


def test_each_step_of_an_agents_life_is_told(manager: tuple[socket.socket, str]) -> None:
    end, name = manager
    notifier = Notifier({"NOTIFY_SOCKET": name})
    notifier.ready("3 peers\nall well")
    assert end.recv(1000) == b"READY=1\nSTATUS=3 peers all well"
    notifier.status("store away")
    assert end.recv(1000) == b"STATUS=store away"
    notifier.alive()
    assert end.recv(1000) == b"WATCHDOG=1"
    notifier.stopping()
    assert end.recv(1000) == b"STOPPING=1"


@pytest.mark.parametrize("name", ["", "/run/nosuch/notify", "@nl-nobody-listens", "vsock:2:1"])
def test_where_nobody_listens_nothing_fails(name: str) -> None:
    Notifier({"NOTIFY_SOCKET": name} if name else {}).ready("up")


def test_a_manager_that_reads_nothing_does_not_hold_the_agent_up(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
        end.bind("\0nl-deaf-" + tmp_path.name)
        notifier = Notifier({"NOTIFY_SOCKET": f"@nl-deaf-{tmp_path.name}"})
        fill(end.getsockname())
        notifier.alive()


def fill(address: bytes) -> None:
    """Send until the receiver's queue is full."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as filler:
        filler.setblocking(False)
        with suppress(BlockingIOError):
            while True:
                filler.sendto(b"x", address)


def test_the_heartbeat_is_half_the_watchdogs_time_and_only_for_this_process() -> None:
    assert Notifier({"WATCHDOG_USEC": "10000000"}).heartbeat_s == 5
    mine = {"WATCHDOG_USEC": "10000000", "WATCHDOG_PID": str(os.getpid())}
    assert Notifier(mine).heartbeat_s == 5
    assert Notifier({**mine, "WATCHDOG_PID": "1"}).heartbeat_s is None
    assert Notifier({}).heartbeat_s is None
    assert Notifier({"WATCHDOG_USEC": "soon"}).heartbeat_s is None
