"""flannel's own daemon on a host of a lab, and containers attached as its users attach them.

The daemon is taken from ``NETLOOM_FLANNELD``, else from the PATH; with ``NETLOOM_BUILD_FLANNELD=1``
and Go there it is built from Go's module proxy. All it does stays in the host's namespace: its one
file outside of the kernel, ``subnet.env``, is in a directory of the test's.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

from netloom.drivers.cni.conflist import Conflist
from netloom.drivers.cni.runtime import Runtime
from netloom.kernel import namespaces
from netloom.lab import etcd, processes, teardown, wiring
from netloom.lab.host import LabHost
from netloom.lab.place import Place
from netloom.lab.processes import Process
from netloom.lab.waiting import wait_until
from netloom.store.flannel.subnet_env import SubnetEnv

MODULE = "github.com/flannel-io/flannel@v0.20.2"
PLUGINS = Path("/usr/lib/cni")
PATIENCE_S = 90.0
BUILD_PATIENCE_S = 900.0


@cache
def find() -> tuple[str, str]:
    """Return the daemon's path, or "" and why there is none."""
    named = os.environ.get("NETLOOM_FLANNELD", "")
    if named and not os.access(named, os.X_OK):
        return "", f"no program at {named}"
    if named:
        ours = f"{named} is not flannel's daemon; go install {MODULE} makes it"
        return (named, "") if _is_flannels(named) else ("", ours)
    for name in ("flanneld", "flannel"):
        for folder in os.environ.get("PATH", os.defpath).split(os.pathsep):
            found = shutil.which(name, path=folder)
            if found and _is_flannels(found):
                return found, ""
    if os.environ.get("NETLOOM_BUILD_FLANNELD") == "1" and (go := shutil.which("go")):
        return _build(go)
    return "", "flannel's daemon is not here: name it in NETLOOM_FLANNELD"


def _is_flannels(path: str) -> bool:
    """Tell whether it is a program of the machine: our ``flanneld`` is a script, as stand-ins are.

    It is not run to ask it: flannel's CNI plugin may have the name ``flannel`` as well, so the text
    that only the daemon has is looked for.
    """
    with open(path, "rb") as program:
        data = program.read()
    return data.startswith(b"\x7fELF") and b"subnet-lease-renew-margin" in data


def _build(go: str) -> tuple[str, str]:
    place = Path(mkdtemp(prefix="nl-flanneld-"))
    environment = {**os.environ, "GOBIN": str(place)}
    done = subprocess.run(
        [go, "install", MODULE],
        env=environment,
        capture_output=True,
        text=True,
        timeout=BUILD_PATIENCE_S,
        check=False,
    )
    if done.returncode:
        return "", f"go install {MODULE}: {done.stderr.strip()[-300:]}"
    return str(place / "flannel"), ""


@dataclass
class Flanneld:
    """The daemon of one host; ``folder`` is for its files. A lab's end ends it too."""

    lab: str
    host: LabHost
    folder: Path
    flags: Sequence[str] = ("-ip-masq",)
    process: Process | None = None
    containers: dict[str, Place] = field(default_factory=dict)

    @property
    def log(self) -> Path:
        """What the daemon says, over all its runs."""
        return self.folder / f"{self.host.name}.log"

    @property
    def file(self) -> Path:
        """Its ``subnet.env``."""
        return self.folder / f"{self.host.name}.env"

    @property
    def env(self) -> SubnetEnv:
        """What the daemon tells container engines."""
        return SubnetEnv.parse(self.file.read_text(), str(self.file))

    @property
    def block(self) -> str:
        """The block that it has."""
        (subnet,) = self.env.subnets
        return str(subnet.network)

    def start(self) -> None:
        """Start it; return when it has a lease and has written its file."""
        before = self.file.stat().st_mtime_ns if self.file.exists() else 0
        endpoints = ",".join(f"http://{member.endpoint}" for member in etcd.members(self.lab))
        netns = namespaces.path(self.host.namespace)
        argv = [
            *("nsenter", f"--net={netns}", find()[0], f"-etcd-endpoints={endpoints}"),
            *(f"-iface={self.host.underlay}", f"-subnet-file={self.file}", *self.flags),
        ]
        self.process = processes.start_detached(argv, self.host.environment, self.log)
        wait_until(
            lambda: self._ended() or (self.file.exists() and self.file.stat().st_mtime_ns > before),
            deadline_s=PATIENCE_S,
            what=f"flanneld of {self.host.name}: {self.log}",
        )
        assert not self._ended(), self.log.read_text()

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        """End it; return when it is gone."""
        assert self.process is not None
        self.process.signal(number)
        self.wait_end()

    def wait_end(self) -> None:
        """Return when it has ended."""
        wait_until(self._ended, deadline_s=PATIENCE_S, what=f"the end of {self.host.name}'s daemon")

    def run(self, name: str) -> FlannelContainer:
        """Attach a container with Debian's plugins, as the daemon's file says."""
        netns = wiring.namespace(self.lab, self.host.name, name)
        wiring.make_namespace(netns)
        result = self._runtime().add(self._conflist(), name, str(namespaces.path(netns)))
        place = FlannelContainer(name, netns, self.host.environment)
        place.address = result["ips"][0]["address"].partition("/")[0]
        self.containers[name] = place
        return place

    def remove(self, name: str) -> None:
        """Detach a container and remove it."""
        place = self.containers.pop(name)
        netns = str(namespaces.path(place.namespace))
        self._runtime().delete(self._conflist(), name, netns)
        teardown.remove_namespace(place.namespace)

    def _ended(self) -> bool:
        return self.process is None or processes.gone(self.process)

    def _runtime(self) -> Runtime:
        return Runtime(
            [PLUGINS],
            self.folder / f"{self.host.name}-cni",
            self.host.environment,
            prefix=("nsenter", f"--net={namespaces.path(self.host.namespace)}"),
        )

    def _conflist(self) -> Conflist:
        env = self.env
        bridge = {
            "type": "bridge",
            "bridge": "cni0",
            "isGateway": True,
            "isDefaultGateway": True,
            "hairpinMode": True,
            "ipMasq": not env.ipmasq,
            "mtu": env.mtu_bytes,
            "ipam": {
                "type": "host-local",
                "dataDir": str(self.folder / f"{self.host.name}-addresses"),
                "ranges": [[{"subnet": self.block}]],
                "routes": [{"dst": str(network)} for network in env.networks],
            },
        }
        return Conflist.parse({"cniVersion": "1.0.0", "name": "cbr0", "plugins": [bridge]})


class FlannelContainer(Place):
    """A container on a host of flannel's."""

    address = ""
