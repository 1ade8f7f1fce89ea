"""The laws of a plan: what comes first, what waits, what is left alone."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import pytest
from tests.unit.reconcile.model_kernel import ours
from tests.unit.views import block, card, endpoint, host, iface, ip, net, network, view

from netloom.core.desired import desired
from netloom.model.kernel import (
    KINDS,
    Address,
    Fdb,
    KernelObject,
    Link,
    Neighbour,
    NftTable,
    Route,
    Sysctl,
    Vxlan,
    state_of,
)
from netloom.reconcile.contracts import Change, Verb
from netloom.reconcile.delta import Plan, delta, difference, leans_on, matches

MAC = "02:00:00:00:00:01"
ENS33 = card("ens33", "192.168.31.62/24")
BRIDGE = ours(Link("cni0", "bridge", mtu_bytes=1450))
TUNNEL = ours(
    Link("flannel.1", "vxlan", mtu_bytes=1450, vxlan=Vxlan(1, 8472, "ens33", ip("192.168.31.62")))
)
ENTRY = [
    Neighbour("flannel.1", ip("10.244.2.0"), MAC),
    Fdb("flannel.1", MAC, ip("192.168.31.63")),
    Route(net("10.244.2.0/24"), "flannel.1", ip("10.244.2.0"), onlink=True),
]


def actual(*objects: KernelObject) -> dict[str, dict[str, KernelObject]]:
    by_kind: dict[str, dict[str, KernelObject]] = {kind: {} for kind in KINDS}
    for obj in objects:
        by_kind[obj.kind_name][obj.key] = obj
    return by_kind


def plan(wanted: Iterable[KernelObject], *there: KernelObject, hold: bool = False) -> Plan:
    return delta(state_of(*wanted), actual(*there), hold=hold)


def lines(changes: Iterable[Change]) -> list[str]:
    return [f"{change.verb.value} {change.obj.key}" for change in changes]


def test_nothing_to_do_is_an_empty_plan():
    assert not plan([TUNNEL, *ENTRY], *ENS33, TUNNEL, *ENTRY)
    assert plan([], *ENS33) == Plan()


def test_equal_instances_are_as_good_as_the_same():
    assert not plan([TUNNEL, *ENTRY], replace(TUNNEL, index=7), *[replace(o) for o in ENTRY])


def test_additions_come_in_the_order_in_which_things_lean_on_each_other():
    wanted = view(
        [network("blue", "10.244.0.0/16", "fd00:10::/48")],
        [host("h2", "192.168.31.63")],
        [block("10.244.1.0/24", "h1"), block("10.244.2.0/24", "h2"), block("fd00:10::/64", "h1")],
        endpoints=[endpoint("c1", "10.244.1.5", "fd00:10::5")],
    )
    shuffled = dict(reversed(desired(wanted).state.items()))
    kinds = [change.obj.kind_name for change in delta(shuffled, actual(*ENS33)).changes]
    assert kinds == sorted(kinds, key=KINDS.index)
    assert kinds[-1] == "route", "nothing is routed before what carries it stands"
    names = [c.obj.name for c in delta(shuffled, actual(*ENS33)).changes if isinstance(c.obj, Link)]
    assert names.index("cni0") < names.index("vethc1"), "a bridge before its ports"


def test_deletions_come_after_all_additions_and_the_other_way_round():
    """A route moves before its former device goes: at no time is there no way."""
    moved = Route(net("10.244.2.0/24"), "ens33", ip("192.168.31.63"))
    stray = Route(net("10.244.9.0/24"), "ens33", ip("192.168.31.64"))
    made = plan([moved, BRIDGE], *ENS33, TUNNEL, *ENTRY, stray)
    assert lines(made.changes) == [
        "add link cni0",
        "replace route 10.244.2.0/24",
        "delete route 10.244.9.0/24",
        "delete link flannel.1",
    ]


def test_what_is_on_a_link_that_goes_needs_no_deletion_of_its_own():
    assert lines(plan([], TUNNEL, *ENTRY).changes) == ["delete link flannel.1"]


def test_hold_sweeps_nothing_and_still_mends():
    made = plan([BRIDGE], TUNNEL, *ENTRY, replace(BRIDGE, mtu_bytes=1500), hold=True)
    assert lines(made.changes) == ["replace link cni0"]


def test_a_plan_says_what_differs():
    made = plan([BRIDGE], replace(BRIDGE, mtu_bytes=1500, up=False))
    assert [change.reason for change in made.changes] == ["mtu 1500 → 1450, up False → True"]
    assert difference(NftTable("a"), NftTable("b")) == "text differs"


# --- another's things


def test_anothers_link_of_our_name_is_left_alone_and_what_leans_on_it_waits():
    port = ours(Link("veth1", "veth", master="cni0"))
    wanted = [
        port,
        Neighbour("veth1", ip("10.9.0.3"), MAC),
        BRIDGE,
        Address("cni0", iface("10.244.1.1/24")),
        Sysctl("ipv6/conf/cni0/accept_ra", "0"),
        Sysctl("ipv4/ip_forward", "1"),
        TUNNEL,
    ]
    made = plan(wanted, *ENS33, Link("cni0", "bridge", up=False))
    assert lines(made.changes) == ["add link flannel.1", "add sysctl ipv4/ip_forward"]
    (problem,) = made.problems
    assert problem.subject == "link cni0"
    assert "ip link del cni0" in problem.remedy
    assert {"link cni0", "link veth1", "address 10.244.1.1/24 dev cni0"} < made.waiting


def test_anothers_route_in_our_place_is_left_alone_and_named():
    theirs = Route(net("10.244.2.0/24"), "ens33", ip("192.168.31.1"), protocol=186)
    made = plan(ENTRY, *ENS33, TUNNEL, *ENTRY[:2], theirs, hold=True)
    assert not made.changes
    (problem,) = made.problems
    assert problem.subject == "route 10.244.2.0/24"
    assert "via 192.168.31.1 dev ens33 (route protocol 186)" in problem.text
    assert made.waiting == {"route 10.244.2.0/24"}


def test_anothers_things_beside_ours_are_never_swept():
    theirs = [
        *ENS33,
        Address("ens33", iface("fe80::1/64"), kernel_made=True),
        Route(net("172.30.0.0/16"), "ens33", protocol=3),
        Route(net("10.244.1.0/24"), "cni0", protocol=2),
        Address("cni0", iface("fe80::2/64"), kernel_made=True),
        Link("docker0", "bridge"),
    ]
    assert not plan([BRIDGE], BRIDGE, *theirs)


def test_what_another_hand_put_on_our_link_is_swept():
    made = plan(
        [BRIDGE],
        BRIDGE,
        Address("cni0", iface("10.1.1.1/24")),
        Neighbour("cni0", ip("10.1.1.2"), MAC),
    )
    assert lines(made.changes) == [
        "delete neighbour 10.1.1.2 dev cni0",
        "delete address 10.1.1.1/24 dev cni0",
    ]


def test_settings_are_set_and_never_taken_back():
    there = Sysctl("ipv4/ip_forward", "0"), Sysctl("ipv4/conf/cni0/route_localnet", "1")
    made = plan([Sysctl("ipv4/ip_forward", "1")], *there)
    assert lines(made.changes) == ["replace sysctl ipv4/ip_forward"]


# --- links that are made anew


def test_what_stood_on_a_link_made_anew_is_added_again_even_if_it_is_still_there():
    other = replace(TUNNEL, vxlan=Vxlan(1, 8472, "ens33", ip("192.168.31.99")))
    assert lines(plan([other, *ENTRY], *ENS33, TUNNEL, *ENTRY).changes) == [
        "replace link flannel.1",
        "add neighbour 10.244.2.0 dev flannel.1",
        f"add fdb {MAC} dev flannel.1",
        "add route 10.244.2.0/24",
    ]


def test_a_foreign_route_is_no_less_foreign_when_a_link_is_made_anew():
    other = replace(TUNNEL, vxlan=Vxlan(1, 8472, "ens33", ip("192.168.31.99")))
    theirs = Route(net("10.244.2.0/24"), "ens33", protocol=4)
    made = plan([other, *ENTRY], *ENS33, TUNNEL, *ENTRY[:2], theirs)
    assert "add route 10.244.2.0/24" not in lines(made.changes)
    assert len(made.problems) == 1


def test_a_renamed_tunnel_goes_before_its_successor_comes():
    """One VNI and port, one device: the kernel would refuse the new one."""
    renamed = replace(TUNNEL, name="tun0")
    route = Route(net("10.244.2.0/24"), "tun0", ip("10.244.2.0"), onlink=True)
    assert lines(plan([renamed, route], *ENS33, TUNNEL, *ENTRY).changes) == [
        "delete link flannel.1",
        "add link tun0",
        "add route 10.244.2.0/24",
    ]


def test_a_tunnel_of_another_vni_comes_before_the_old_one_goes():
    other = replace(TUNNEL, name="flannel.2", vxlan=Vxlan(2, 8472, "ens33", ip("192.168.31.62")))
    assert lines(plan([other], *ENS33, TUNNEL).changes) == [
        "add link flannel.2",
        "delete link flannel.1",
    ]


# --- when a link is as it should be


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("alias", "netloom:red"),
        ("mtu_bytes", 1400),
        ("mac", "02:00:00:00:00:09"),
        ("up", False),
        ("master", "br7"),
        ("hairpin", False),
        ("kind", "dummy"),
    ],
)
def test_every_setting_of_a_link_that_we_ask_for_counts(field, value):
    want = ours(Link("x", "veth", mtu_bytes=1450, mac=MAC, up=True, master="cni0", hairpin=True))
    assert matches(want, replace(want, index=9, carrier=False, peer=None))
    assert not matches(want, replace(want, **{field: value}))


def test_what_we_do_not_ask_for_does_not_count():
    want = ours(Link("x", "veth", up=None))
    assert matches(want, replace(want, mtu_bytes=9000, mac=MAC, up=False, hairpin=True))


@pytest.mark.parametrize("change", [{"learning": True}, {"port": 1}, {"device": "ens32"}])
def test_a_vxlan_device_with_another_setting_is_another(change):
    assert TUNNEL.vxlan is not None
    assert not matches(TUNNEL, replace(TUNNEL, vxlan=replace(TUNNEL.vxlan, **change)))


@pytest.mark.parametrize(
    ("obj", "link"),
    [
        (Route(net("10.0.0.0/8"), "cni0"), "cni0"),
        (Route(net("10.0.0.0/8"), type="blackhole"), None),
        (Sysctl("ipv6/conf/cni0/accept_ra", "0"), "cni0"),
        (Sysctl("ipv6/conf/all/forwarding", "1"), None),
        (Sysctl("ipv4/ip_forward", "1"), None),
        (ours(Link("veth1", "veth", master="cni0")), "cni0"),
        (TUNNEL, "ens33"),
        (BRIDGE, None),
        (NftTable("x"), None),
    ],
)
def test_each_kind_knows_what_it_leans_on(obj, link):
    assert leans_on(obj) == link


def test_every_verb_is_used():
    """A plan speaks the whole vocabulary that the kernel understands."""
    made = plan([BRIDGE, TUNNEL], replace(BRIDGE, mtu_bytes=1), ours(Link("veth9", "veth")))
    assert {change.verb for change in made.changes} == set(Verb)
