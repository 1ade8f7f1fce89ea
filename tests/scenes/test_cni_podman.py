"""Podman with its CNI backend as a caller that is not ours: Debian 12's version 4.3.

It lives in a mount and a process namespace of its own, with its storage and its locks, so that
nothing of it touches the machine's Podman and all of it dies with the test. The agent is outside:
what Podman calls ``/run/netns/…`` it does not see, and finds by way of the calling process.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from netloom.drivers.cni import build
from netloom.kernel import namespaces
from netloom.lab.documents import default_document
from netloom.lab.lab import Lab
from netloom.lab.processes import myself
from netloom.lab.waiting import wait_until

from .cni_world import CAPABILITIES, DEBIAN, PLUGIN

pytestmark = pytest.mark.skipif(
    not shutil.which("podman") or not (DEBIAN / "tuning").exists(),
    reason="needs podman and containernetworking-plugins",
)

#: What Podman's namespace looks like: /run, /var/lib and /dev/shm are its own and empty, but for
#: the folder ($1) of the agent's socket, kept in $2 meanwhile. With both kinds of cgroups mounted
#: crun refuses to start, so the second kind is taken away.
SETUP = """
set -e
umount /sys/fs/cgroup/unified 2>/dev/null || true
mount --bind "$1" "$2"
for place in /run /var/lib /dev/shm; do mount -t tmpfs none "$place"; done
mkdir -p "$1" /run/netns
mount --bind "$2" "$1"
echo ready
exec cat
"""
CONFIGURATION = """
[network]
network_backend = "cni"
cni_plugin_dirs = ["{folder}/bin", "/usr/lib/cni"]
network_config_dir = "{folder}/net"
[engine]
cgroup_manager = "cgroupfs"
events_logger = "none"
lock_type = "file"
runtime = "crun"
tmp_dir = "{folder}/tmp"
volume_path = "{folder}/volumes"
num_locks = 64
[containers]
log_driver = "k8s-file"
default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]
"""
PROGRAMS = ("/usr/bin/sleep", "/sbin/ip")


class Podman:
    """Podman on a lab's host, in namespaces that end with ``holder``."""

    def __init__(self, lab: Lab, folder: Path) -> None:
        self.lab = lab
        self.host = lab.host("h1")
        self.folder = folder
        self._configure()
        spare = folder / "spare"
        spare.mkdir()
        command = ["unshare", "--mount", "--propagation", "private", "--pid", "--fork"]
        command += ["--kill-child", "--mount-proc", "sh", "-c", SETUP, "sh"]
        self.holder = subprocess.Popen(
            [*command, self.host.home.socket.parent, spare],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self.holder.stdout is not None
        assert self.holder.stdout.readline() == b"ready\n"
        children = Path(f"/proc/{self.holder.pid}/task/{self.holder.pid}/children").read_text()
        netns = namespaces.path(self.host.namespace)
        self._enter = ["nsenter", "-t", children.split()[0], "--mount", "--pid", f"--net={netns}"]

    def inside(self, *command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*self._enter, *command],
            env={**self.host.environment, "CONTAINERS_CONF": str(self.folder / "containers.conf")},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
            stdin=subprocess.DEVNULL,
        )

    def __call__(self, *arguments: str) -> str:
        done = self.inside(*self.command(*arguments))
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def command(self, *arguments: str) -> list[str]:
        place = [f"--root={self.folder}/root", f"--runroot={self.folder}/runroot"]
        return ["podman", *place, "--storage-driver=vfs", *arguments]

    def run(self, *arguments: str) -> str:
        return self(*self.run_command(*arguments))

    def run_command(self, *arguments: str) -> list[str]:
        loose = ["--cgroups=disabled", "--security-opt=seccomp=unconfined"]
        return ["run", "--network=nl", *loose, *arguments]

    def popen(self, *command: str) -> subprocess.Popen[str]:
        return subprocess.Popen([*self._enter, *command], stdout=subprocess.PIPE, text=True)

    def close(self) -> None:
        self.inside(*self.command("rm", "--all", "--force", "--time=0"))
        self.holder.communicate(timeout=60)  # its stdin ends, so it does, and all in there with it
        shutil.rmtree(self.folder, ignore_errors=True)

    def _configure(self) -> None:
        (self.folder / "net").mkdir(parents=True)
        build.install(self.folder / "bin" / PLUGIN)
        settings = CONFIGURATION.format(folder=self.folder)
        (self.folder / "containers.conf").write_text(settings)
        # conmon, which cleans up after a container, passes no NETLOOM_SOCKET on: it stands here.
        ours = {
            "type": PLUGIN,
            "agentSocket": str(self.host.home.socket),
            "capabilities": CAPABILITIES,
        }
        conflist = {"cniVersion": "1.0.0", "name": "nl", "plugins": [ours, {"type": "tuning"}]}
        (self.folder / "net" / "10-nl.conflist").write_text(json.dumps(conflist))

    def import_image(self) -> None:
        """Make an image of a few of the machine's own programs and their libraries."""
        tree = self.folder / "image"
        for program in PROGRAMS:
            needed = subprocess.run(["ldd", program], capture_output=True, text=True, check=True)
            paths = [word for word in needed.stdout.split() if word.startswith("/")]
            for path in (program, *paths):
                target = tree / path.lstrip("/")
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, target)
        archive = shutil.make_archive(str(tree), "tar", tree)
        self("import", archive, "nl:1")


