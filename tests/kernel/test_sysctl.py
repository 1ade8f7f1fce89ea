"""Sysctls of a namespace: read, set once, and refusals that say what would help."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from netloom.kernel import sysctl
from netloom.kernel.sysctl import Sysctls
from netloom.model.errors import InvalidConfig, KernelRejected
from netloom.model.kernel import Sysctl
from netloom.reconcile.contracts import Change, Verb

if TYPE_CHECKING:
    from tests.conftest import Netns

FORWARD = Sysctl("ipv4/ip_forward", "1")


def test_only_wanted_sysctls_are_read_and_absent_ones_are_left_out(netns: Netns) -> None:
    def go() -> None:
        sysctls = Sysctls()
        assert sysctls.read() == []
        sysctls.want(["ipv4/conf/lo/forwarding", "ipv4/conf/nosuch/forwarding"])
        assert sysctls.read() == [Sysctl("ipv4/conf/lo/forwarding", "0")]

    netns.call(go)


def test_what_the_machine_has_once_is_read_from_any_namespace(netns: Netns) -> None:
    """Limits of the neighbour tables are shown in the machine's own namespace alone."""
    name = "ipv4/neigh/default/gc_thresh3"
    here = sysctl.read(name)
    if here is None:
        pytest.skip("missing: the machine's first network namespace")
    assert netns.call(lambda: sysctl.read(name)) is None
    own = f"/proc/{os.getpid()}/ns/net"
    assert netns.call(lambda: sysctl.read_of_machine(name, own)) == here
    assert sysctl.read_of_machine(name) == here
    assert netns.call(lambda: sysctl.read_of_machine(name, netns.path)) is None
    assert netns.call(lambda: sysctl.read_of_machine(name, "/no/such")) is None


def test_a_sysctl_is_set_in_the_namespace_of_the_caller_alone(netns: Netns) -> None:
    before = Path("/proc/sys/net/ipv4/ip_forward").read_text()

    def go() -> None:
        sysctls = Sysctls()
        (outcome,) = sysctls.apply([Change(Verb.ADD, FORWARD)])
        assert outcome.error is None
        assert sysctls.read() == [FORWARD], "what was written is read from then on"

    netns.call(go)
    assert netns.run("cat", "/proc/sys/net/ipv4/ip_forward") == "1\n"
    assert Path("/proc/sys/net/ipv4/ip_forward").read_text() == before


def test_what_is_right_already_is_not_written(tmp_path: Path) -> None:
    setting = tmp_path / "ipv4" / "tcp_rmem"
    setting.parent.mkdir()
    setting.write_text("4096\t131072\t6291456\n")
    before = setting.stat().st_mtime_ns
    assert sysctl.write("ipv4/tcp_rmem", "4096 131072 6291456", tmp_path) is False
    assert setting.stat().st_mtime_ns == before
    assert sysctl.write("ipv4/tcp_rmem", "4096 131072 1", tmp_path) is True


def test_values_of_several_parts_read_with_single_blanks(netns: Netns) -> None:
    value = netns.call(lambda: sysctl.read("ipv4/ip_local_port_range"))
    assert value is not None
    assert len(value.split(" ")) == 2


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("ipv4/conf/nosuch/route_localnet", "there is no device nosuch"),
        ("ipv6/conf/nosuch/accept_ra", "there is no device nosuch"),
        ("netfilter/nosuch", "modprobe nf_conntrack"),
        ("bridge/nosuch", "modprobe br_netfilter"),
        ("core/nosuch", "no such setting"),
    ],
)
def test_an_absent_sysctl_is_refused_with_what_would_bring_it(
    netns: Netns, name: str, hint: str
) -> None:
    def go() -> None:
        (outcome,) = Sysctls().apply([Change(Verb.ADD, Sysctl(name, "1"))])
        assert isinstance(outcome.error, KernelRejected)
        assert hint in outcome.error.hint
        assert "ENOENT" in str(outcome.error)

    netns.call(go)


def test_a_value_that_the_kernel_refuses_is_named(netns: Netns) -> None:
    with pytest.raises(KernelRejected, match=r"set sysctl net\.ipv4\.ip_forward to 'x': EINVAL"):
        netns.call(lambda: sysctl.write("ipv4/ip_forward", "x"))


def test_a_name_that_leaves_the_folder_is_refused(netns: Netns) -> None:
    with pytest.raises(InvalidConfig):
        netns.call(lambda: sysctl.write("../kernel/hostname", "x"))


def test_nothing_is_deleted(netns: Netns) -> None:
    def go() -> None:
        sysctls = Sysctls()
        sysctls.apply([Change(Verb.ADD, FORWARD)])
        (outcome,) = sysctls.apply([Change(Verb.DELETE, FORWARD)])
        assert outcome.error is None
        assert sysctls.read() == [FORWARD]

    netns.call(go)


WRITE = """
import sys
from netloom.kernel import sysctl
from netloom.model.errors import NetloomError
try:
    sysctl.write("ipv4/ip_forward", "1")
except NetloomError as error:
    print(type(error).__name__, error, "|", error.hint)
"""


def test_a_read_only_proc_is_named(netns: Netns) -> None:
    """A container without privileges sees /proc/sys so; here a mount namespace of our own does."""
    script = f"mount --bind /proc/sys /proc/sys; mount -o remount,ro,bind /proc/sys; {_python()}"
    said = netns.run("unshare", "--mount", "sh", "-c", script)
    assert said.startswith("NotPermitted may not set sysctl net.ipv4.ip_forward")
    assert "/proc/sys is read-only" in said


def test_an_unprivileged_user_is_told_the_capability(netns: Netns, nobody: tuple[str, ...]) -> None:
    said = netns.run(*nobody, "sh", "-c", _python())
    assert said.startswith("NotPermitted may not set sysctl net.ipv4.ip_forward")
    assert "CAP_NET_ADMIN" in said


def _python() -> str:
    source = Path(sysctl.__file__).parents[2]
    return f"PYTHONPATH={source} {sys.executable} -c '{WRITE}'"
