"""The far ends of veth pairs, found in real namespaces."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

from netloom.kernel.far_ends import FarEnd, far_ends

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root to make namespaces")


def pair(host: Any, container: Any, name: str, address: str, alias: str = "netloom:blue") -> None:
    """Join a container to a host by a veth whose host side has ``alias``."""
    host.run("ip", "link", "add", name, "type", "veth", "peer", "eth0", "netns", container.path)
    if alias:
        host.run("ip", "link", "set", name, "alias", alias)
    host.run("ip", "link", "set", name, "up")
    container.run("ip", "address", "add", address, "dev", "eth0")
    container.run("ip", "link", "set", "eth0", "up")


def test_addresses_are_found_in_the_container_that_the_link_really_leads_to(
    make_netns: Callable[[str], Any],
) -> None:
    """Two hosts with equal link names and indexes on one machine: each sees its own."""
    hosts = [make_netns("h1"), make_netns("h2")]
    for number, host in enumerate(hosts, start=1):
        for container in ("a", "b"):
            inside = make_netns(f"h{number}{container}")
            pair(host, inside, f"veth{container}", f"10.0.{number}.{ord(container)}/24")
    for number, host in enumerate(hosts, start=1):
        found = host.call(far_ends)
        assert {(end.host_ifname, end.addresses) for end in found} == {
            ("vetha", (ip_address(f"10.0.{number}.97"),)),
            ("vethb", (ip_address(f"10.0.{number}.98"),)),
        }
        assert {Path(end.netns).name.rpartition("-")[2] for end in found} == {
            f"h{number}a",
            f"h{number}b",
        }


def test_every_address_is_told_without_link_local_ones(make_netns: Callable[[str], Any]) -> None:
    host, inside = make_netns("host"), make_netns("inside")
    pair(host, inside, "veth0", "10.0.0.2/24")
    inside.run("ip", "address", "add", "fd00::2/64", "dev", "eth0", "nodad")
    (end,) = host.call(lambda: far_ends([inside.path]))
    assert end == FarEnd(
        "blue", "veth0", inside.path, "eth0", (ip_address("10.0.0.2"), ip_address("fd00::2"))
    )


def test_links_that_are_not_ours_are_not_followed(make_netns: Callable[[str], Any]) -> None:
    host, inside = make_netns("host"), make_netns("inside")
    pair(host, inside, "veth0", "10.0.0.2/24", alias="")
    assert host.call(far_ends) == []


def test_a_namespace_without_a_name_is_found_by_its_process(
    make_netns: Callable[[str], Any],
) -> None:
    host = make_netns("host")
    process = subprocess.Popen(
        ["unshare", "-n", "sh", "-c", "echo ready; exec sleep 60"],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        pid = str(process.pid)
        host.run("ip", "link", "add", "veth0", "type", "veth", "peer", "eth0", "netns", pid)
        host.run("ip", "link", "set", "veth0", "alias", "netloom:blue")
        (end,) = host.call(far_ends)
        assert end.netns == f"/proc/{pid}/ns/net"
        assert end.ifname == "eth0"
    finally:
        process.kill()
        process.wait()


def test_known_paths_that_lead_nowhere_do_no_harm(make_netns: Callable[[str], Any]) -> None:
    host, inside = make_netns("host"), make_netns("inside")
    pair(host, inside, "veth0", "10.0.0.2/24")
    (end,) = host.call(lambda: far_ends(["/run/netns/nl-gone", "/etc/passwd", inside.path]))
    assert end.netns == inside.path
