"""A host with a real agent, and a runtime that attaches containers to it as Podman would."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from netloom.drivers.cni import build
from netloom.drivers.cni.conflist import Conflist
from netloom.drivers.cni.runtime import Runtime
from netloom.kernel import namespaces
from netloom.lab.documents import default_document
from netloom.lab.lab import Lab, LabHost

DEBIAN = Path("/usr/lib/cni")
PLUGIN = "netloom-cni"
CAPABILITIES = dict.fromkeys(("portMappings", "ips", "mac", "bandwidth"), True)
OURS: dict[str, Any] = {"type": PLUGIN, "capabilities": CAPABILITIES}

NETWORKS: list[dict[str, Any]] = [
    {"name": "default", "pools": ["10.244.0.0/16"], "attachment": "bridge", "backend": "vxlan"},
    {
        "name": "blue",
        "pools": ["10.245.0.0/16", "fd00:245::/48"],
        "attachment": "routed",
        "backend": "host-gw",
    },
    {
        "name": "tiny",
        "pools": [{"cidr": "10.246.0.0/29", "blockSize": 29}],
        "attachment": "routed",
        "backend": "host-gw",
    },
]


def document() -> dict[str, Any]:
    """Return a lab of one host with an IPv4 and an IPv6 address, and our networks."""
    found = default_document(hosts=1, network=None)
    found["segments"][0]["subnets"].append("fd31::/64")
    found["hosts"][0]["interfaces"][0].pop("address")
    found["hosts"][0]["interfaces"][0]["addresses"] = ["192.168.31.62", "fd31::62"]
    return found | {"networks": NETWORKS}


def chain(*plugins: dict[str, Any], version: str = "1.0.0", **keys: Any) -> Conflist:
    """Return a list with these plugins, ``net`` by name."""
    return Conflist.parse(
        {"cniVersion": version, "name": "net", "plugins": plugins or (OURS,), **keys}
    )


@dataclass
class Box:
    """A container: an id and a namespace."""

    id: str
    netns: str

    def addresses(self) -> list[str]:
        """Return eth0's global addresses."""
        return namespaces.in_namespace(self.netns, lambda: _addresses("eth0"))


def _addresses(ifname: str) -> list[str]:
    shown = subprocess.run(
        ["ip", "-j", "address", "show", "dev", ifname], capture_output=True, check=False
    )
    links = json.loads(shown.stdout or b"[]")
    return [a["local"] for link in links for a in link["addr_info"] if a["scope"] == "global"]


@dataclass
class World:
    """The host, its runtime and the containers that it has added."""

    lab: Lab
    host: LabHost
    cache: Path
    added: list[tuple[Conflist, Box]] = field(default_factory=list)
    numbers: Iterator[int] = field(default_factory=itertools.count)
    bin_dirs: Sequence[Path] = ()

    def runtime(self, **environment: str) -> Runtime:
        """Return a runtime that lives on the host."""
        netns = namespaces.path(self.host.namespace)
        return Runtime(
            self.bin_dirs or (self.host.home.directory / "bin", DEBIAN),
            self.cache,
            {**self.host.environment, **environment},
            prefix=("nsenter", f"--net={netns}"),
        )

    def box(self, run_id: str) -> Box:
        """Make a container's namespace; :meth:`clear` or the run's sweep removes it."""
        number = next(self.numbers)
        path = namespaces.create(f"nl-t{run_id}-cni{number}")
        return Box(f"c{number}", str(path))

    def add(self, conflist: Conflist, box: Box, **options: Any) -> dict[str, Any]:
        """Add, and remember for :meth:`clear`."""
        self.added.append((conflist, box))
        return self.runtime().add(conflist, box.id, box.netns, "eth0", **options)

    def clear(self) -> None:
        """Delete everything that was added, and its namespaces."""
        for conflist, box in reversed(self.added):
            self.runtime().delete(conflist, box.id, box.netns)
            namespaces.delete(os.path.basename(box.netns))
        self.added.clear()

    def endpoints(self) -> int:
        """Return how many endpoints the agent has."""
        return int(self.host.status()["endpoints"])

    def host_links(self) -> set[str]:
        """Return the names of the host's links."""
        return {link["ifname"] for link in self.host.json(["ip", "-j", "link"])}


def python_front(folder: Path) -> Path:
    """Return a folder in which ``netloom-cni`` is the Python front."""
    folder.mkdir()
    (folder / PLUGIN).symlink_to(build.FALLBACK)
    return folder
