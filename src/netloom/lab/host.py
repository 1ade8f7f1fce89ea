"""Hosts and containers of a lab, as callers use them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from netloom.lab import agents, containers, engines, wiring
from netloom.lab.agents import Home
from netloom.lab.containers import Known, Wanted, parse_port
from netloom.lab.place import Place
from netloom.lab.processes import Process
from netloom.lab.topology import Node
from netloom.lab.waiting import wait_until
from netloom.model.addr import parse_address

SETTLE_PATIENCE_S = 60.0


class LabContainer(Place):
    """A container; ``known`` is what its host's agent gave it."""

    def __init__(self, home: Home, known: Known) -> None:
        netns = wiring.namespace(home.lab, home.host, known.name)
        super().__init__(f"{home.host}/{known.name}", netns, home.environment())
        self.known = known

    @property
    def addresses(self) -> list[str]:
        """The container's addresses without prefix length, in the agent's order."""
        return [address.partition("/")[0] for address in self.known.addresses]

    @property
    def address(self) -> str:
        """The first of its addresses."""
        return self.addresses[0]


class LabHost(Place):
    """A host, its agent and its containers."""

    def __init__(self, lab: str, node: Node, networks: Sequence[str]) -> None:
        self.home = Home(lab, node.name)
        super().__init__(node.name, wiring.namespace(lab, node.name), self.home.environment())
        self.node = node
        self._networks = tuple(networks)

    @property
    def underlay(self) -> str:
        """The host's first address on the underlay."""
        return str(self.node.interfaces[0].addresses[0].ip)

    @property
    def agent(self) -> Process | None:
        """The agent's process if it is alive."""
        return self.home.process

    def start_agent(self) -> Mapping[str, Any]:
        """Start the agent; return its status when it is ready, or has said why it is not."""
        agents.start(self.home)
        return agents.wait_ready(self.home)

    def start_docker(self) -> None:
        """Start the host's own Docker engine, anew when it runs; return when it serves."""
        engines.start(self.home)

    def status(self) -> dict[str, Any]:
        """Return the agent's status. Raises Unavailable."""
        return agents.status(self.home)

    def wait_applied(self, revision: int, patience_s: float = SETTLE_PATIENCE_S) -> None:
        """Return when the host's kernel holds the store's ``revision``. Raises Unavailable."""
        wait_until(
            lambda: self.status()["kernel"]["revision"] >= revision,
            deadline_s=patience_s,
            what=f"revision {revision} in the kernel of {self.name}",
        )

    def blocks(self) -> list[str]:
        """Return the blocks that the host's agent deals addresses from."""
        return [str(b["cidr"]) for n in self.status()["networks"] for b in n["blocks"]]

    def run(
        self,
        name: str,
        *,
        networks: Sequence[str] = (),
        ips: Sequence[str] = (),
        ports: Sequence[str] = (),
        command: Sequence[str] = (),
    ) -> LabContainer:
        """Make a container, attached through the CNI executable; ``networks`` () means the first.

        Raises Conflict, InvalidConfig, and what the executable reports.
        """
        wanted = Wanted(
            name,
            tuple(networks) or self._networks[:1] or ("default",),
            tuple(parse_address(text, "--ip") for text in ips),
            tuple(parse_port(text) for text in ports),
            tuple(command),
        )
        return LabContainer(self.home, containers.run(self.home, wanted))

    def container(self, name: str) -> LabContainer:
        """Return a container by name. Raises InvalidConfig with the nearest name."""
        return LabContainer(self.home, containers.find(self.home, name))

    def containers(self) -> list[LabContainer]:
        """Return the host's containers, sorted by name."""
        return [LabContainer(self.home, known) for known in containers.every(self.home).values()]

    def remove(self, name: str) -> None:
        """Detach and remove a container."""
        containers.remove(self.home, name)
