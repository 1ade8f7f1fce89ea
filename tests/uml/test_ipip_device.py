"""The device of module ipip: taken as it comes, kept true, given back; never another's."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterator

import pytest
from tests.conftest import Netns

from netloom.kernel import preflight
from netloom.kernel.devices import Devices
from netloom.kernel.rtnetlink import RtKernel
from netloom.model.errors import Conflict
from netloom.model.kernel import BIRD_PROTOCOL, Address, Ipip, KernelObject, Link, Route, state_of
from netloom.reconcile.contracts import Change, Verb
from netloom.reconcile.delta import Plan, delta, matches

TUNNEL = Link("tunl0", "ipip", alias="netloom:blue", mtu_bytes=1480, ipip=Ipip())
ADDRESS = Address("tunl0", ipaddress.ip_interface("10.244.5.192/32"))
ROUTE = Route(
    ipaddress.ip_network("10.244.7.64/26"),
    "tunl0",
    ipaddress.ip_address("192.168.31.63"),
    onlink=True,
    protocol=BIRD_PROTOCOL,
)
WANTED = state_of(TUNNEL, ADDRESS, ROUTE)
Settle = Callable[..., Plan]


@pytest.fixture
def host(netns: Netns) -> Netns:
    """Return a host whose underlay is 192.168.31.62/24 on ens33."""
    netns.sh("ip link add ens33 up type dummy")
    netns.sh("ip address add 192.168.31.62/24 dev ens33")
    return netns


@pytest.fixture
def kernel(host: Netns) -> Iterator[RtKernel]:
    kernel = RtKernel(host.path)
    yield kernel
    kernel.close()


@pytest.fixture
def settle(kernel: RtKernel) -> Settle:
    """Return a function that makes the kernel hold a state, and returns the plan thereafter."""

    def plan(wanted: dict[str, KernelObject]) -> Plan:
        actual: dict[str, dict[str, KernelObject]] = {}
        for obj in kernel.read({"link", "address", "route"}):
            actual.setdefault(obj.kind_name, {})[obj.key] = obj
        return delta(wanted, actual)

    def settle(*objects: KernelObject) -> Plan:
        wanted = state_of(*objects)
        outcomes = kernel.apply(plan(wanted).changes)
        assert [outcome.error for outcome in outcomes if outcome.error] == []
        return plan(wanted)

    return settle


def tunl0(host: Netns) -> dict[str, object]:
    (link,) = host.json("ip", "-d", "-j", "address", "show", "dev", "tunl0")
    return dict(link)


def as_it_comes(host: Netns) -> bool:
    link = tunl0(host)
    return "UP" not in link["flags"] and "ifalias" not in link and not link["addr_info"]


def test_to_ask_for_the_device_has_the_kernel_load_its_module_and_makes_it_ours(
    host: Netns, settle: Settle
) -> None:
    """The first test of the module: there is no tunl0 anywhere before.

    To find out whether there could be one loads nothing; where no list of modules is at hand,
    nothing is said.
    """
    assert "ipip" not in host.call(Devices())
    assert "tunl0" not in host.sh("ip link")
    assert not settle(*WANTED.values())
    assert host.call(Devices())["ipip"] is True
    link = tunl0(host)
    assert (link["ifalias"], link["mtu"]) == ("netloom:blue", 1480)
    assert "UP" in link["flags"]
    assert [address["local"] for address in link["addr_info"]] == ["10.244.5.192"]
    route = "10.244.7.64/26 via 192.168.31.63 dev tunl0 proto bird onlink"
    assert route in host.sh("ip route").replace(" \n", "\n")


def test_the_one_that_stands_in_every_namespace_is_taken(host: Netns, settle: Settle) -> None:
    host.sh("modprobe -d /run/modules ipip")
    assert as_it_comes(host)
    assert not settle(*WANTED.values())


def test_what_is_no_longer_wanted_is_given_back_and_not_deleted_for_ever(
    host: Netns, settle: Settle
) -> None:
    settle(*WANTED.values())
    assert not settle()
    assert as_it_comes(host)
    assert "tunl0" not in host.sh("ip route")
    assert not settle(*WANTED.values())  # and taken again


def test_a_deletion_by_itself_gives_it_back_and_is_safe_to_repeat(
    host: Netns, kernel: RtKernel, settle: Settle
) -> None:
    settle(TUNNEL)
    for _ in range(2):
        (outcome,) = kernel.apply([Change(Verb.DELETE, TUNNEL)])
        assert outcome.error is None or isinstance(outcome.error, Conflict)
        assert as_it_comes(host)


@pytest.mark.parametrize(
    "damage",
    [
        "ip link set tunl0 down",
        "ip link set tunl0 mtu 1400",
        "ip address flush dev tunl0",
        "ip address add 10.9.9.9/32 dev tunl0",
        "ip route delete 10.244.7.64/26",
    ],
)
def test_what_another_hand_changed_is_put_right(host: Netns, settle: Settle, damage: str) -> None:
    settle(*WANTED.values())
    before = tunl0(host), host.sh("ip route")
    host.sh(damage)
    assert (tunl0(host), host.sh("ip route")) != before
    assert not settle(*WANTED.values())
    assert (tunl0(host), host.sh("ip route")) == before


def test_a_device_in_anothers_use_stays_his_and_the_plan_says_so(
    host: Netns, kernel: RtKernel, settle: Settle
) -> None:
    """Calico's own agent sets it up and gives it an address; it has no mark."""
    settle(TUNNEL)
    settle()
    for line in ("ip link set tunl0 up", "ip address add 10.7.0.1/32 dev tunl0"):
        host.sh(line)
    before = tunl0(host)
    plan = settle(*WANTED.values())
    (problem,) = plan.problems
    assert problem.subject == "link tunl0"
    assert "ip link set tunl0 down" in problem.remedy
    assert plan.waiting == set(WANTED)
    (outcome,) = kernel.apply([Change(Verb.ADD, TUNNEL)])
    assert isinstance(outcome.error, Conflict)
    assert tunl0(host) == before


def test_it_reads_back_as_it_was_wanted(host: Netns, kernel: RtKernel, settle: Settle) -> None:
    settle(TUNNEL)
    (link,) = [o for o in kernel.read({"link"}) if isinstance(o, Link) and o.name == "tunl0"]
    assert matches(TUNNEL, link)
    assert link.ipip == TUNNEL.ipip


def test_devices_with_ends_of_their_own_read_with_them_and_are_others(
    host: Netns, kernel: RtKernel, settle: Settle
) -> None:
    host.sh("ip link add far type ipip local 192.168.31.62 remote 192.168.31.63")
    settle(TUNNEL)
    (link,) = [o for o in kernel.read({"link"}) if isinstance(o, Link) and o.name == "far"]
    ends = [ipaddress.ip_address(f"192.168.31.{number}") for number in (62, 63)]
    assert link.ipip == Ipip(*ends)
    settle()
    assert "far" in host.sh("ip link")


def test_preflight_finds_the_module(host: Netns) -> None:
    assert host.call(lambda: preflight._links(["ipip", "vxlan"])) == []
