"""What is missing is found before it is needed, and named with what to do about it."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from netloom.kernel import commands, preflight
from netloom.kernel.namespaces import identity
from netloom.model.errors import NotPermitted, Unavailable

if TYPE_CHECKING:
    from tests.conftest import Netns

SOURCE = Path(preflight.__file__).parents[2]
SHOW = """
from netloom.kernel import preflight
for problem in preflight.missing():
    print(problem.severity, "|", problem.subject, "|", problem.text, "|", problem.remedy)
"""
PYTHON = ("env", f"PYTHONPATH={SOURCE}", sys.executable, "-c", SHOW)


def test_a_machine_that_has_all_is_told_nothing(netns: Netns) -> None:
    assert netns.call(lambda: preflight.missing(families=(4, 6))) == []
    netns.call(lambda: preflight.require(preflight.missing()))


def test_the_try_leaves_no_trace(netns: Netns) -> None:
    before = (netns.run("ip", "link"), netns.run("nft", "list", "ruleset"))

    def go() -> None:
        here = identity()
        preflight.missing()
        assert identity() == here

    netns.call(go)
    assert (netns.run("ip", "link"), netns.run("nft", "list", "ruleset")) == before


def test_a_kind_of_link_that_the_kernel_has_not_is_named_with_its_module(netns: Netns) -> None:
    (problem,) = netns.call(lambda: preflight.missing(("bridge", "nosuchkind", "veth")))
    assert problem.subject == "kernel module nosuchkind"
    assert "links of type nosuchkind" in problem.text
    assert "modprobe nosuchkind" in problem.remedy or "reboot" in problem.remedy
    with pytest.raises(Unavailable, match="links of type nosuchkind"):
        preflight.require([problem])


def test_where_modules_are_the_remedy_says_how_to_get_this_one(tmp_path: Path) -> None:
    release = os.uname().release
    assert "seems to be built without" in preflight._get("vxlan", tmp_path)
    (tmp_path / "5.0-older").mkdir()
    assert preflight._get("vxlan", tmp_path).startswith("reboot")
    (tmp_path / release).mkdir()
    dependencies = tmp_path / release / "modules.dep"
    dependencies.write_text(
        "kernel/drivers/net/vxlan/vxlan.ko.zst: kernel/net/ipv4/udp_tunnel.ko\n"
    )
    assert preflight._get("vxlan", tmp_path) == "modprobe vxlan"


def test_an_unprivileged_user_is_told_each_capability(
    netns: Netns, nobody: tuple[str, ...]
) -> None:
    said = netns.run(*nobody, *PYTHON)
    lines = said.splitlines()
    assert [line.split(" | ")[1] for line in lines] == [
        "capability CAP_NET_ADMIN",
        "capability CAP_SYS_ADMIN",
    ]
    assert all(line.startswith("error | ") for line in lines)
    assert "user 65534 lacks CAP_NET_ADMIN" in lines[0]


@pytest.mark.parametrize("name", ["net_admin", "sys_admin"])
def test_root_without_one_capability_is_told_that_one(netns: Netns, name: str) -> None:
    said = netns.run("setpriv", f"--bounding-set=-{name}", f"--inh-caps=-{name}", *PYTHON)
    assert f"root lacks CAP_{name.upper()}" in said
    assert len(said.splitlines()) == 1


def test_a_user_namespaces_root_is_not_taken_for_the_machines(netns: Netns) -> None:
    """It holds every capability, but not over the network namespace that it is in."""
    said = netns.run("unshare", "--user", "--map-root-user", *PYTHON)
    assert "root lacks CAP_NET_ADMIN" in said


def test_a_read_only_proc_sys_is_named(netns: Netns) -> None:
    script = 'mount --bind /proc/sys /proc/sys; mount -o remount,ro,bind /proc/sys; exec "$@"'
    said = netns.run("unshare", "--mount", "sh", "-c", script, "sh", *PYTHON)
    assert said.startswith("error | /proc/sys | /proc/sys is read-only")


def without_system_programs(netns: Netns, *command: str) -> str:
    """Run a command where /usr/sbin, home of nft and tc, is empty: in mounts of its own."""
    script = 'mount -t tmpfs none /usr/sbin; exec "$@"'
    return netns.run("unshare", "--mount", "sh", "-c", script, "sh", *command)


def test_an_absent_nft_is_named_with_its_package(netns: Netns) -> None:
    said = without_system_programs(netns, *PYTHON)
    assert said == (
        "error | program nft | the program nft is not installed | apt-get install nftables\n"
    )


def test_the_error_for_a_missing_right_is_not_permitted() -> None:
    """In a child, since a right once given up does not come back."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.setuid(65534)
        try:
            preflight.require(preflight.missing_rights())
        except NotPermitted as error:
            os.write(writer, str(error).encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as said:
        assert "lacks CAP_NET_ADMIN" in said.read()
    os.waitpid(child, 0)


def test_a_command_that_does_not_end_is_stopped() -> None:
    with pytest.raises(Unavailable, match="did not end within"):
        commands.run("sleep", "60", timeout_s=0.1)


def test_a_command_that_is_not_there_names_its_package(netns: Netns) -> None:
    code = """
from netloom.kernel import commands
from netloom.model.errors import Unavailable
try:
    commands.run("tc", "qdisc")
except Unavailable as error:
    print(error, "|", error.hint)
"""
    said = without_system_programs(netns, *PYTHON[:-1], code)
    assert said == "the program tc is not installed | apt-get install iproute2\n"
