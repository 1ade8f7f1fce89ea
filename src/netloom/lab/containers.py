"""Containers of a lab: namespaces that are attached through the CNI executable, as runtimes do.

A container's record is written before its namespace is made, so that nothing is ever there that
``netloom lab list`` does not know of.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from netloom.drivers.cni.conflist import Conflist
from netloom.drivers.cni.runtime import Runtime
from netloom.kernel import namespaces
from netloom.lab import processes, record, teardown, wiring
from netloom.lab.agents import PLUGIN, Home
from netloom.lab.names import parse_container_name
from netloom.lab.processes import Process
from netloom.model.addr import IPAddress
from netloom.model.endpoint import PortMapping
from netloom.model.errors import Conflict, InvalidConfig, NetloomError
from netloom.model.fields import nearest, whole_number


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a container shall be: its networks (``eth0``, ``eth1``, …), wishes and command."""

    name: str
    networks: tuple[str, ...] = ("default",)
    addresses: tuple[IPAddress, ...] = ()
    ports: tuple[PortMapping, ...] = ()
    command: tuple[str, ...] = ()

    def capabilities(self) -> dict[str, Any]:
        """Return the CNI capability arguments."""
        wished: dict[str, Any] = {}
        if self.addresses:
            wished["ips"] = [str(address) for address in self.addresses]
        if self.ports:
            wished["portMappings"] = [port.render() for port in self.ports]
        return wished


@dataclass(frozen=True, slots=True)
class Known:
    """A container as recorded: ``results`` has the CNI result of each network's interface."""

    name: str
    networks: tuple[str, ...]
    results: Mapping[str, Any] = field(default_factory=dict)
    command: tuple[str, ...] = ()
    process: Process | None = None

    @property
    def addresses(self) -> list[str]:
        """The container's addresses with the prefix length that it sees."""
        return [ip["address"] for result in self.results.values() for ip in result.get("ips", [])]

    def render(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "name": self.name,
            "networks": list(self.networks),
            "results": dict(self.results),
            "command": list(self.command),
            "process": self.process.render() if self.process else None,
        }


def parse_port(text: str, where: str = "-p") -> PortMapping:
    """Parse ``[ADDRESS:]HOSTPORT:CONTAINERPORT[/PROTOCOL]`` as docker run does."""
    body, _, protocol = text.partition("/")
    host_ip, _, ports = body.rpartition(":")[0].rpartition(":")
    parts = {"hostPort": ports, "containerPort": body.rpartition(":")[2], "hostIP": host_ip}
    if any(whole_number(parts[key]) is None for key in ("hostPort", "containerPort")):
        raise InvalidConfig(
            f"{where}: {text!r} is not HOSTPORT:CONTAINERPORT",
            field=where,
            value=text,
            hint="e.g. -p 8080:80, or -p 5353:53/udp",
        )
    return PortMapping.parse(parts | {"protocol": protocol or "tcp"}, where)


def run(home: Home, wanted: Wanted) -> Known:
    """Make the container, attach it to its networks, start its command.

    On any error nothing of it remains. Raises Conflict when the name is taken, and what the CNI
    executable reports.
    """
    parse_container_name(wanted.name, "name")
    path = _path(home, wanted.name)
    known = Known(wanted.name, wanted.networks, command=wanted.command)
    _claim_name(home, wanted.name, path, known)
    try:
        netns = wiring.namespace(home.lab, home.host, wanted.name)
        wiring.make_namespace(netns)
        results = {}
        for index, network in enumerate(wanted.networks):
            ifname = f"eth{index}"
            results[ifname] = _runtime(home).add(
                _conflist(network),
                wanted.name,
                str(namespaces.path(netns)),
                ifname,
                wanted.capabilities() if index == 0 else {},
            )
        process = _start(home, wanted, netns) if wanted.command else None
        known = Known(wanted.name, wanted.networks, results, wanted.command, process)
        record.write_json(path, known.render())
    except BaseException:
        _undo(home, known)
        raise
    return known


def remove(home: Home, name: str) -> None:
    """Detach and remove a container. Raises InvalidConfig when there is none of that name.

    When the agent is away nothing is removed, and the call may be repeated.
    """
    known = find(home, name)
    netns = wiring.namespace(home.lab, home.host, name)
    _detach(home, known, netns)
    teardown.remove_namespace(netns)
    _path(home, name).unlink(missing_ok=True)


def find(home: Home, name: str) -> Known:
    """Return the container called ``name``. Raises InvalidConfig with the nearest name."""
    known = every(home)
    if name not in known:
        raise InvalidConfig(
            f"host {home.host} has no container called {name!r}",
            field="name",
            value=name,
            hint=nearest(name, known)
            if known
            else f"make it with `netloom lab run {home.host} {name}`",
        )
    return known[name]


def every(home: Home) -> dict[str, Known]:
    """Return the containers of a host by name."""
    found = {}
    for path in sorted((home.directory / "containers").glob("[!.]*.json")):
        data = record.read_json(path)
        if isinstance(data, dict):
            process = data.get("process")
            found[path.stem] = Known(
                path.stem,
                tuple(data.get("networks", ())),
                data.get("results", {}),
                tuple(data.get("command", ())),
                Process.parse(process) if process else None,
            )
    return found


def _claim_name(home: Home, name: str, path: Path, known: Known) -> None:
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    except FileExistsError:
        raise Conflict(
            f"host {home.host} has a container called {name}",
            hint=f"choose another name, or remove it with `netloom lab rm {home.host} {name}`",
        ) from None
    record.write_json(path, known.render())


def _undo(home: Home, known: Known) -> None:
    """Remove what stands of a container that could not be made; the first error is reported."""
    netns = wiring.namespace(home.lab, home.host, known.name)
    # The agent that failed to attach may be gone; its GC or `lab down` then clears the rest.
    with suppress(NetloomError):
        _detach(home, known, netns)
    teardown.remove_namespace(netns)
    _path(home, known.name).unlink(missing_ok=True)


def _detach(home: Home, known: Known, netns: str) -> None:
    for index, network in enumerate(known.networks):
        path = str(namespaces.path(netns))
        _runtime(home).delete(_conflist(network), known.name, path, f"eth{index}")


def _start(home: Home, wanted: Wanted, netns: str) -> Process | None:
    log = home.directory / "containers" / f"{wanted.name}.log"
    argv = ["ip", "netns", "exec", netns, *wanted.command]
    return processes.start_detached(argv, home.environment(), log)


def _runtime(home: Home) -> Runtime:
    netns = namespaces.path(wiring.namespace(home.lab, home.host))
    return Runtime(
        (home.directory / "bin", "/usr/lib/cni", "/opt/cni/bin"),
        home.directory / "cni",
        home.environment(),
        prefix=("nsenter", f"--net={netns}"),
    )


def _conflist(network: str) -> Conflist:
    capabilities: Sequence[str] = ("portMappings", "ips", "mac", "bandwidth")
    return Conflist.parse(
        {
            "cniVersion": "1.1.0",
            "name": network,
            "plugins": [
                {
                    "type": PLUGIN,
                    "network": network,
                    "capabilities": dict.fromkeys(capabilities, True),
                }
            ],
        }
    )


def _path(home: Home, name: str) -> Path:
    return home.directory / "containers" / f"{name}.json"
