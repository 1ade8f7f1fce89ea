"""Calico's endpoints on a host with a real agent: names, MACs, addresses, routes, settings."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from netloom.drivers.cni.conflist import Conflist
from netloom.kernel import namespaces
from netloom.lab.lab import Lab
from netloom.lab.processes import myself
from netloom.lab.waiting import wait_until

from .cni_world import OURS, World, chain, document

MAC = "ee:ee:ee:ee:ee:ee"
GATEWAY6 = "fe80::ecee:eeff:feee:eeee"
MakePod = Callable[..., "Pod"]


@pytest.fixture(scope="module")
def lab(lab_names: Iterator[str]) -> Iterator[Lab]:
    with Lab.up(document(), name=next(lab_names), owner=myself()) as up:
        yield up


@pytest.fixture
def world(lab: Lab, tmp_path: Path) -> World:
    return World(lab, lab.host("h1"), tmp_path / "cache")


@dataclass(frozen=True)
class Pod:
    """A container: its id, its namespace and what ADD answered."""

    id: str
    netns: str
    said: dict[str, Any]

    def run(self, *argv: str) -> str:
        return namespaces_run(self.netns, argv)


def namespaces_run(netns: str, argv: tuple[str, ...]) -> str:
    command = ["ip", "netns", "exec", Path(netns).name, *argv]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.fixture
def make_pod(world: World, run_id: str) -> Iterator[MakePod]:
    made: list[tuple[Pod, Conflist, str]] = []

    def make(
        ifname: str = "cali0",
        before: Callable[[str], None] = lambda _: None,
        network: str = "blue",
        **wishes: Any,
    ) -> Pod:
        box = world.box(run_id)
        before(box.netns)
        wanted = chain({**OURS, "network": network}, version="1.1.0")
        said = world.runtime().add(wanted, box.id, box.netns, ifname, wishes)
        made.append((Pod(box.id, box.netns, said), wanted, ifname))
        return made[-1][0]

    yield make
    for pod, wanted, ifname in made:
        world.runtime().delete(wanted, pod.id, pod.netns, ifname)
        namespaces.delete(Path(pod.netns).name)


def lines(text: str) -> list[str]:
    return [" ".join(line.split()) for line in text.splitlines()]


def host_end(world: World) -> dict[str, Any]:
    """Return the only ``cali…`` link of the host."""
    (link,) = [
        link
        for link in world.host.json(["ip", "-d", "-j", "address"])
        if link["ifname"].startswith("cali")
    ]
    return dict(link)


def test_inside_there_is_what_calicos_users_know(world: World, make_pod: MakePod) -> None:
    """Scene 1, step 6, with the name that the runtime asks for, and the same in IPv6."""
    pod = make_pod("cali0")
    v4, v6 = (entry["address"] for entry in pod.said["ips"])
    assert v4.endswith("/32")
    assert v6.endswith("/128")
    assert lines(pod.run("ip", "-4", "route")) == [
        "default via 169.254.1.1 dev cali0",
        "169.254.1.1 dev cali0 scope link",
    ]
    wanted = [
        f"{v6.partition('/')[0]} dev cali0 proto kernel",
        "fe80::/64 dev cali0 proto kernel",
        f"default via {GATEWAY6} dev cali0",
    ]
    wait_until(
        lambda: (
            [line.partition(" metric")[0] for line in lines(pod.run("ip", "-6", "route"))] == wanted
        ),
        deadline_s=120,
        what="the kernel's own route",
    )
    assert lines(pod.run("ip", "neigh", "show", "nud", "permanent")) == [
        f"169.254.1.1 dev cali0 lladdr {MAC} PERMANENT",
        f"{GATEWAY6} dev cali0 lladdr {MAC} PERMANENT",
    ]
    shown = pod.run("ip", "-o", "address", "show", "dev", "cali0", "scope", "global")
    assert re.findall(r"inet6? (\S+)", shown) == [v4, v6]
    assert "fe80::" not in pod.run("cat", "/proc/net/arp")
    assert world.host.pings(v4.partition("/")[0])
    assert world.host.pings(v6.partition("/")[0])


@pytest.mark.parametrize(("network", "wanted"), [("blue", ""), ("tiny", MAC)])
def test_inside_there_is_the_mac_that_was_said_and_the_host_knows_it(
    world: World, make_pod: MakePod, network: str, wanted: str
) -> None:
    """Also Calico's own on both sides, where there is no IPv6: its link-local address would be two.

    (Scene 1, step 6.)
    """
    pod = make_pod(network=network, **({"mac": wanted} if wanted else {}))
    (said,) = [each["mac"] for each in pod.said["interfaces"] if each["name"] == "cali0"]
    assert said == (wanted or said)
    assert pod.run("cat", "/sys/class/net/cali0/address").strip() == said
    assert not int(said[:2], 16) & 1
    known = world.host.json(["ip", "-j", "neigh", "show", "dev", host_end(world)["ifname"]])
    kept = {each["dst"]: each["lladdr"] for each in known if "PERMANENT" in each["state"]}
    addresses = [each["address"].partition("/")[0] for each in pod.said["ips"]]
    assert kept == dict.fromkeys(addresses, said)
    for address in addresses:
        assert world.host.pings(address)


def test_on_the_host_there_is_a_cali_link_without_an_address_and_a_route_to_it(
    world: World, make_pod: MakePod
) -> None:
    """Scene 1, steps 5 and 7; udev leaves a MAC alone that was given when the link was made."""
    assert "cali" not in world.host.exec(["ip", "link"])
    pod = make_pod()
    wait_until(lambda: host_end(world)["addr_info"], deadline_s=120, what="the kernel's address")
    link = host_end(world)
    name = link["ifname"]
    assert re.fullmatch(r"cali[0-9a-f]{11}", name)
    assert link["address"] == MAC
    assert world.host.exec(["cat", f"/sys/class/net/{name}/addr_assign_type"]).strip() == "3"
    assert [a["scope"] for a in link["addr_info"]] == ["link"]
    v4, v6 = (entry["address"].partition("/")[0] for entry in pod.said["ips"])
    for family, address in (("-4", v4), ("-6", v6)):
        (route,) = world.host.json(["ip", "-N", family, "-j", "route", "show", address])
        assert (route["dev"], route.get("gateway"), route["protocol"]) == (name, None, "78")


def test_another_mac_as_udev_may_give_is_put_back_and_nothing_is_cut_off(
    world: World, make_pod: MakePod
) -> None:
    """With the MAC the kernel forgets the link's neighbours, permanent ones too."""
    pod = make_pod()
    name = host_end(world)["ifname"]
    world.host.exec(["ip", "link", "set", name, "address", "12:34:56:78:9a:bc"])
    wait_until(
        lambda: host_end(world)["address"] == MAC, deadline_s=120, what="the MAC's being put back"
    )
    for entry in pod.said["ips"]:
        address = entry["address"].partition("/")[0]
        wait_until(lambda a=address: world.host.pings(a), deadline_s=120, what=f"{address} answers")


