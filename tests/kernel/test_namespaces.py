"""Namespaces: made, found, entered and removed; errors that name the path."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from netloom.kernel import namespaces
from netloom.lab.waiting import wait_until
from netloom.model.errors import Conflict, InvalidConfig


def test_a_created_namespace_is_one_that_iproute2_knows(run_id):
    name = f"nl-t{run_id}-made"
    path = namespaces.create(name)
    try:
        assert namespaces.is_netns(path)
        assert name in subprocess.check_output(["ip", "netns", "list"], text=True)
        assert namespaces.names(name) == [name]
    finally:
        namespaces.delete(name)
    assert not path.exists()
    assert namespaces.names(name) == []


def test_deleting_the_absent_is_well(run_id):
    namespaces.delete(f"nl-t{run_id}-never")


def test_a_name_that_is_taken_is_a_conflict_and_the_holder_stays(netns):
    before = namespaces.identity(netns.path)
    with pytest.raises(Conflict, match=netns.name):
        namespaces.create(netns.name)
    assert namespaces.identity(netns.path) == before


@pytest.mark.parametrize("name", ["", ".", "..", "a/b"])
def test_a_name_that_would_leave_the_directory_is_refused(name):
    with pytest.raises(InvalidConfig):
        namespaces.create(name)


def test_code_runs_inside_while_the_caller_stays_outside(netns):
    here = namespaces.identity()
    inside = namespaces.in_namespace(netns.path, namespaces.identity)
    assert inside == namespaces.identity(netns.path)
    assert namespaces.identity() == here != inside


def test_a_socket_opened_inside_stays_inside(netns):
    netns.run("ip", "link", "add", "only-here", "type", "bridge")
    sock = namespaces.in_namespace(netns.path, socket.socket)
    with sock:
        names = namespaces.in_namespace(netns.path, socket.if_nameindex)
    assert "only-here" in [name for _, name in names]


def test_sysctls_written_inside_are_those_of_the_namespace(netns):
    knob = Path("/proc/sys/net/ipv4/conf/all/log_martians")
    outside = knob.read_text()
    namespaces.in_namespace(netns.path, lambda: knob.write_text("1"))
    assert netns.run("cat", str(knob)).strip() == "1"
    assert knob.read_text() == outside


def test_an_exception_inside_is_the_callers(netns):
    with pytest.raises(ZeroDivisionError):
        namespaces.in_namespace(netns.path, lambda: 1 / 0)


def test_a_path_that_is_gone_is_named(tmp_path):
    gone = tmp_path / "gone"
    with pytest.raises(InvalidConfig, match=str(gone)):
        namespaces.in_namespace(gone, lambda: None)
    assert not namespaces.is_netns(gone)


@pytest.mark.parametrize("what", ["file", "pipe", "directory", "pid namespace"])
def test_a_path_that_is_no_network_namespace_is_refused(tmp_path, what):
    target = tmp_path / "target"
    if what == "file":
        target.touch()
    elif what == "pipe":
        os.mkfifo(target)
    elif what == "directory":
        target.mkdir()
    else:
        target = Path("/proc/self/ns/pid")
    with pytest.raises(InvalidConfig, match="not a network namespace"):
        namespaces.in_namespace(target, lambda: None)
    assert not namespaces.is_netns(target)


def test_many_threads_make_namespaces_at_once(run_id):
    names = [f"nl-t{run_id}-many{number}" for number in range(8)]
    threads = [threading.Thread(target=namespaces.create, args=(name,)) for name in names]
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len({namespaces.identity(namespaces.path(name)) for name in names}) == 8
    finally:
        for name in names:
            namespaces.delete(name)


def test_what_a_creator_killed_half_way_leaves_can_be_deleted(run_id):
    """The name exists as a plain file, with nothing mounted on it."""
    name = f"nl-t{run_id}-half"
    namespaces.path(name).touch()
    assert not namespaces.is_netns(namespaces.path(name))
    namespaces.delete(name)
    assert namespaces.names(name) == []


def test_the_next_run_sweeps_what_a_killed_run_left(tmp_path):
    """A pytest killed by SIGKILL leaves a namespace with a process; the next one removes both."""
    left = tmp_path / "left"
    conftest = Path(__file__).parents[1] / "conftest.py"
    # Under names of its own: another run that begins meanwhile would sweep it, too.
    (tmp_path / "conftest.py").write_text(conftest.read_text().replace("nl-t", "nl-s"))
    (tmp_path / "test_dies.py").write_text(
        "import os, pathlib, signal\n"
        "def test_dies(netns):\n"
        "    process = netns.popen('sleep', '600')\n"
        f"    pathlib.Path({str(left)!r}).write_text(f'{{netns.name}} {{process.pid}}')\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    (tmp_path / "test_sweeps.py").write_text("def test_sweeps():\n    pass\n")
    pytest_in = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir=."]
    killed = subprocess.run([*pytest_in, "test_dies.py"], cwd=tmp_path, check=False)
    assert killed.returncode == -9
    name, pid = left.read_text().split()
    assert namespaces.names(name) == [name]
    subprocess.run([*pytest_in, "test_sweeps.py"], cwd=tmp_path, check=True)
    assert namespaces.names(name) == []
    wait_until(lambda: has_ended(pid), deadline_s=60, what="the end of the process")


def has_ended(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] == "Z"
    except OSError:
        return True
