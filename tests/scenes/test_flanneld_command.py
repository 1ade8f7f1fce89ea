"""Scene 5 without Docker: our agents under flannel's command line, on a flannel user's etcd.

The prefix comes from a variable, the configuration comes late, the backend is flannel's default.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from netloom.lab import etcd, processes, record
from netloom.lab.documents import default_document
from netloom.lab.host import LabHost
from netloom.lab.lab import Lab
from netloom.lab.waiting import wait_until
from netloom.model.datastore import Put, Transaction
from netloom.model.errors import Unavailable

PREFIX = "/atomic.io/network"
PATIENCE_S = 90.0
pytestmark = pytest.mark.skipif(not shutil.which("etcd"), reason="etcd-server is not installed")


@pytest.fixture(params=["udp", "vxlan"])
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def lab(lab_up: Callable[..., Lab]) -> Lab:
    document = default_document(hosts=2, network=None)
    return lab_up(document, run_agents=False, etcd_members=1)


def start(lab: Lab, host: LabHost, folder: Path, *flags: str) -> None:
    """Start ``flanneld`` on a host as its unit would."""
    endpoints = ",".join(f"http://{member.endpoint}" for member in etcd.members(lab.name))
    environment = {k: v for k, v in host.environment.items() if k != "NETLOOM_DATASTORE"} | {
        "FLANNEL_ETCD_ENDPOINTS": endpoints,
        "FLANNEL_ETCD_PREFIX": PREFIX,
    }
    netns = f"--net=/run/netns/{host.namespace}"
    file = f"-subnet-file={folder / host.name}.env"
    argv = ["nsenter", netns, sys.executable, "-m", "netloom.cli.flanneld", file, *flags]
    process = processes.start_detached(argv, environment, host.home.log)
    assert process is not None, host.home.log.read_text()
    record.write_json(host.home.directory / "agent.json", process.render())


def put(lab: Lab, key: str, value: str) -> None:
    store = lab.store()
    store.commit(Transaction([Put(f"{PREFIX}/{key}", value.encode())]))
    store.close()


def problems(host: LabHost) -> str:
    try:
        return "; ".join(problem["text"] for problem in host.status()["problems"])
    except Unavailable:
        return ""


def until(condition: Callable[[], object], what: str) -> None:
    wait_until(lambda: condition() or None, deadline_s=PATIENCE_S, what=what)


def ready(host: LabHost) -> bool:
    try:
        return bool(host.status()["ready"] and host.blocks())
    except Unavailable:  # it does not listen yet
        return False


def test_flannels_user_changes_the_program_and_nothing_else(
    lab: Lab, backend: str, tmp_path: Path
) -> None:
    for host in lab.hosts:
        start(lab, host, tmp_path, "-ip-masq", f"--iface={host.underlay}")
    # A key that is missing is named, and waited for.
    for host in lab.hosts:
        until(lambda host=host: f"{PREFIX}/config" in problems(host), "the missing key's name")  # type: ignore[misc]
    told = '"Backend": {"Type": "vxlan"}, ' if backend == "vxlan" else ""
    put(lab, "config", f'{{ {told}"Network": "172.20.0.0/16" }}')
    mtu = {"udp": 1472, "vxlan": 1450}[backend]
    for host in lab.hosts:
        until(lambda host=host: ready(host), f"{host.name} to be ready")  # type: ignore[misc]
        env = tmp_path / f"{host.name}.env"
        until(env.exists, str(env))
        (block,) = host.blocks()
        gateway = block.replace(".0/24", ".1/24")
        wanted = (
            f"FLANNEL_NETWORK=172.20.0.0/16\nFLANNEL_SUBNET={gateway}\n"
            f"FLANNEL_MTU={mtu}\nFLANNEL_IPMASQ=true\n"
        )
        until(lambda env=env, wanted=wanted: env.read_text() == wanted, wanted)  # type: ignore[misc]
        daemon = tmp_path / f"{host.name}.json"
        daemon.write_text('{"log-driver": "json-file"}')
        verb = ["netloom", "docker-opts", "-f", str(env)]
        host.exec([*verb, "--write", "--daemon-json", str(daemon)])
        assert json.loads(daemon.read_text()) == {
            "log-driver": "json-file",
            "bip": gateway,
            "mtu": mtu,
            "ip-masq": False,
        }
        assert host.exec([*verb, "-c", "-d", "-"]) == (
            f'DOCKER_OPTS=" --bip={gateway} --ip-masq=false --mtu={mtu}"\n'
        )
    store = lab.store()
    leases = store.list(f"{PREFIX}/subnets/").entries
    store.close()
    assert {json.loads(entry.value)["PublicIP"] for entry in leases} == {
        host.underlay for host in lab.hosts
    }
    assert all(entry.lease for entry in leases)
    first, second = lab.hosts
    near, far = first.run("a"), second.run("b")
    until(lambda: near.pings(far.address), "a to reach b")
    until(lambda: far.pings(near.address), "b to reach a")


def test_a_restart_keeps_block_lease_and_file(lab: Lab, tmp_path: Path) -> None:
    put(lab, "config", '{"Network": "10.244.0.0/16", "Backend": {"Type": "host-gw"}}')
    (host, _) = lab.hosts
    start(lab, host, tmp_path)
    until(lambda: ready(host), "the first run to be ready")
    (block,) = host.blocks()
    file = tmp_path / f"{host.name}.env"
    until(file.exists, str(file))
    before = file.stat().st_ino
    process = host.agent
    assert process is not None
    processes.end([process])
    start(lab, host, tmp_path)
    until(lambda: host.agent is not None and ready(host), "the second run to be ready")
    assert host.blocks() == [block]
    assert file.stat().st_ino == before
    store = lab.store()
    (lease,) = store.list(f"{PREFIX}/subnets/").entries
    assert store.keep_alive(lease.lease)
    store.close()


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("-iface=nosuch",), "'nosuch' is not an interface of this host"),
        (("-iface-regex=^nosuch$", "-iface-can-reach=8.8.8.8"), ""),
    ],
)
def test_an_interface_that_is_not_there_is_a_problem_by_name(
    lab: Lab, tmp_path: Path, flags: tuple[str, ...], words: str
) -> None:
    put(lab, "config", '{"Network": "10.244.0.0/16", "Backend": {"Type": "host-gw"}}')
    (host, _) = lab.hosts
    start(lab, host, tmp_path, *flags)
    if words:
        until(lambda: words in problems(host), words)
    else:
        until(lambda: ready(host), "the next method to find one")
        assert "by can-reach 8.8.8.8" in host.status()["underlay_reason"]
