"""Netloom as a CNI plugin with a real agent and kernel, alone and in chains with Debian's."""

from __future__ import annotations

import concurrent.futures
import contextlib
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from netloom.drivers.cni import codes
from netloom.drivers.cni.conflist import Conflist
from netloom.drivers.cni.runtime import PluginFailed
from netloom.kernel import namespaces
from netloom.lab import agents
from netloom.lab.lab import Lab
from netloom.lab.processes import myself
from netloom.lab.waiting import wait_until

from .cni_world import DEBIAN, OURS, Box, World, chain, document, python_front

pytestmark = pytest.mark.skipif(
    not (DEBIAN / "portmap").exists(), reason="needs Debian's containernetworking-plugins"
)
MakeBox = Callable[[], Box]


@pytest.fixture(scope="module")
def lab(lab_names: Iterator[str]) -> Iterator[Lab]:
    with Lab.up(document(), name=next(lab_names), owner=myself()) as up:
        yield up


@pytest.fixture
def world(lab: Lab, tmp_path: Path) -> Iterator[World]:
    found = World(lab, lab.host("h1"), tmp_path / "cache")
    if found.host.agent is None:
        found.host.start_agent()
    yield found
    if found.host.agent is None:
        found.host.start_agent()
    found.clear()
    assert found.endpoints() == 0


@pytest.fixture
def make_box(world: World, run_id: str) -> Iterator[MakeBox]:
    made: list[Box] = []

    def make() -> Box:
        made.append(world.box(run_id))
        return made[-1]

    yield make
    world.clear()
    for box in made:
        namespaces.delete(Path(box.netns).name)


@pytest.fixture
def box(make_box: MakeBox) -> Box:
    return make_box()


def inside(box: Box, *command: str) -> str:
    done = subprocess.run(
        ["nsenter", f"--net={box.netns}", *command], capture_output=True, text=True, check=False
    )
    return done.stdout + done.stderr


def refused(world: World, action: Callable[[], object]) -> PluginFailed:
    with pytest.raises(PluginFailed) as failure:
        action()
    return failure.value


@pytest.mark.parametrize("version", ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"])
@pytest.mark.parametrize("network", ["default", "blue"])
def test_a_whole_life_in_every_version(world: World, box: Box, version: str, network: str) -> None:
    conflist = chain(OURS | {"network": network}, version=version)
    result = world.add(conflist, box)
    assert result["cniVersion"] == version
    told = sorted(ip["address"].partition("/")[0] for ip in result["ips"])
    assert sorted(box.addresses()) == told
    assert world.host.pings(told[0])
    if version >= "0.4.0":
        world.runtime().check(conflist, box.id, box.netns)
    if version >= "1.1.0":
        world.runtime().status(conflist)
    world.runtime().delete(conflist, box.id, box.netns)
    assert box.addresses() == []
    world.runtime().delete(conflist, box.id, box.netns)


def test_what_add_answers_is_what_stands(world: World, box: Box) -> None:
    result = world.add(chain(version="1.1.0"), box)
    bridge, port, eth0 = result["interfaces"]
    links = {link["ifname"]: link for link in world.host.json(["ip", "-d", "-j", "link"])}
    for told in (bridge, port):
        assert links[told["name"]]["address"] == told["mac"]
        assert links[told["name"]]["mtu"] == told["mtu"]
    assert links[port["name"]]["master"] == bridge["name"]
    shown = inside(box, "ip", "link", "show", "eth0")
    assert f"mtu {eth0['mtu']}" in shown
    assert eth0["mac"] in shown
    assert eth0["sandbox"] == box.netns
    routes = inside(box, "ip", "route")
    for route in result["routes"]:
        destination = route["dst"].replace("0.0.0.0/0", "default")
        assert f"{destination} via {route['gw']}" in routes


def test_debians_tuning_and_portmap_follow_us_in_a_chain(world: World, box: Box) -> None:
    """A client at the router gets through to the container by the port that portmap published.

    CHECK leaves portmap out: Debian's looks for IPv6 rules that an IPv4 container does not have.
    """
    publish = {"portMappings": [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}]}
    ours = {"type": OURS["type"]}
    tuning = {"type": "tuning", "sysctl": {"net.ipv4.conf.eth0.log_martians": "1"}}
    conflist = chain(
        ours,
        tuning,
        {"type": "portmap", "capabilities": {"portMappings": True}, "snat": True},
    )
    result = world.add(conflist, box, capability_args=publish)
    assert [item["name"] for item in result["interfaces"]][-1] == "eth0"
    assert inside(box, "cat", "/proc/sys/net/ipv4/conf/eth0/log_martians").strip() == "1"
    assert ask(world, box, 80, "192.168.31.62", 8080) == "here"
    world.runtime().check(chain(ours, tuning), box.id, box.netns)
    world.runtime().delete(conflist, box.id, box.netns)
    assert "8080" not in world.host.exec(["iptables-save", "-t", "nat"])


