"""Addresses of interfaces, of both families."""

from __future__ import annotations

import ipaddress

import pytest

from netloom.lab.waiting import wait_until
from netloom.model.errors import Conflict, KernelRejected
from netloom.model.kernel import Address
from netloom.reconcile.contracts import Verb

BOTH = pytest.mark.parametrize("text", ["10.244.1.1/24", "fd00:1::1/64"])


@pytest.fixture
def of_cni0(add, cni0):
    add(cni0)
    return lambda text: Address("cni0", ipaddress.ip_interface(text))


def shown(host, name="cni0"):
    (link,) = host.json("ip", "-j", "address", "show", name)
    return {f"{a['local']}/{a['prefixlen']}": a for a in link["addr_info"]}


@BOTH
def test_an_address_is_there_with_its_prefix_length(host, add, of_cni0, standing, text):
    address = of_cni0(text)
    add(address)
    assert text in shown(host)
    assert standing("address")[address.key] == address


def test_an_ipv6_address_is_of_use_at_once(host, add, of_cni0):
    """No duplicate detection: it would make a container wait a second."""
    add(of_cni0("fd00:1::1/64"))
    found = shown(host)["fd00:1::1/64"]
    assert "tentative" not in found
    assert found["nodad"] is True


@BOTH
def test_deleting_an_address_is_safe_to_repeat(host, add, attempt, of_cni0, text):
    address = of_cni0(text)
    add(address)
    assert attempt(Verb.DELETE, address) == [None]
    assert text not in shown(host)
    assert attempt(Verb.DELETE, address) == [None]
    host.sh("ip link delete cni0")
    assert attempt(Verb.DELETE, address) == [None]


@BOTH
def test_an_address_that_is_there_already_is_a_conflict(add, attempt, of_cni0, text):
    add(of_cni0(text))
    (error,) = attempt(Verb.ADD, of_cni0(text))
    assert isinstance(error, Conflict)
    assert text in str(error)


@BOTH
def test_an_address_is_replaced_by_itself(attempt, of_cni0, standing, text):
    address = of_cni0(text)
    assert attempt(Verb.REPLACE, address) == [None]
    assert attempt(Verb.REPLACE, address) == [None]
    assert address.key in standing("address")


def test_link_local_addresses_of_the_kernel_read_as_such(host, add, of_cni0, standing):
    mine = of_cni0("fe80::1/64")
    add(mine)
    host.sh("ip link add br9 type bridge")
    host.sh("ip link set br9 up")
    host.sh("ip link add p9 type veth peer name q9")
    host.sh("ip link set p9 master br9 up")
    host.sh("ip link set q9 up")

    def made() -> set[tuple[str, bool]]:
        found = [a for a in standing("address").values() if a.interface.ip.is_link_local]
        return {(a.link, a.kernel_made) for a in found}

    # The kernel makes it once the link has its carrier, which it notices by and by.
    wait_until(lambda: "q9" in dict(made()), deadline_s=60, what="the kernel's own address")
    assert ("q9", True) in made()
    assert standing("address")[mine.key].kernel_made is False


def test_addresses_with_a_lifetime_read_as_not_permanent(host, standing):
    host.sh("ip address add 10.5.5.5/24 dev ens33 valid_lft 600 preferred_lft 600")
    addresses = standing("address")
    assert addresses["address 10.5.5.5/24 dev ens33"].permanent is False
    assert addresses["address 192.168.31.62/24 dev ens33"].permanent is True


def test_an_address_on_a_link_that_is_not_there_names_the_link(attempt):
    (error,) = attempt(Verb.ADD, Address("cni9", ipaddress.ip_interface("10.0.0.1/24")))
    assert isinstance(error, KernelRejected)
    assert "there is no link cni9" in str(error)
    assert "cni9" in error.hint
