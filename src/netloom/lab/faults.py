"""Breaking a lab on purpose, and mending it: cables, agents, the store.

Every fault is undone by its opposite, and doing one twice is well.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from netloom.lab import agents, etcd, record, wiring
from netloom.lab.agents import Home
from netloom.lab.topology import Topology
from netloom.model.errors import Conflict, InvalidConfig
from netloom.model.fields import nearest

#: What ``fault store …`` and the faults of the store are called with.
STORE = "store"


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault: what it is done to (``cable``, ``agent`` or ``store``), and what that means."""

    target: str
    meaning: str


FAULTS: Mapping[str, Fault] = {
    "cut": Fault("cable", "pull the cable: the card stays, its carrier goes"),
    "heal": Fault("cable", "plug the cable in again"),
    "kill-agent": Fault("agent", "kill -9 the agent"),
    "stop-agent": Fault("agent", "ask the agent to end, as systemd would"),
    "start-agent": Fault("agent", "start the agent and wait until it is ready"),
    "restart-agent": Fault("agent", "stop-agent, then start-agent"),
    "freeze-agent": Fault("agent", "stop the agent's process where it is: wedged, not dead"),
    "thaw-agent": Fault("agent", "let a frozen agent go on"),
    "stop-store": Fault("store", "take the store away from every agent"),
    "start-store": Fault("store", "bring the store back, with what was in it"),
}


def inflict(lab: str, topology: Topology, target: str, name: str) -> str:
    """Do fault ``name`` to ``target``: a host, a cable ``HOST:IFNAME``, a segment, or ``store``.

    Returns a remark for people, mostly "": why an agent that was started is not ready. Raises
    InvalidConfig naming the nearest fault or target.
    """
    if name not in FAULTS:
        raise InvalidConfig(
            f"there is no fault {name!r}", field="fault", value=name, hint=nearest(name, FAULTS)
        )
    kind = FAULTS[name].target
    if kind == "cable":
        _cable(lab, topology, target, up=name == "heal")
    elif kind == "agent":
        hosts = [host.name for host in topology.hosts]
        if target not in hosts:
            raise _unknown(target, hosts, "host")
        return _AGENT[name](Home(lab, target)) or ""
    elif target != STORE:
        raise InvalidConfig(
            f"{name} is done to the whole lab's store, not to {target!r}",
            field="target",
            value=target,
            hint=f"netloom lab fault {STORE} {name}",
        )
    elif name == "stop-store":
        stop_store(lab)
    else:
        start_store(lab)
    return ""


def stop_store(lab: str) -> None:
    """Move the store's directory away, with all its files at once; kill etcd's members, if any.

    A plain file takes its place: an agent that starts meanwhile must not begin a new, empty store.
    """
    if etcd.members(lab):
        etcd.kill(lab)
        return
    place = record.directory(lab) / "store"
    if place.is_dir():
        place.rename(place.with_name("store.away"))
    if not place.exists():
        os.close(os.open(place, os.O_WRONLY | os.O_CREAT, 0o600))


def start_store(lab: str) -> None:
    """Undo :func:`stop_store`."""
    if etcd.members(lab):
        etcd.start(lab)
        return
    place = record.directory(lab) / "store"
    away = place.with_name("store.away")
    if not away.exists():
        return
    if place.is_dir():
        raise Conflict(f"{place} is there, and {away} too", hint="remove the wrong one by hand")
    place.unlink(missing_ok=True)
    away.rename(place)


def _cable(lab: str, topology: Topology, target: str, *, up: bool) -> None:
    found = wiring.cables(topology, target)
    if not found:
        known = [*topology.names]
        for node in topology.nodes:
            known += [f"{node.name}:{interface.name}" for interface in node.interfaces]
        raise _unknown(target, known, "host, segment or cable")
    for segment, port in found:
        wiring.ip(wiring.namespace(lab, segment), [f"link set {port} {'up' if up else 'down'}"])


def _start(home: Home) -> str:
    agents.start(home)
    reasons = agents.why_not_ready(agents.wait_ready(home))
    return f"the agent of {home.host} runs and is not ready: {reasons}" if reasons else ""


def _restart(home: Home) -> str:
    agents.stop(home)
    return _start(home)


def _signal(number: signal.Signals) -> Callable[[Home], None]:
    def send(home: Home) -> None:
        process = home.process
        if process is None:
            raise Conflict(
                f"the agent of {home.host} does not run",
                hint=f"netloom lab fault {home.host} start-agent",
            )
        process.signal(number)

    return send


def kill_agent(home: Home) -> None:
    """End the agent with SIGKILL and return when it is gone; gone already is well."""
    agents.stop(home, signal.SIGKILL)


_AGENT: Mapping[str, Callable[[Home], str | None]] = {
    "kill-agent": kill_agent,
    "stop-agent": agents.stop,
    "start-agent": _start,
    "restart-agent": _restart,
    "freeze-agent": _signal(signal.SIGSTOP),
    "thaw-agent": _signal(signal.SIGCONT),
}


def _unknown(target: str, known: list[str], what: str) -> InvalidConfig:
    return InvalidConfig(
        f"the lab has no {what} called {target!r}",
        field="target",
        value=target,
        hint=nearest(target, known),
    )
