"""What kinds of links a kernel can make is found out, and the machine is the same afterwards."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from netloom.kernel.devices import FRESH_S, KINDS, Devices, is_there, listed
from netloom.kernel.netlink import Netlink

if TYPE_CHECKING:
    from tests.conftest import Netns


def test_a_kind_that_is_there_is_told_from_one_that_no_kernel_has(netns: Netns) -> None:
    """Also beside links of the kind itself: they are shown, and the loopback is not."""
    netns.run("ip", "link", "add", "b0", "type", "bridge")

    def ask() -> dict[str, bool]:
        with Netlink() as netlink:
            return {kind: is_there(netlink, kind) for kind in ("bridge", "veth", "nosuchkind")}

    assert netns.call(ask) == {"bridge": True, "veth": True, "nosuchkind": False}


def test_looking_changes_nothing_on_the_machine(netns: Netns) -> None:
    before = (netns.run("ip", "link"), loaded())
    told = netns.call(Devices())
    assert told["bridge"] is told["veth"] is told["vxlan"] is True
    assert set(told) <= set(KINDS)
    assert (netns.run("ip", "link"), loaded()) == before


def loaded() -> set[str]:
    """Return the modules of our kinds; how often each is used is told by other tests as well."""
    modules = Path("/proc/modules")
    lines = modules.read_text().splitlines() if modules.exists() else []
    return {line.split()[0] for line in lines} & set(KINDS)


def test_what_was_told_is_asked_again_after_a_while(netns: Netns) -> None:
    """A module that somebody loads is noticed, and a host that waits costs no dump a second."""
    now = [0.0]
    devices = Devices(lambda: now[0])
    first = netns.call(devices)
    now[0] += FRESH_S - 1
    assert devices() == first
    now[0] += 1
    assert netns.call(devices) == first


def test_the_list_of_modules_tells_what_the_kernel_would_load(tmp_path: Path) -> None:
    assert listed("ipip", tmp_path) is None, "nobody here can tell"
    folder = tmp_path / os.uname().release
    folder.mkdir()
    (folder / "modules.dep").write_text(
        "kernel/net/ipv4/ipip.ko.xz: kernel/net/ipv4/ip_tunnel.ko.xz\n"
    )
    assert listed("ipip", tmp_path) is True
    assert listed("vxlan", tmp_path) is False
