"""All kinds through one door: order kept, settled after one apply, and refused without rights."""

from __future__ import annotations

import ipaddress
import os
import subprocess
import sys
import textwrap
from dataclasses import replace

import pytest

from netloom.kernel.compose import HostKernel
from netloom.model.kernel import (
    KINDS,
    Address,
    Fdb,
    Neighbour,
    Qdisc,
    Route,
    Sysctl,
    state_of,
)
from netloom.reconcile.contracts import Change, Verb
from netloom.reconcile.delta import delta

MAC = "02:aa:00:00:00:63"
GATEWAY = ipaddress.ip_address("10.244.2.0")


@pytest.fixture
def whole(host):
    """Return HostKernel inside the host, and a function that runs code there."""
    kernel = host.call(HostKernel)
    yield kernel
    kernel.close()


@pytest.fixture
def wanted(cni0, flannel1, pod_link, make_netns):
    """One of each kind that rtnetlink, sysctl and tc hold; some lean on links made with them."""
    link = pod_link(make_netns("pod"))
    return [
        cni0,
        flannel1,
        link,
        Sysctl("ipv6/conf/cni0/accept_ra", "0"),
        Sysctl("ipv4/ip_forward", "1"),
        Address("cni0", ipaddress.ip_interface("10.244.1.1/24")),
        Neighbour("flannel.1", GATEWAY, MAC),
        Fdb("flannel.1", MAC, ipaddress.ip_address("192.168.31.63")),
        Route(ipaddress.ip_network("10.244.2.0/24"), "flannel.1", GATEWAY, onlink=True),
        Qdisc(link.name, "egress", 1_000_000, 5_000),
    ]


def read(host, kernel):
    """Return what is in the kernel by kind and key, as the loop keeps it."""
    actual = {kind: {} for kind in KINDS}
    for obj in host.call(lambda: kernel.read(KINDS)):
        actual[obj.kind_name][obj.key] = obj
    return actual


def test_after_one_apply_there_is_nothing_left_to_do(host, whole, wanted):
    """What was asked for reads back as such: the second plan is empty."""
    desired = state_of(*wanted)
    whole.want_sysctls([obj.name for obj in wanted if isinstance(obj, Sysctl)])
    plan = delta(desired, read(host, whole))
    outcomes = host.call(lambda: whole.apply(plan.changes))
    assert [str(outcome.error) for outcome in outcomes if outcome.error] == []
    assert [outcome.change for outcome in outcomes] == list(plan.changes)
    assert delta(desired, read(host, whole)).changes == ()


def test_all_of_it_is_swept_when_nothing_is_wanted(host, whole, wanted):
    before = read(host, whole)
    outcomes = host.call(lambda: whole.apply([Change(Verb.ADD, obj) for obj in wanted]))
    assert [str(outcome.error) for outcome in outcomes if outcome.error] == []
    plan = delta({}, read(host, whole))
    outcomes = host.call(lambda: whole.apply(plan.changes))
    assert [str(outcome.error) for outcome in outcomes if outcome.error] == []
    after = read(host, whole)
    for kind in ("link", "address", "neighbour", "fdb", "route"):
        assert set(after[kind]) == set(before[kind])


def test_the_check_of_a_link_looks_at_its_far_end(host, whole, wanted):
    host.call(lambda: whole.apply([Change(Verb.ADD, obj) for obj in wanted]))
    link = wanted[2]
    assert whole.check(link) == []
    assert whole.check(replace(link, peer=replace(link.peer, mtu_bytes=1300))) != []
    assert whole.check(wanted[0]) == []


def test_without_rights_each_change_says_what_is_lacking(host):
    """As nobody: reading works, writing names the capability; nothing is changed."""
    script = textwrap.dedent(
        """
        import ipaddress, os
        from netloom.kernel.rtnetlink import RtKernel
        from netloom.model.kernel import Address, Link, Route
        from netloom.reconcile.contracts import Change, Verb
        os.setgroups([]); os.setgid(65534); os.setuid(65534)
        kernel = RtKernel()
        assert any(link.name == "ens33" for link in kernel.read(["link"]))
        for obj in (
            Link("br9", "bridge", alias="netloom:blue"),
            Address("ens33", ipaddress.ip_interface("10.0.0.1/24")),
            Route(ipaddress.ip_network("10.9.0.0/16"), "ens33"),
        ):
            (outcome,) = kernel.apply([Change(Verb.ADD, obj)])
            print(type(outcome.error).__name__, outcome.error.hint)
        """
    )
    done = subprocess.run(
        ["nsenter", f"--net={host.path}", sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"},
    )
    lines = done.stdout.splitlines()
    assert len(lines) == 3, done.stderr
    assert all(line.startswith("NotPermitted") and "CAP_NET_ADMIN" in line for line in lines)