@pytest.fixture(scope="module")
def podman(lab_names: Iterator[str]) -> Iterator[Podman]:
    document = default_document(hosts=1)
    # Podman refuses a runroot of more than 50 characters: pytest's own folders are too deep.
    with (
        Lab.up(document, name=next(lab_names), owner=myself()) as lab,
        tempfile.TemporaryDirectory(prefix="nl-podman-", ignore_cleanup_errors=True) as folder,
    ):
        found = Podman(lab, Path(folder))
        try:
            found.import_image()
            yield found
        finally:
            found.close()


@pytest.fixture(autouse=True)
def _nothing_is_left(podman: Podman) -> Iterator[None]:
    yield
    podman("rm", "--all", "--force", "--time=0")
    wait_until(lambda: endpoints(podman) == 0, deadline_s=120, what="the last DEL")
    wait_until(
        lambda: " veth" not in podman.host.exec(["ip", "link"]),
        deadline_s=120,
        what="its link's end",
    )


def endpoints(podman: Podman) -> int:
    return int(podman.host.status()["endpoints"])


def inspect(podman: Podman, name: str) -> Any:
    return json.loads(podman("inspect", name))[0]


def test_podman_takes_our_list_for_a_network(podman: Podman) -> None:
    assert "nl" in podman("network", "ls", "--format", "{{.Name}}").split()


def test_a_container_has_an_address_of_ours_and_gives_it_back(podman: Podman) -> None:
    shown = podman.run("--rm", "nl:1", "/sbin/ip", "-4", "-o", "address", "show", "dev", "eth0")
    assert "inet 10.244.0." in shown
    wait_until(lambda: endpoints(podman) == 0, deadline_s=120, what="the DEL of --rm")


def test_a_container_that_runs_is_reached_at_the_address_that_podman_shows(
    podman: Podman,
) -> None:
    podman.run("--detach", "--name=one", "nl:1", "/usr/bin/sleep", "600")
    network = inspect(podman, "one")["NetworkSettings"]["Networks"]["nl"]
    assert network["Gateway"] == "10.244.0.1"
    assert podman.host.pings(network["IPAddress"])
    assert endpoints(podman) == 1


def test_address_and_mac_that_the_user_asks_for_are_given(podman: Podman) -> None:
    wishes = ["--ip=10.244.0.99", "--mac-address=02:aa:00:00:00:99"]
    podman.run("--detach", "--name=two", *wishes, "nl:1", "/usr/bin/sleep", "600")
    network = inspect(podman, "two")["NetworkSettings"]["Networks"]["nl"]
    assert (network["IPAddress"], network["MacAddress"]) == ("10.244.0.99", "02:aa:00:00:00:99")
    taken = podman.run_command("--name=three", "--ip=10.244.0.99", "nl:1", "/usr/bin/sleep", "1")
    done = podman.inside(*podman.command(*taken))
    assert done.returncode != 0
    assert "10.244.0.99" in done.stderr


def test_a_published_port_leads_into_the_container(podman: Podman) -> None:
    podman.run("--detach", "--name=four", "-p", "8085:85", "nl:1", "/usr/bin/sleep", "600")
    pid = inspect(podman, "four")["State"]["Pid"]
    server = (
        "import socket\n"
        "s = socket.create_server(('', 85)); print('up', flush=True)\n"
        "c, _ = s.accept(); c.sendall(b'here'); c.close()"
    )
    client = (
        "import socket\n"
        "print(socket.create_connection(('192.168.31.62', 8085), 60).recv(9).decode())"
    )
    process = podman.popen("nsenter", "-t", str(pid), "--net", "python3", "-c", server)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        assert podman.lab.node("gw").exec(["python3", "-c", client]).strip() == "here"
    finally:
        process.kill()
        process.communicate()


def test_a_container_that_is_killed_gives_its_address_back(podman: Podman) -> None:
    podman.run("--detach", "--name=five", "nl:1", "/usr/bin/sleep", "600")
    assert endpoints(podman) == 1
    podman("kill", "five")
    wait_until(lambda: endpoints(podman) == 0, deadline_s=120, what="the DEL after the kill")