def settings(place: str, device: str) -> dict[str, str]:
    """Return all settings of a device and those that hold for the whole namespace."""
    folders = "/proc/sys/net/ipv4 /proc/sys/net/ipv6"
    found = namespaces_run(
        place,
        ("sh", "-c", f"cd /; find {folders} -type f -perm -400 | xargs grep -s -H '' || true"),
    )
    told = dict(line.partition(":")[::2] for line in found.splitlines())
    kept = {}
    for path, value in told.items():
        parts = path.removeprefix("/proc/sys/net/").split("/")
        of_device = parts[1] in ("conf", "neigh") and parts[2] not in ("all", "default")
        if not of_device:
            kept["/".join(parts)] = value
        elif parts[2] == device:
            kept["/".join((*parts[:2], "DEVICE", *parts[3:]))] = value
    return kept


#: What the kernel counts or rolls the dice for: nobody sets it.
SELF_MADE = re.compile(r"(route/(gc_|max)|tcp_(mem|fastopen_key)|udp_mem|.*/stable_secret)")


def changed(before: dict[str, str], after: dict[str, str]) -> dict[str, str]:
    return {
        name: value
        for name, value in after.items()
        if before.get(name) != value and not SELF_MADE.match(name)
    }


def test_settings_are_made_as_needed_and_no_more(
    world: World, make_pod: MakePod, run_id: str
) -> None:
    """Both ends against those of a plain veth pair: neither rp_filter nor proxy_arp nor the like.

    IPv6 in the container: on where the runtime had it off, and no address or router by itself. On
    the host: no router is learned from a container. Nothing else, nothing for ``all``.
    """
    host = str(namespaces.path(world.host.namespace))
    plain = str(namespaces.create(f"nl-t{run_id}-plain"))
    try:
        world.host.exec(["ip", "link", "add", "plain0", "type", "veth", "peer", "name", "cali0",
                         "netns", Path(plain).name])  # fmt: skip
        world.host.exec(["ip", "link", "set", "plain0", "up"])
        namespaces_run(plain, ("ip", "link", "set", "cali0", "up"))
        before = settings(host, "plain0")
        pod = make_pod("cali0")
        after = settings(host, host_end(world)["ifname"])
        for name in ("rp_filter", "proxy_arp", "forwarding", "route_localnet"):
            assert f"ipv4/conf/DEVICE/{name}" in after, "what is compared is really there"
        assert changed(before, after) == {"ipv6/conf/DEVICE/accept_ra": "0"}
        inside = changed(settings(plain, "cali0"), settings(pod.netns, "cali0"))
        assert inside == {
            "ipv6/conf/DEVICE/accept_ra": "0",
            "ipv6/conf/DEVICE/accept_dad": "0",
        }
    finally:
        world.host.exec(["ip", "link", "delete", "plain0"], check=False)
        namespaces.delete(Path(plain).name)


def test_ipv6_is_turned_on_where_the_runtime_made_a_container_without(make_pod: MakePod) -> None:
    def off(netns: str) -> None:
        namespaces_run(netns, ("sysctl", "-qw", "net.ipv6.conf.default.disable_ipv6=1"))

    pod = make_pod("cali0", off)
    assert pod.run("sysctl", "-n", "net.ipv6.conf.cali0.disable_ipv6").strip() == "0"
    assert "scope global" in pod.run("ip", "-6", "address", "show", "dev", "cali0")


def test_beside_an_interface_that_leads_out_ours_leads_to_its_pools(make_pod: MakePod) -> None:
    """Another tool's interface keeps the way out, whatever the names are; ADD tells the routes."""

    def other(netns: str) -> None:
        for line in (
            "link add dock0 up type bridge",
            "address add 192.0.2.5/24 dev dock0",
            "route add default via 192.0.2.1",
        ):
            namespaces_run(netns, ("ip", *line.split()))

    pod = make_pod("eth0", other)
    shown = lines(pod.run("ip", "-4", "route"))
    assert "default via 192.0.2.1 dev dock0" in shown
    assert "10.245.0.0/16 via 169.254.1.1 dev eth0" in shown
    assert "default via" in pod.run("ip", "-6", "route", "show", "dev", "eth0")
    assert "10.245.0.0/16" in [route["dst"] for route in pod.said["routes"]]
    assert "fd00:245::/48" not in [route["dst"] for route in pod.said["routes"]]
