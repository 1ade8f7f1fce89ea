"""A real Docker engine on a host of a lab: it sees that host's network, and no other.

The engine has mounts, a ``/run``, an ``/etc/docker`` and process ids of its own. dockerd is the
first process of its tree, so that whoever kills it, however, ends its containers with it; their
control groups are below one that is called like the host's namespace. Nothing is kept elsewhere.
"""

from __future__ import annotations

import io
import os
import shutil
import signal
import subprocess
import tarfile
from contextlib import suppress
from pathlib import Path

from netloom.kernel import namespaces
from netloom.lab import processes, record, wiring
from netloom.lab.agents import Home
from netloom.lab.names import parse_namespace
from netloom.lab.processes import Process
from netloom.lab.waiting import wait_until
from netloom.model.errors import InvalidConfig, Unavailable

#: What the image that every engine has at hand is called.
IMAGE = "busybox"
START_PATIENCE_S = 120.0
#: Docker gives a container ten seconds to end.
STOP_PATIENCE_S = 120.0
CGROUP_PATIENCE_S = 60.0
_CGROUPS = Path("/sys/fs/cgroup")
#: The engine's directory stays in sight below the new /run. `mount -n`: the table that it would
#: write is in /run, too.
_MOUNTS = """
set -eu
home=$1; shift
mount -n -t tmpfs -o mode=755 tmpfs /mnt
case $home in /run/*)
    mkdir -p "/mnt/${home#/run/}"
    mount -n --bind "$home" "/mnt/${home#/run/}" ;;
esac
mount -n --move /mnt /run
mkdir -p /run/docker/plugins
mount -n -t tmpfs tmpfs /etc/docker
exec "$@"
"""


def start(home: Home) -> None:
    """Start the host's engine, anew when it runs; return when it serves.

    A restart ends its containers, as Docker's own does. Raises InvalidConfig when Docker is not
    installed, Unavailable with the engine's last words.
    """
    for program in ("dockerd", "docker"):
        if not shutil.which(program):
            raise InvalidConfig(
                f"the command {program!r} is not installed",
                hint="apt-get install docker.io, after `systemctl mask docker docker.socket`: a "
                "lab needs no service, and Docker's has the machine drop what it forwards",
            )
    if not Path("/etc/docker").is_dir():
        raise InvalidConfig("there is no directory /etc/docker", hint="mkdir /etc/docker")
    stop(home)
    home.docker.mkdir(mode=0o700, exist_ok=True)
    if not home.daemon_json.exists():
        home.daemon_json.write_text("{}\n", "utf-8")
    netns = wiring.namespace(home.lab, home.host)
    argv = [
        *("nsenter", f"--net={namespaces.path(netns)}"),
        *("unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"),
        *("--propagation", "private", "sh", "-c", _MOUNTS, "sh", str(home.docker)),
        *("dockerd", f"--config-file={home.daemon_json}", f"--data-root={home.docker / 'data'}"),
        *("--exec-root=/run/docker", "-p", "/run/docker.pid", "-H", home.docker_host),
        *(f"--cgroup-parent=/{netns}", "--exec-opt", "native.cgroupdriver=cgroupfs"),
    ]
    process = processes.start_detached(argv, home.environment(), _log(home))
    if process is None:
        raise _ended(home)
    record.write_json(home.docker / "engine.json", process.render())
    wait_until(lambda: _serves(home), deadline_s=START_PATIENCE_S, what=f"dockerd of {home.host}")
    _import_image(home)


def stop(home: Home) -> None:
    """End the host's engine as its service would; return when it is gone. Gone already is well."""
    outer = _process(home)
    if outer is None:
        return
    with suppress(FileNotFoundError, ProcessLookupError):  # it has just ended by itself
        children = Path(f"/proc/{outer.pid}/task/{outer.pid}/children").read_text("utf-8")
        for pid in children.split():  # the one that dockerd is
            if daemon := Process.of(int(pid)):
                daemon.signal(signal.SIGTERM)
    wait_until(
        lambda: processes.gone(outer), deadline_s=STOP_PATIENCE_S, what=f"the end of {outer}"
    )


def remove_cgroups(lab: str) -> None:
    """Remove the control groups that a lab's engines leave; absent is well.

    The processes in them were killed, and may take a moment to be gone: threads of a killed engine
    are there a little longer than its first one. Raises Unavailable naming what stays in use.
    """
    for path in [*_CGROUPS.glob("nl-*"), *_CGROUPS.glob("*/nl-*")]:
        name = parse_namespace(path.name)
        if name and name.lab == lab:
            wait_until(
                lambda path=path: _removed(path),  # type: ignore[misc]
                deadline_s=CGROUP_PATIENCE_S,
                what=f"the processes in {path} to be gone",
            )


def _removed(path: Path) -> bool:
    for folder, _, _ in os.walk(path, topdown=False):
        with suppress(OSError):
            os.rmdir(folder)
    return not path.exists()


def _process(home: Home) -> Process | None:
    data = record.read_json(home.docker / "engine.json")
    process = Process.parse(data) if data else None
    return process if process and process.alive else None


def _serves(home: Home) -> bool:
    if _process(home) is None:
        raise _ended(home)
    return _docker(home, "version").returncode == 0


def _import_image(home: Home) -> None:
    """Give the engine an image of busybox, where that is installed."""
    busybox = shutil.which("busybox")
    if not busybox or _docker(home, "image", "inspect", IMAGE).returncode == 0:
        return
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        tar.add(os.path.realpath(busybox), "bin/busybox")
        applets = subprocess.run(
            [busybox, "--list"], capture_output=True, encoding="utf-8", check=False
        )
        for applet in applets.stdout.split():
            if applet != "busybox":
                link = tarfile.TarInfo(f"bin/{applet}")
                link.type, link.linkname = tarfile.SYMTYPE, "busybox"
                tar.addfile(link)
    done = _docker(home, "import", "-c", 'CMD ["sh"]', "-", IMAGE, stdin=archive.getvalue())
    if done.returncode:
        raise Unavailable(f"docker import on {home.host}: {done.stderr.decode().strip()}")


def _docker(home: Home, *words: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        ["docker", *words], env=home.environment(), input=stdin, capture_output=True, check=False
    )


def _ended(home: Home) -> Unavailable:
    said = ""
    with suppress(OSError):
        said = "\n".join(_log(home).read_text("utf-8", "replace").splitlines()[-5:])
    return Unavailable(f"dockerd of {home.host} ended", hint=f"{said}\n({_log(home)})")


def _log(home: Home) -> Path:
    return home.directory / "dockerd.log"