def test_flannels_own_conflist_works_with_our_executable_called_flannel(
    world: World, box: Box
) -> None:
    """kube-flannel's list, to the letter."""
    plugins = world.host.home.directory / "bin"
    with contextlib.suppress(FileExistsError):
        (plugins / "flannel").symlink_to(plugins / agents.PLUGIN)
    publish = {"portMappings": [{"hostPort": 8081, "containerPort": 81, "protocol": "tcp"}]}
    conflist = chain(
        {"type": "flannel", "delegate": {"hairpinMode": True, "isDefaultGateway": True}},
        {"type": "portmap", "capabilities": {"portMappings": True}},
        version="0.3.1",
    )
    result = world.add(conflist, box, capability_args=publish)
    assert box.addresses() == [result["ips"][0]["address"].partition("/")[0]]
    assert "default via 10.244." in inside(box, "ip", "route")
    assert ask(world, box, 81, "192.168.31.62", 8081) == "here"
    world.runtime().delete(conflist, box.id, box.netns)
    assert box.addresses() == []


def ask(world: World, box: Box, listen: int, address: str, port: int) -> str:
    """Let the container answer one caller from the router's side; return what the caller got."""
    server = (
        "import socket\n"
        f"s = socket.create_server(('', {listen})); print('up', flush=True)\n"
        "c, _ = s.accept(); c.sendall(b'here'); c.close()"
    )
    client = (
        "import socket\n"
        f"print(socket.create_connection(('{address}', {port}), 60).recv(9).decode())"
    )
    process = subprocess.Popen(
        ["nsenter", f"--net={box.netns}", "python3", "-c", server], stdout=subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n"
        return world.lab.node("gw").exec(["python3", "-c", client]).strip()
    finally:
        process.kill()
        process.communicate()


def test_ports_addresses_mac_and_limits_are_as_the_runtime_wished(world: World, box: Box) -> None:
    wishes = {
        "ips": ["10.244.0.77/24"],
        "mac": "02:aa:00:00:00:77",
        "portMappings": [{"hostPort": 8081, "containerPort": 81, "protocol": "tcp"}],
        "bandwidth": {"ingressRate": 10_000_000, "ingressBurst": 1_000_000},
    }
    conflist = chain(version="1.1.0")
    result = world.add(conflist, box, capability_args=wishes)
    assert result["ips"][0]["address"].startswith("10.244.0.77/")
    assert box.addresses() == ["10.244.0.77"]
    assert "02:aa:00:00:00:77" in inside(box, "ip", "link", "show", "eth0")
    port = result["interfaces"][1]["name"]
    assert "10Mbit" in world.host.exec(["tc", "qdisc", "show", "dev", port])
    assert ask(world, box, 81, "192.168.31.62", 8081) == "here"
    world.runtime().check(conflist, box.id, box.netns)


def test_loopback_before_us_and_tuning_after_us_all_stay_in_the_result(
    world: World, box: Box
) -> None:
    conflist = chain({"type": "loopback"}, OURS, {"type": "tuning", "mac": "02:bb:00:00:00:01"})
    result = world.add(conflist, box)
    names = [interface["name"] for interface in result["interfaces"]]
    assert (names[0], names[-1]) == ("lo", "eth0")
    for address in result["ips"]:
        interface = result["interfaces"][address["interface"]]
        assert interface["name"] == ("lo" if "127." in address["address"] else interface["name"])
    eth0 = result["interfaces"][-1]
    assert eth0["mac"] == "02:bb:00:00:00:01"
    assert result["ips"][-1]["interface"] == len(names) - 1


def test_after_a_plugin_that_made_eth0_we_refuse_and_leave_it_alone(
    world: World, box: Box, tmp_path: Path
) -> None:
    ipam = {"type": "host-local", "subnet": "10.99.0.0/24", "dataDir": str(tmp_path / "ipam")}
    conflist = chain({"type": "ptp", "ipam": ipam}, OURS)
    before = world.host_links()
    failure = refused(world, lambda: world.add(conflist, box))
    assert failure.code == codes.CONFLICT
    assert "eth0" in failure.message
    assert box.addresses() == ["10.99.0.2"]
    world.runtime().delete(conflist, box.id, box.netns)
    assert world.host_links() == before


@pytest.mark.parametrize("network", ["default", "blue"])
def test_an_interface_that_exists_is_refused_and_nothing_of_us_remains(
    world: World, box: Box, network: str
) -> None:
    inside(box, "ip", "link", "add", "eth0", "type", "bridge")
    before = world.host_links()
    conflist = chain(OURS | {"network": network})
    failure = refused(world, lambda: world.add(conflist, box))
    assert failure.code == codes.CONFLICT, failure
    assert "eth0" in failure.message
    assert "bridge" in inside(box, "ip", "-d", "link", "show", "eth0")
    assert world.host_links() - before <= {"cni0"}
    assert world.endpoints() == 0


def test_add_twice_is_refused_and_the_first_goes_on(world: World, box: Box) -> None:
    conflist = chain()
    address = world.add(conflist, box)["ips"][0]["address"].partition("/")[0]
    failure = refused(world, lambda: world.runtime().add(conflist, box.id, box.netns))
    assert failure.code == codes.CONFLICT
    assert box.addresses() == [address]
    assert world.host.pings(address)


def test_an_address_that_is_taken_or_foreign_is_refused(world: World, make_box: MakeBox) -> None:
    conflist = chain()
    world.add(conflist, make_box(), capability_args={"ips": ["10.244.0.50"]})
    other = make_box()
    for address, code in (("10.244.0.50", codes.CONFLICT), ("203.0.113.5", codes.INVALID_CONFIG)):
        failure = refused(
            world,
            lambda address=address: world.add(conflist, other, capability_args={"ips": [address]}),
        )
        assert failure.code == code, failure
        assert address in failure.message
    assert other.addresses() == []


@pytest.mark.parametrize("kind", ["gone", "file", "pid"])
def test_a_namespace_path_that_is_none_is_refused_with_code_8(
    world: World, kind: str, tmp_path: Path
) -> None:
    path = tmp_path / "netns"
    if kind == "file":
        path.write_text("")
    target = "/proc/self/ns/mnt" if kind == "pid" else str(path)
    failure = refused(world, lambda: world.runtime().add(chain(), "c1", target))
    assert failure.code == codes.INVALID_NETNS, failure
    assert world.endpoints() == 0


def test_an_unknown_network_is_named_with_the_nearest(world: World, box: Box) -> None:
    failure = refused(world, lambda: world.add(chain(OURS | {"network": "bleu"}), box))
    assert failure.code == codes.INVALID_CONFIG
    assert "bleu" in failure.message
    assert "blue" in failure.details


@pytest.mark.parametrize("network", ["default", "blue"])
def test_del_after_the_namespace_is_gone_frees_the_address(
    world: World, make_box: MakeBox, network: str
) -> None:
    conflist = chain(OURS | {"network": network})
    first, second = make_box(), make_box()
    address = world.add(conflist, first)["ips"][0]["address"].partition("/")[0]
    namespaces.delete(Path(first.netns).name)
    world.runtime().delete(conflist, first.id, first.netns)
    world.runtime().delete(conflist, first.id, "")
    again = world.add(conflist, second, capability_args={"ips": [address]})
    assert again["ips"][0]["address"].startswith(f"{address}/")
    assert world.host.pings(address)


DAMAGE = [
    ["ip", "address", "flush", "dev", "eth0", "scope", "global"],
    ["ip", "route", "del", "default"],
    ["ip", "link", "set", "eth0", "down"],
    ["ip", "link", "set", "eth0", "mtu", "1000"],
]


@pytest.mark.parametrize("damage", DAMAGE, ids=" ".join)
@pytest.mark.parametrize("network", ["default", "blue"])
def test_check_finds_damage_inside_the_container(
    world: World, box: Box, network: str, damage: list[str]
) -> None:
    conflist = chain(OURS | {"network": network})
    world.add(conflist, box)
    world.runtime().check(conflist, box.id, box.netns)
    assert inside(box, *damage) == ""
    failure = refused(world, lambda: world.runtime().check(conflist, box.id, box.netns))
    assert failure.code == codes.CHECK_FAILED, failure


@pytest.mark.parametrize("network", ["default", "blue"])
def test_an_interface_deleted_in_the_container_is_reported_or_whole_again(
    world: World, box: Box, network: str
) -> None:
    """The host sees that link go too, so the agent may have put it right before CHECK comes."""
    conflist = chain(OURS | {"network": network})
    address = world.add(conflist, box)["ips"][0]["address"].partition("/")[0]
    assert inside(box, "ip", "link", "del", "eth0") == ""
    with contextlib.suppress(PluginFailed):
        world.runtime().check(conflist, box.id, box.netns)
        assert world.host.pings(address)
    wait_until(lambda: world.host.pings(address), deadline_s=120, what="the agent's repair")
    world.runtime().check(conflist, box.id, box.netns)


def test_check_of_what_is_not_attached_is_code_3(world: World, box: Box) -> None:
    conflist = chain()
    world.add(conflist, box)
    other = chain(OURS | {"network": "blue"})
    failure = refused(world, lambda: world.runtime().check(other, box.id, box.netns))
    assert failure.code == codes.UNKNOWN_CONTAINER


def test_a_full_pool_is_code_101_and_status_says_so_before(world: World, make_box: MakeBox) -> None:
    conflist = chain(OURS | {"network": "tiny"}, version="1.1.0")
    world.runtime().status(conflist)

    def fill() -> None:
        for _ in range(9):
            world.add(conflist, make_box())

    failure = refused(world, fill)
    assert failure.code == codes.EXHAUSTED, failure
    failure = refused(world, lambda: world.runtime().status(conflist))
    assert failure.code == codes.NOT_AVAILABLE


def test_gc_removes_the_containers_that_the_runtime_has_forgotten(
    world: World, make_box: MakeBox, tmp_path: Path
) -> None:
    """The runtime's cache is lost too: only the agent knows what there is."""
    conflist = chain(version="1.1.0")
    kept, lost = make_box(), make_box()
    for box in (kept, lost):
        world.add(conflist, box)
    world.cache = tmp_path / "fresh"
    world.runtime().gc(conflist, {(kept.id, "eth0")})
    assert lost.addresses() == []
    assert kept.addresses() != []
    assert world.endpoints() == 1


def test_gc_for_one_configuration_leaves_the_containers_of_another(
    world: World, make_box: MakeBox, tmp_path: Path
) -> None:
    podman = chain(version="1.1.0")
    kubelet = Conflist.parse({**podman.source, "name": "other"})
    mine, theirs = make_box(), make_box()
    world.add(podman, mine)
    world.add(kubelet, theirs)
    world.runtime().gc(podman, set())
    assert mine.addresses() == []
    assert theirs.addresses() != []


def test_with_the_agent_killed_calls_say_try_again_and_then_do(
    world: World, make_box: MakeBox
) -> None:
    conflist = chain(version="1.1.0")
    first, second = make_box(), make_box()
    address = world.add(conflist, first)["ips"][0]["address"].partition("/")[0]
    agents.stop(world.host.home, signal.SIGKILL)
    hasty = world.runtime(NETLOOM_CNI_PATIENCE="0")
    for action, code in (
        (lambda: hasty.add(conflist, second.id, second.netns), 11),
        (lambda: hasty.delete(conflist, first.id, first.netns), 11),
        (lambda: hasty.check(conflist, first.id, first.netns), 11),
        (lambda: hasty.status(conflist), 50),
    ):
        failure = refused(world, action)
        assert failure.code == code
        assert str(world.host.home.socket) in failure.message
    assert world.host.pings(address)
    world.host.start_agent()
    world.runtime().check(conflist, first.id, first.netns)
    world.add(conflist, second)
    world.runtime().delete(conflist, first.id, first.netns)
    assert first.addresses() == []


def test_a_call_made_while_the_agent_is_restarted_is_served_by_the_next_one(
    world: World, box: Box
) -> None:
    agents.stop(world.host.home, signal.SIGKILL)
    patient = world.runtime(NETLOOM_CNI_PATIENCE="60")
    world.added.append((chain(), box))
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        call = pool.submit(patient.add, chain(), box.id, box.netns)
        world.host.start_agent()
        result = call.result()
    assert box.addresses() == [result["ips"][0]["address"].partition("/")[0]]


def test_sixteen_callers_at_once_never_share_an_address(world: World, make_box: MakeBox) -> None:
    conflist = chain()
    boxes = [make_box() for _ in range(32)]
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        results = list(pool.map(lambda box: world.add(conflist, box), boxes))
    addresses = [result["ips"][0]["address"].partition("/")[0] for result in results]
    assert len(set(addresses)) == len(boxes)
    assert [box.addresses() for box in boxes] == [[address] for address in addresses]
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda b: world.runtime().delete(conflist, b.id, b.netns), boxes))
    assert world.endpoints() == 0
    wait_until(
        lambda: not [name for name in world.host_links() if name.startswith("veth")],
        deadline_s=120,
        what="their links' end",
    )


def test_the_python_front_serves_a_whole_life_too(world: World, box: Box, tmp_path: Path) -> None:
    world.bin_dirs = (python_front(tmp_path / "bin"), DEBIAN)
    conflist = chain()
    world.add(conflist, box)
    world.runtime().check(conflist, box.id, box.netns)
    world.runtime().delete(conflist, box.id, box.netns)
    assert box.addresses() == []


def test_a_damaged_configuration_of_a_caller_harms_nobody(world: World, box: Box) -> None:
    conflist = chain()
    address = world.add(conflist, box)["ips"][0]["address"].partition("/")[0]
    plugin: Any = {"type": OURS["type"], "ipam": {"type": "host-local"}}
    failure = refused(world, lambda: world.runtime().add(chain(plugin), "c9", box.netns))
    assert failure.code == codes.INVALID_CONFIG
    assert world.host.pings(address)
