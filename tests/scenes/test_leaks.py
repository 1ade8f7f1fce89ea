"""Containers whose only process is killed: nobody calls DEL. Found, reported and released."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from netloom.lab.documents import default_document
from netloom.lab.lab import Lab, LabHost
from netloom.lab.waiting import wait_until

from .cni_world import OURS, Box, World, chain
from .test_calicoctl_lab import CALICO, calicoctl

LabUp = Callable[..., Lab]
CONFLIST = chain({**OURS, "network": "calico"})


@contextmanager
def process(host: LabHost) -> Iterator[int]:
    """Start a process in a network namespace of its own, that ends with it; yield its id."""
    running = host.popen(["unshare", "--net", "sleep", "600"])
    own = os.stat("/proc/self/ns/net").st_ino
    outside = {own, os.stat(f"/run/netns/{host.namespace}").st_ino}

    def inside() -> bool:
        command = Path(f"/proc/{running.pid}/comm").read_text(encoding="utf-8").strip()
        return command == "sleep" and os.stat(f"/proc/{running.pid}/ns/net").st_ino not in outside

    try:
        wait_until(inside, deadline_s=60, what="the container's namespace")
        yield running.pid
    finally:
        running.kill()
        running.wait()


@pytest.fixture
def world(lab_up: LabUp, tmp_path: Path) -> World:
    lab = lab_up(default_document(hosts=1, network=CALICO))
    return World(lab, lab.host("h1"), tmp_path / "cni")


def attached(world: World, name: str, pid: int) -> str:
    box = Box(name, f"/proc/{pid}/ns/net")
    return world.runtime().add(CONFLIST, box.id, box.netns, "eth0")["ips"][0]["address"][:-3]


def killed(world: World, *names: str) -> list[str]:
    """Attach containers and kill them with signal 9; return their addresses."""
    addresses = []
    for name in names:
        with process(world.host) as pid:
            addresses.append(attached(world, name, pid))
            os.kill(pid, signal.SIGKILL)
    return addresses


def reported(host: LabHost, path: Path, problems: int) -> str:
    """Check until there are so many problems; return what was said."""

    def found() -> str:
        code, out, err = calicoctl(host, "ipam", "check", "-o", str(path))
        assert code == 0, err
        return out if f"Check complete; found {problems} problems." in out else ""

    return wait_until(found, deadline_s=60, what=f"{problems} problems")


def shown(host: LabHost, address: str, text: str) -> None:
    """Wait until the datastore, a mirror, says so of an address."""
    wait_until(
        lambda: text in calicoctl(host, "ipam", "show", f"--ip={address}")[1],
        deadline_s=60,
        what=f"{address}: {text}",
    )


def test_what_was_killed_while_the_agent_was_up_goes_by_a_report(
    world: World, tmp_path: Path
) -> None:
    """Of two leaks one is no leak any more when the report is used: it stays, the other goes."""
    host, report = world.host, tmp_path / "report.json"
    one, two = killed(world, "one", "two")
    out = reported(host, report, 2)
    assert "Found 2 IPs that are allocated in IPAM but not actually in use." in out
    world.runtime().delete(CONFLIST, "two", "", "eth0")
    with process(host) as pid:
        again = attached(world, "two", pid)
        assert again not in (one, two), "an address that was freed rests"
        code, out, err = calicoctl(host, "ipam", "release", f"--from-report={report}")
        assert (code, out) == (4, "Released 1 IPs of 1 allocations.\n")
        assert "calico.two.eth0 is no leak: its container is there" in err
        shown(host, one, "is not assigned")
        shown(host, again, "is in use")
    reported(host, report, 1)
    said = calicoctl(host, "ipam", "release", f"--from-report={report}")
    assert said[:2] == (0, "Released 1 IPs of 1 allocations.\n")
    reported(host, report, 0)
    assert not [each for each in host.json(["ip", "-j", "link"]) if each["ifname"][:4] == "cali"]


def test_what_was_killed_while_the_agent_was_down_is_a_leak_when_it_is_up_again(
    world: World, tmp_path: Path
) -> None:
    """Without the agent nobody can tell, and check says so; the report of before waits for it."""
    lab, host, report = world.lab, world.host, tmp_path / "report.json"
    with process(host) as pid:
        address = attached(world, "one", pid)
        shown(host, address, "is in use")
        lab.fault("h1", "kill-agent")
        os.kill(pid, signal.SIGKILL)
    out = reported(host, report, 0)
    assert "Not judged: leaks: no agent answers" in out
    code, out, err = calicoctl(host, "ipam", "release", f"--from-report={report}")
    assert (code, out) == (0, "Released 0 IPs of 0 allocations.\n")
    assert "no agent was there to judge leaks" in err
    assert calicoctl(host, "ipam", "release", f"--ip={address}")[0] == 6
    host.start_agent()
    reported(host, report, 1)
    lab.fault("h1", "kill-agent")
    code, _, err = calicoctl(host, "ipam", "release", f"--from-report={report}")
    assert (code, "no agent answers" in err) == (6, True)
    host.start_agent()
    said = calicoctl(host, "ipam", "release", f"--from-report={report}")
    assert said[:2] == (0, "Released 1 IPs of 1 allocations.\n")
    shown(host, address, "is not assigned")
