"""What scenes of labs on etcd share: being in step, reading keys and leases, running etcdctl."""

from __future__ import annotations

import base64
import json
import shutil
import signal
import subprocess
from collections.abc import Iterable
from pathlib import Path

from netloom.kernel import namespaces
from netloom.lab import etcd, processes, wiring
from netloom.lab.host import LabHost
from netloom.lab.lab import Lab
from netloom.lab.traffic import Pings
from netloom.lab.waiting import wait_until
from netloom.model.datastore import Entry
from netloom.model.errors import Unavailable
from netloom.model.keys import BLOCKS

PATIENCE_S = 90.0
_CTL = ("--dial-timeout=60s", "--command-timeout=60s")
_TOO_LONG = ("request timed out", "deadline exceeded", "no leader")
_DONE = ("lease not found", "has been compacted")
BLACK_HOLE = """
table inet hole {
  chain in { type filter hook input priority -300; tcp sport 2379 drop; }
  chain out { type filter hook output priority -300; tcp dport 2379 drop; }
}
"""


def state(host: LabHost) -> str:
    """Return what the agent says of its connection to the store; "" when it does not answer yet."""
    try:
        return str(host.status()["store"]["state"])
    except Unavailable:
        return ""


def said(host: LabHost) -> str:
    """Return all problems of a host's status, as one text."""
    return json.dumps(host.status()["problems"])


def in_step(lab: Lab) -> None:
    """Wait until each agent is connected, ready, and its kernel holds the newest revision."""
    for host in lab.hosts:
        wait_until(
            lambda host=host: state(host) == "connected" and host.status()["ready"],  # type: ignore[misc]
            deadline_s=PATIENCE_S,
            what=f"{host.name} to be connected and ready",
        )
    lab.settle(PATIENCE_S)
    for host in lab.hosts:
        wait_until(
            lambda host=host: not host.json(["netloom", "plan", "-o", "json"])["changes"],  # type: ignore[misc]
            deadline_s=PATIENCE_S,
            what=f"{host.name} to have nothing to do",
        )


def noticed(hosts: list[LabHost], wanted: str) -> None:
    """Wait until each agent says that its store is in state ``wanted``."""
    for host in hosts:
        wait_until(
            lambda host=host: state(host) == wanted,  # type: ignore[misc]
            deadline_s=PATIENCE_S,
            what=f"{host.name} to say that the store is {wanted}",
        )


def pings(lab: Lab) -> Pings:
    """Return a ping from container a on h1 to container b on h2, every 10 ms."""
    a, b = lab.host("h1").container("a"), lab.host("h2").container("b")
    return Pings(a, b.address, 0.01)


def entries(lab: Lab, prefix: str) -> dict[str, Entry]:
    """Return the store's entries below ``prefix``, by key, once the store answers."""
    return wait_until(
        lambda: _entries(lab, prefix), deadline_s=PATIENCE_S, what="an answer of the store"
    )[0]


def _entries(lab: Lab, prefix: str) -> tuple[dict[str, Entry]] | None:
    try:
        store = lab.store()
    except Unavailable:
        return None
    try:
        return ({entry.key: entry for entry in store.list(prefix).entries},)
    except Unavailable:
        return None
    finally:
        store.close()


def values(lab: Lab, prefix: str) -> dict[str, bytes]:
    """Return the store's values below ``prefix``, by key."""
    return {key: entry.value for key, entry in entries(lab, prefix).items()}


def owners(lab: Lab) -> dict[str, str]:
    """Return who holds which block; of an unconfirmed one nobody. Waits for the store."""
    blocks = {key: json.loads(value) for key, value in values(lab, BLOCKS).items()}
    return {key: one["host"] for key, one in blocks.items() if one["state"] == "confirmed"}


def etcdctl(lab: Lab, member: etcd.Member, *arguments: str) -> str:
    """Run etcdctl at a member's place, as an operator would: again, where etcd took too long."""
    return wait_until(
        lambda: _etcdctl(lab, member, *arguments), deadline_s=PATIENCE_S, what=" ".join(arguments)
    )[0]


def _etcdctl(lab: Lab, member: etcd.Member, *arguments: str) -> tuple[str] | None:
    netns = wiring.namespace(lab.name, member.name)
    done = subprocess.run(
        [
            "ip",
            "netns",
            "exec",
            netns,
            "etcdctl",
            *_CTL,
            "--endpoints",
            member.endpoint,
            *arguments,
        ],
        env={"ETCDCTL_API": "3", "PATH": "/usr/bin:/usr/sbin:/sbin"},
        capture_output=True,
        text=True,
        check=False,
    )
    if any(word in done.stderr for word in _TOO_LONG):
        return None
    if not any(word in done.stderr for word in _DONE):  # by an attempt of unknown outcome
        done.check_returncode()
    return (done.stdout,)


def signal_member(lab: Lab, member: etcd.Member, number: signal.Signals) -> None:
    """Send a signal to an etcd member: SIGSTOP lets it hang with all its connections open."""
    place = namespaces.identity(namespaces.path(wiring.namespace(lab.name, member.name)))
    for pid in processes.by_namespace()[place]:
        if process := processes.Process.of(pid):
            process.signal(number)


def restore(lab: Lab, snapshot: Path) -> None:
    """Put a snapshot in the place of all members' data, as after a disaster."""
    members = etcd.members(lab.name)
    etcd.kill(lab.name)
    for member in members:
        shutil.rmtree(member.data)
        etcdctl(
            lab, member, "snapshot", "restore", str(snapshot),
            "--name", member.name, "--data-dir", str(member.data),
            "--initial-cluster", etcd.initial_cluster(members),
            "--initial-cluster-token", "netloom",
            "--initial-advertise-peer-urls", member.peer_url,
        )  # fmt: skip
    etcd.start(lab.name)


def leader(lab: Lab) -> str:
    """Return the name of the member that leads, once there is one."""

    def found() -> str:
        for member in etcd.members(lab.name):
            done = etcdctl(lab, member, "endpoint", "status", "-w", "json")
            status = json.loads(done)[0]["Status"]
            if status.get("leader") == status["header"]["member_id"]:
                return member.name
        return ""

    return wait_until(found, deadline_s=PATIENCE_S, what="a leader")


def raw_leases(lab: Lab, prefix: str) -> dict[str, int]:
    """Return etcd's lease of each raw key below ``prefix``; 0 is none."""
    told = etcdctl(lab, etcd.members(lab.name)[0], "get", "--prefix", prefix, "-w", "json")
    found = json.loads(told).get("kvs", ())
    return {base64.b64decode(each["key"]).decode(): each.get("lease", 0) for each in found}


def left_s(lab: Lab, lease: int) -> int:
    """Return how many seconds etcd gives a lease from now; -1 when it has ended."""
    member = etcd.members(lab.name)[0]
    told = etcdctl(lab, member, "lease", "timetolive", f"{lease:x}", "-w", "json")
    return int(json.loads(told)["ttl"])


def renewed(lab: Lab, leases: Iterable[int], ttl_s: int) -> None:
    """Wait until each of the leases gets its whole time anew; none ever has more than ``ttl_s``."""
    waiting = {lease: left_s(lab, lease) for lease in leases}
    assert 0 not in waiting

    def all_are() -> bool:
        for lease, before in list(waiting.items()):
            now = waiting[lease] = left_s(lab, lease)
            assert 0 < now <= ttl_s
            if now > before:
                del waiting[lease]
        return not waiting

    wait_until(all_are, deadline_s=PATIENCE_S, what="the leases to be kept alive", pause_s=0.5)
