"""The CNI_* variables: what skel refuses we refuse, naming the variable, through both fronts."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest

from netloom.drivers.cni import codes
from netloom.drivers.cni.environment import Environment
from netloom.drivers.cni.errors import CniError

from .conftest import Caller, Memory

REQUIRED = [
    ("ADD", ["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"]),
    ("CHECK", ["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"]),
    ("DEL", ["CNI_CONTAINERID", "CNI_IFNAME"]),
]


@pytest.mark.parametrize("value", [None, ""])
@pytest.mark.parametrize(("command", "names"), REQUIRED)
def test_a_missing_variable_is_named_with_code_4(
    call: Caller, command: str, names: list[str], value: str | None
) -> None:
    for name in names:
        document = call(command, **{name: value}).document
        assert document["code"] == 4
        assert name in document["msg"]
    document = call(command, **dict.fromkeys(names, value)).document
    assert all(name in document["msg"] for name in names)


def test_cni_path_is_optional_as_the_specification_has_it(call: Caller) -> None:
    assert call("ADD", CNI_PATH=None).code == 0


@pytest.mark.parametrize("command", [None, "", "add", "NOPE", "ADD ", "../ADD", "A\nD"])
def test_an_unknown_or_missing_command_is_refused_with_code_4(
    call: Caller, command: str | None
) -> None:
    answer = call(command or "", CNI_COMMAND=command)
    assert answer.code == 1
    assert answer.document["code"] == 4
    assert "CNI_COMMAND" in answer.document["msg"]


BAD_IDS = ["1234%%%", "-a", ".a", "_a", "a b", "a/b", "a;b", "ü", "a\n", "x" * 256, "\x01"]


@pytest.mark.parametrize("container_id", BAD_IDS)
def test_a_bad_container_id_is_refused_with_code_4(
    call: Caller, memory: Memory, container_id: str
) -> None:
    for command in ("ADD", "DEL", "CHECK"):
        document = call(command, CNI_CONTAINERID=container_id).document
        assert document["code"] == 4
        assert "CNI_CONTAINERID" in document["msg"]
    assert memory.requests == []


@pytest.mark.parametrize("container_id", ["a", "1", "dummy", "a.b_c-D9", "f" * 64])
def test_a_good_container_id_passes(call: Caller, container_id: str) -> None:
    assert call("ADD", CNI_CONTAINERID=container_id).code == 0


BAD_NAMES = ["x" * 16, ".", "..", "a/b", "a:b", "a b", "a\tb", "\u00e4" * 8]


@pytest.mark.parametrize("ifname", BAD_NAMES)
def test_an_interface_name_that_the_kernel_refuses_is_refused_with_code_4(
    call: Caller, memory: Memory, ifname: str
) -> None:
    document = call("ADD", CNI_IFNAME=ifname).document
    assert document["code"] == 4
    assert "CNI_IFNAME" in document["msg"]
    assert memory.requests == []


def test_an_interface_name_of_fifteen_bytes_passes(call: Caller) -> None:
    assert call("ADD", CNI_IFNAME="x" * 15).code == 0


@pytest.mark.parametrize("args", ["IP", "=x", "a=b", "IP=10.0.0.1;odd", "IGNOREME=1"])
def test_arguments_that_nobody_asked_us_to_ignore_are_refused(call: Caller, args: str) -> None:
    document = call("ADD", CNI_ARGS=args).document
    assert document["code"] == 4
    assert "CNI_ARGS" in document["msg"]


@pytest.mark.parametrize("args", ["", ";", "IgnoreUnknown=1;a=b=c", "IgnoreUnknown=true;FOO=b;"])
def test_arguments_that_are_to_be_ignored_are(call: Caller, args: str) -> None:
    assert call("ADD", CNI_ARGS=args).code == 0


def test_a_namespace_that_is_gone_or_none_is_refused_with_code_8(
    call: Caller, memory: Memory
) -> None:
    for netns in ("/run/netns/nl-gone", "relative"):
        document = call("ADD", CNI_NETNS=netns).document
        assert document["code"] == 8
        assert netns in document["msg"]
    assert memory.requests == []


def test_the_hosts_own_namespace_is_refused_unless_overridden(call: Caller) -> None:
    own = f"/proc/{os.getpid()}/ns/net"
    assert call("ADD", CNI_NETNS="/proc/self/ns/net").document["code"] == 8
    assert call("ADD", CNI_NETNS="/proc/thread-self/ns/net").document["code"] == 8
    assert call("ADD", CNI_NETNS=own).document["code"] == 8
    assert call("ADD", CNI_NETNS=own, CNI_NETNS_OVERRIDE="TRUE").code == 0


def test_a_runtime_with_mounts_of_its_own_is_understood(
    call: Caller, memory: Memory, make_netns: Callable[[str], Any]
) -> None:
    """The same path is another namespace to the runtime: the one that the runtime means counts."""
    other = make_netns("other")
    mounts = f"mount --bind {other.path} {call.netns} && exec " + '"$@"'
    call.command = ("unshare", "--mount", "sh", "-c", mounts, "sh", *call.command)
    assert call("ADD").code == 0
    (request,) = memory.requests
    assert request.netns.startswith("/proc/")
    assert request.netns.endswith(f"/root{call.netns}")


def test_bytes_that_are_no_text_cannot_leave_their_header(call: Caller, memory: Memory) -> None:
    for value in ("a\r\nX-CNI-ContainerID: evil", "%0d%0a", "\udcff\udcfe"):
        document = call("ADD", CNI_CONTAINERID=value).document
        assert document["code"] == 4
    assert memory.requests == []


def test_of_the_trace_context_nothing_is_lost(
    call: Caller, caplog: pytest.LogCaptureFixture
) -> None:
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    with caplog.at_level("INFO"):
        assert call("ADD", TRACEPARENT=trace).code == 0
    assert f"trace={trace}" in caplog.text
    assert "CNI ADD container=c1 ifname=eth0" in caplog.text


@pytest.mark.parametrize("command", ["GC", "STATUS"])
def test_gc_and_status_need_no_variable(command: str) -> None:
    assert Environment.parse(command, {}) == Environment(command)


def test_version_is_not_the_agents_business() -> None:
    with pytest.raises(CniError) as refused:
        Environment.parse("VERSION", {})
    assert refused.value.code == codes.BAD_ENVIRONMENT
