"""The agent's other side in memory, its real HTTP server, and both fronts to call it with."""

from __future__ import annotations

import ipaddress
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from netloom.agent.contracts import NO_LABELS
from netloom.agent.http import serve
from netloom.drivers.cni import build
from netloom.drivers.cni.server import routes
from netloom.model.addr import derived_mac
from netloom.model.attachment import Attached, AttachRequest
from netloom.model.endpoint import Endpoint
from netloom.model.errors import Conflict, Exhausted, InvalidConfig
from netloom.model.view import Problem

Key = tuple[str, str, str]


class Memory:
    """Attachments kept in a dict: one network "default", 10.244.1.0/24 and fd00:1::/64.

    ``damage`` holds what CHECK finds, ``problems`` what STATUS finds, ``broken`` what every call
    raises.
    """

    def __init__(self) -> None:
        self.requests: list[AttachRequest] = []
        self.attached: dict[Key, Attached] = {}
        self.damage: list[str] = []
        self.problems: list[Problem] = []
        self.broken: Exception | None = None
        self._lock = threading.Lock()

    def attach(self, request: AttachRequest) -> Attached:
        with self._lock:
            self._raise()
            self.requests.append(request)
            key = (request.container_id, request.ifname, request.network)
            if request.network not in ("default", "blue"):
                raise InvalidConfig(f"network: no network {request.network!r}", field="network")
            if key in self.attached:
                raise Conflict(f"{request.ifname} is attached already")
            endpoint = Endpoint(
                network=request.network,
                host_id="h1",
                container_id=request.container_id,
                ifname=request.ifname,
                netns=request.netns,
                host_ifname="veth0a1b2c3d",
                mac=request.mac or derived_mac(*key),
                addresses=(self._address(request),),
                attached=True,
                ports=request.ports,
                bandwidth=request.bandwidth,
                labels=request.labels,
            )
            self.attached[key] = self._describe(endpoint)
            return self.attached[key]

    def detach(self, container_id: str, ifname: str, network: str) -> None:
        with self._lock:
            self._raise()
            self.attached.pop((container_id, ifname, network), None)

    def find(self, container_id: str, ifname: str, network: str) -> Attached | None:
        self._raise()
        return self.attached.get((container_id, ifname, network))

    def check(self, container_id: str, ifname: str, network: str) -> list[str]:
        self._raise()
        return list(self.damage)

    def collect(
        self,
        network: str,
        keep: Collection[tuple[str, str]],
        labels: Mapping[str, str] = NO_LABELS,
    ) -> list[Endpoint]:
        with self._lock:
            self._raise()
            gone = [
                key
                for key, attached in self.attached.items()
                if key[2] == network
                and key[:2] not in keep
                and labels.items() <= attached.endpoint.labels.items()
            ]
            return [self.attached.pop(key).endpoint for key in gone]

    def readiness(self, network: str) -> list[Problem]:
        self._raise()
        return list(self.problems)

    def _raise(self) -> None:
        if self.broken is not None:
            raise self.broken

    def _address(self, request: AttachRequest) -> ipaddress.IPv4Address:
        taken = {a for attached in self.attached.values() for a in attached.endpoint.addresses}
        wanted = [a for a in request.addresses if isinstance(a, ipaddress.IPv4Address)]
        if wanted and wanted[0] in taken:
            raise Conflict(f"{wanted[0]} is taken", hint="ask for another address")
        block = ipaddress.IPv4Network("10.244.1.0/24")
        free = (a for a in list(block.hosts())[1:] if a not in taken)
        try:
            return wanted[0] if wanted else next(free)
        except StopIteration:
            raise Exhausted(f"{block} is full", hint="give the network a larger pool") from None

    def _describe(self, endpoint: Endpoint) -> Attached:
        gateway = ipaddress.IPv4Address("10.244.1.1")
        return Attached(
            endpoint=endpoint,
            mtu_bytes=1450,
            addresses=(ipaddress.IPv4Interface(f"{endpoint.addresses[0]}/24"),),
            gateways=(gateway,),
            routes=(
                (ipaddress.IPv4Network("0.0.0.0/0"), gateway),
                (ipaddress.IPv4Network("10.244.0.0/16"), gateway),
            ),
            host_mac="02:00:00:00:00:01",
            bridge="cni0",
            bridge_mac="02:00:00:00:00:02",
        )


@dataclass
class Answer:
    """What a front printed and how it ended."""

    code: int
    text: str
    log: str

    @property
    def document(self) -> Any:
        return json.loads(self.text)


@dataclass
class Caller:
    """A runtime's side: runs one front with a configuration and the CNI environment."""

    command: tuple[str, ...]
    socket: Path
    netns: str
    environment: dict[str, str] = field(default_factory=dict)

    def variables(self, command: str, **changes: str | None) -> dict[str, str]:
        env: dict[str, str | None] = {
            "PATH": os.environ["PATH"],
            "NETLOOM_SOCKET": str(self.socket),
            "NETLOOM_CNI_PATIENCE": "0",
            "CNI_COMMAND": command,
            "CNI_CONTAINERID": "c1",
            "CNI_NETNS": self.netns,
            "CNI_IFNAME": "eth0",
            "CNI_PATH": "/opt/cni/bin",
            **self.environment,
            **changes,
        }
        return {name: value for name, value in env.items() if value is not None}

    def __call__(self, command: str, config: Any = None, **changes: str | None) -> Answer:
        text = config if isinstance(config, bytes) else json.dumps(CONFIG | (config or {})).encode()
        done = subprocess.run(
            self.command,
            input=text,
            env=self.variables(command, **changes),
            capture_output=True,
            timeout=100,
            check=False,
        )
        return Answer(done.returncode, done.stdout.decode(), done.stderr.decode())


CONFIG: dict[str, Any] = {"cniVersion": "1.1.0", "name": "net", "type": "netloom"}


@pytest.fixture(scope="session")
def compiled_front(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Compile the C front of this very source."""
    target = tmp_path_factory.mktemp("front") / "netloom-cni"
    reason = build.compile_front(target)
    if reason:
        pytest.skip(f"needs a C compiler: {reason}")
    return target


@pytest.fixture(params=["c", "python"])
def front(request: pytest.FixtureRequest) -> tuple[str, ...]:
    """Return the command of each front in turn."""
    if request.param == "c":
        return (str(request.getfixturevalue("compiled_front")),)
    return (sys.executable, "-I", "-S", str(build.FALLBACK))


@pytest.fixture
def memory() -> Memory:
    return Memory()


@pytest.fixture
def agent(memory: Memory, tmp_path: Path) -> Iterator[Path]:
    """Run the local API over ``memory``; return its socket."""
    path = tmp_path / "agent.sock"
    with serve(path, routes(memory)):
        yield path


@pytest.fixture
def call(front: tuple[str, ...], agent: Path, make_netns: Callable[[str], Any]) -> Caller:
    """Return a runtime with a container's namespace at hand."""
    return Caller(front, agent, make_netns("box").path)
