"""Refusals of kernels that we have not got here: what the user reads."""

from __future__ import annotations

import errno
import ipaddress

import pytest

from netloom.kernel.netlink import Ack
from netloom.kernel.refusals import is_absent, refusal
from netloom.model.errors import KernelRejected, NotPermitted
from netloom.model.kernel import Address, Link, Neighbour, Route, Vxlan
from netloom.reconcile.contracts import Change, Verb

HOST = ipaddress.ip_address("192.168.31.62")
VXLAN = Link("flannel.1", "vxlan", mtu_bytes=1450, vxlan=Vxlan(1, 8472, "ens33", HOST))
ROUTE = Route(ipaddress.ip_network("10.244.2.0/24"), "ens33", HOST)
ADDRESS6 = Address("cni0", ipaddress.ip_interface("fd00::1/64"))


def refused(obj, number, text=""):
    return refusal(Change(Verb.ADD, obj), Ack(number, text))


def test_a_kernel_without_the_link_type_says_how_to_get_it():
    error = refused(VXLAN, errno.EOPNOTSUPP, "Unknown device type")
    assert isinstance(error, KernelRejected)
    assert "Unknown device type" in str(error)
    assert "modprobe vxlan" in error.hint
    assert "CONFIG_VXLAN" in error.hint


@pytest.mark.parametrize("obj", [VXLAN, ROUTE, ADDRESS6])
def test_a_missing_right_is_named(obj):
    error = refused(obj, errno.EPERM)
    assert isinstance(error, NotPermitted)
    assert "CAP_NET_ADMIN" in error.hint


def test_ipv6_turned_off_is_suspected_where_ipv6_is_refused():
    error = refused(ADDRESS6, errno.EOPNOTSUPP)
    assert "disable_ipv6" in error.hint


@pytest.mark.parametrize("number", [errno.ENOBUFS, errno.ENOMEM])
def test_a_kernel_short_of_memory_is_tried_again(number):
    assert "tried again" in refused(ROUTE, number).hint


@pytest.mark.parametrize(
    ("obj", "number"),
    [
        (ROUTE, errno.ESRCH),
        (ADDRESS6, errno.EADDRNOTAVAIL),
        (Neighbour("ens33", HOST, "02:00:00:00:00:01"), errno.ENOENT),
        (VXLAN, errno.ENODEV),
    ],
)
def test_what_is_absent_is_absent_for_a_delete_alone(obj, number):
    assert is_absent(Change(Verb.DELETE, obj), Ack(number))
    assert not is_absent(Change(Verb.ADD, obj), Ack(number))
    assert not is_absent(Change(Verb.DELETE, obj), Ack(errno.EBUSY))
