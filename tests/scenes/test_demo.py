"""``netloom demo``: it shows what it says, and leaves nothing, however it ends."""

from __future__ import annotations

import os
import pty
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from netloom.lab import record, teardown
from netloom.lab.lab import Lab
from netloom.lab.waiting import wait_until

COMMAND = [sys.executable, "-m", "netloom", "demo", "--name"]


@pytest.fixture
def name(lab_names: Iterator[str]) -> Iterator[str]:
    chosen = next(lab_names)
    yield chosen
    teardown.down(chosen)


def nothing_left(name: str) -> bool:
    return teardown.namespaces_of(name) == [] and not record.directory(name).exists()


def test_the_demo_shows_traffic_tables_wire_damage_and_leaves_nothing(name: str) -> None:
    done = subprocess.run([*COMMAND, name], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    shown = done.stdout
    assert "\033" not in shown
    assert "30 of 30 pings came back" in shown
    assert "dev flannel.1 proto 78 onlink" in shown
    assert "PERMANENT" in shown
    assert "self permanent" in shown
    assert "VXLAN VNI 1" in shown
    assert "ICMP echo request" in shown
    assert ": 0 frames of that" in " ".join(shown.split())
    assert len(re.findall(r"✓ +\d+ ms", shown)) == 7
    assert re.search(r"\d+ pings in all, 0 lost", shown)
    assert max(len(line) for line in shown.splitlines()) <= 100
    assert nothing_left(name)


def test_on_a_terminal_it_is_coloured_and_with_no_color_it_is_not(
    name: str, tmp_path: Path
) -> None:
    for flag, coloured in (("--no-color", False), ("--keep", True)):
        master, slave = pty.openpty()
        errors = tmp_path / "errors"
        with errors.open("w") as file:
            done = subprocess.Popen([*COMMAND, name, flag], stdout=slave, stderr=file)
        os.close(slave)
        shown = b""
        try:
            while data := os.read(master, 65536):
                shown += data
        except OSError:
            pass  # a terminal whose other end is closed ends so
        os.close(master)
        assert done.wait() == 0, errors.read_text()
        assert (b"\033[" in shown) == coloured
    with Lab.open(name) as kept:
        assert kept.record.owner is None
        assert kept.host("h1").container("a").pings(kept.host("h2").container("a").address)


@pytest.mark.parametrize(
    ("moment", "number"),
    [
        ("  Three hosts", signal.SIGINT),
        ("Who reaches whom", signal.SIGTERM),
        ("Damage by hand", signal.SIGHUP),
    ],
)
def test_interrupted_at_any_moment_it_leaves_nothing(name: str, moment: str, number: int) -> None:
    for _ in range(3):  # we may be too slow: it has ended then
        demo = subprocess.Popen(
            [*COMMAND, name],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
        assert demo.stdout is not None
        for line in demo.stdout:
            if moment in line:
                break
        demo.send_signal(number)
        _, said = demo.communicate()
        assert nothing_left(name)
        if demo.returncode != 0:
            break
    assert demo.returncode == 130, said


def test_killed_it_leaves_what_the_next_run_removes(name: str) -> None:
    demo = subprocess.Popen([*COMMAND, name], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_until(lambda: teardown.namespaces_of(name), deadline_s=120, what="the lab to begin")
    demo.kill()
    demo.wait()
    done = subprocess.run([*COMMAND, name], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert nothing_left(name)


def test_a_lab_of_that_name_is_left_alone(name: str, lab_up) -> None:
    from netloom.lab.documents import default_document

    lab = lab_up(default_document(hosts=1), run_agents=False, name=name)
    done = subprocess.run([*COMMAND, name], capture_output=True, text=True, check=False)
    assert done.returncode == 4
    assert f"netloom lab down --name {name}" in done.stderr
    assert lab.host("h1").pings("192.168.31.1")
