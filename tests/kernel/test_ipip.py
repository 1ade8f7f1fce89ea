"""Backend ipip on a kernel that lacks the module: refused before anything of it stands."""

from __future__ import annotations

import ipaddress
import subprocess

import pytest

from netloom.kernel import preflight
from netloom.model.errors import KernelRejected
from netloom.model.kernel import Ipip, Link, Route
from netloom.reconcile.contracts import Verb

TUNNEL = Link("tunl0", "ipip", alias="netloom:blue", mtu_bytes=1480, ipip=Ipip())


@pytest.fixture
def lacking(host) -> None:
    """Skip where the kernel has it: then ``tests/uml`` shows what there is to see."""
    words = ["nsenter", f"--net={host.path}", "ip", "link", "add", "far", "type", "ipip"]
    if subprocess.run([*words, "remote", "192.0.2.1"], check=False).returncode == 0:
        pytest.skip("missing: a kernel without ipip")


@pytest.mark.usefixtures("lacking")
def test_the_error_names_option_and_module_and_the_nearest_backends(attempt):
    (error,) = attempt(Verb.ADD, TUNNEL)
    assert isinstance(error, KernelRejected)
    for word in ("CONFIG_NET_IPIP", "modprobe ipip", "vxlan", "host-gw"):
        assert word in error.hint


@pytest.mark.usefixtures("lacking")
def test_nothing_is_left_half_done(host, attempt):
    before = host.sh("ip address"), host.sh("ip route")
    block, far = ipaddress.ip_network("10.244.5.192/26"), ipaddress.ip_address("192.168.31.63")
    errors = attempt(Verb.ADD, TUNNEL, Route(block, "tunl0", far, onlink=True))
    assert all(errors)
    assert (host.sh("ip address"), host.sh("ip route")) == before


@pytest.mark.usefixtures("lacking")
def test_preflight_names_the_module_and_the_nearest_backends(host):
    (problem,) = host.call(lambda: preflight.missing(["ipip", "vxlan"]))
    assert problem.subject == "kernel module ipip"
    for word in ("modprobe ipip", "vxlan"):
        assert word in problem.remedy
