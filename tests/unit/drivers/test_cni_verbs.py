"""The verbs as a runtime sees them: the same table through the C front and the Python front."""

from __future__ import annotations

import concurrent.futures
import ipaddress
import json
from typing import Any

import pytest

from netloom.model.errors import (
    Bug,
    Conflict,
    Exhausted,
    InvalidConfig,
    KernelRejected,
    NetloomError,
    NotPermitted,
    Unavailable,
)
from netloom.model.view import Problem

from .conftest import Caller, Memory


def failure(call: Caller, command: str, config: Any = None, **changes: str | None) -> Any:
    """Call, expect an error, and return it."""
    answer = call(command, config, **changes)
    assert answer.code == 1, answer
    document = answer.document
    assert set(document) == {"cniVersion", "code", "msg", "details"}
    assert document["msg"]
    return document


def test_add_reports_bridge_both_ends_addresses_and_routes(call: Caller) -> None:
    answer = call("ADD")
    assert answer.code == 0, answer
    mac = answer.document["interfaces"][2]["mac"]
    assert answer.document == {
        "cniVersion": "1.1.0",
        "interfaces": [
            {"name": "cni0", "mac": "02:00:00:00:00:02", "mtu": 1450},
            {"name": "veth0a1b2c3d", "mac": "02:00:00:00:00:01", "mtu": 1450},
            {"name": "eth0", "mac": mac, "mtu": 1450, "sandbox": call.netns},
        ],
        "ips": [{"address": "10.244.1.2/24", "gateway": "10.244.1.1", "interface": 2}],
        "routes": [
            {"dst": "0.0.0.0/0", "gw": "10.244.1.1"},
            {"dst": "10.244.0.0/16", "gw": "10.244.1.1"},
        ],
        "dns": {},
    }


@pytest.mark.parametrize("version", ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"])
def test_the_answer_is_in_the_configurations_version(call: Caller, version: str) -> None:
    document = call("ADD", {"cniVersion": version}).document
    assert document["cniVersion"] == version
    assert ("version" in document["ips"][0]) == (version < "1.0.0")
    assert ("mtu" in document["interfaces"][0]) == (version >= "1.1.0")
    assert failure(call, "ADD", {"cniVersion": version})["cniVersion"] == version


@pytest.mark.parametrize("version", ["0.1.0", "0.2.0", "1.2.0", "2.0.0", "", "x", None])
def test_another_version_is_refused_and_the_supported_ones_are_listed(
    call: Caller, version: str | None
) -> None:
    config = {"name": "net"} if version is None else {"cniVersion": version, "name": "net"}
    document = failure(call, "ADD", json.dumps(config).encode())
    assert document["code"] == 1
    assert "0.3.0, 0.3.1, 0.4.0, 1.0.0, 1.1.0" in document["details"]


def test_add_twice_is_an_error_and_leaves_the_first_as_it_is(call: Caller, memory: Memory) -> None:
    assert call("ADD").code == 0
    before = dict(memory.attached)
    assert failure(call, "ADD")["code"] == 100
    assert memory.attached == before


def test_the_address_that_is_taken_is_named(call: Caller) -> None:
    wish = {"runtimeConfig": {"ips": ["10.244.1.9/24"]}}
    assert call("ADD", wish).document["ips"][0]["address"] == "10.244.1.9/24"
    document = failure(call, "ADD", wish, CNI_CONTAINERID="c2")
    assert document["code"] == 100
    assert "10.244.1.9" in document["msg"]


def test_del_can_be_repeated_and_needs_neither_namespace_nor_result(
    call: Caller, memory: Memory
) -> None:
    assert call("ADD").code == 0
    for netns in (None, "", "/run/netns/nl-gone", call.netns):
        answer = call("DEL", CNI_NETNS=netns)
        assert (answer.code, answer.text) == (0, "")
    assert memory.attached == {}


@pytest.mark.parametrize(
    "config",
    [
        {"prevResult": "nonsense"},
        {"prevResult": {"ips": [{"address": "?"}]}},
        {"runtimeConfig": {"portMappings": "?"}},
        {"ipam": {"type": "host-local"}},
        {"runtimeConfig": []},
    ],
)
def test_del_comes_through_where_add_would_be_refused(
    call: Caller, memory: Memory, config: dict[str, Any]
) -> None:
    assert call("ADD").code == 0
    assert failure(call, "ADD", config)["code"] == 7
    assert call("DEL", config, CNI_ARGS="broken").code == 0
    assert memory.attached == {}


def test_check_is_content_with_what_add_answered(call: Caller) -> None:
    result = call("ADD").document
    answer = call("CHECK", {"prevResult": result})
    assert (answer.code, answer.text) == (0, "")


def test_check_allows_what_later_plugins_added(call: Caller) -> None:
    result = call("ADD").document
    result["interfaces"][2]["mac"] = "02:11:22:33:44:55"  # tuning changes it
    result["interfaces"].append({"name": "lo", "sandbox": call.netns})
    result["ips"].append({"address": "10.99.0.1/24", "interface": 3})
    assert call("CHECK", {"prevResult": result}).code == 0


def test_check_reports_every_damage(call: Caller, memory: Memory) -> None:
    result = call("ADD").document
    memory.damage = ["eth0 is gone", "the route to 10.244.0.0/16 is gone"]
    document = failure(call, "CHECK", {"prevResult": result})
    assert document["code"] == 104
    assert document["msg"] == "eth0 is gone"
    assert document["details"] == "eth0 is gone; the route to 10.244.0.0/16 is gone"


def test_check_compares_with_what_the_runtime_remembers(call: Caller) -> None:
    result = call("ADD").document
    other = result | {"ips": [{"address": "10.244.1.77/24", "interface": 2}]}
    assert "10.244.1.2" in failure(call, "CHECK", {"prevResult": other})["msg"]
    assert "eth0" in failure(call, "CHECK", {"prevResult": {"interfaces": []}})["msg"]


def test_check_without_a_result_or_of_an_unknown_container(call: Caller) -> None:
    assert failure(call, "CHECK")["code"] == 7
    assert failure(call, "CHECK", {"prevResult": {}})["code"] == 3


@pytest.mark.parametrize(
    ("command", "version"),
    [("CHECK", "0.3.1"), ("GC", "1.0.0"), ("STATUS", "1.0.0"), ("STATUS", "0.4.0")],
)
def test_a_verb_that_the_version_does_not_have_is_refused(
    call: Caller, command: str, version: str
) -> None:
    document = failure(call, command, {"cniVersion": version})
    assert document["code"] == 1
    assert command in document["msg"]


@pytest.mark.parametrize("key", ["cni.dev/valid-attachments", "cni.dev/attachments"])
def test_gc_removes_what_is_not_listed(call: Caller, memory: Memory, key: str) -> None:
    for container in ("c1", "c2", "c3"):
        assert call("ADD", CNI_CONTAINERID=container).code == 0
    answer = call("GC", {key: [{"containerID": "c2", "ifname": "eth0"}]}, CNI_NETNS=None)
    assert (answer.code, answer.text) == (0, "")
    assert list(memory.attached) == [("c2", "eth0", "default")]


def test_gc_leaves_what_another_configuration_attached_to_the_same_network(
    call: Caller, memory: Memory
) -> None:
    assert call("ADD", {"name": "podman"}).code == 0
    assert call("ADD", {"name": "kubelet"}, CNI_CONTAINERID="c2").code == 0
    assert call("GC", {"name": "podman", "cni.dev/valid-attachments": None}).code == 0
    assert list(memory.attached) == [("c2", "eth0", "default")]


@pytest.mark.parametrize("valid", ["missing", {}, [{"containerID": "c1"}], [3], "x"])
def test_gc_removes_nothing_when_its_list_cannot_be_read(
    call: Caller, memory: Memory, valid: Any
) -> None:
    assert call("ADD").code == 0
    config = {} if valid == "missing" else {"cni.dev/valid-attachments": valid}
    assert failure(call, "GC", config)["code"] == 7
    assert len(memory.attached) == 1


def test_status_is_silent_when_ready_and_names_every_problem_when_not(
    call: Caller, memory: Memory
) -> None:
    answer = call("STATUS", CNI_CONTAINERID=None, CNI_NETNS=None, CNI_IFNAME=None)
    assert (answer.code, answer.text) == (0, "")
    memory.problems = [
        Problem("error", "network default", "no address is free", "add a pool"),
        Problem("warning", "store", "away"),
    ]
    document = failure(call, "STATUS")
    assert document["code"] == 50
    assert document["details"] == "network default: no address is free; store: away"
    memory.problems.append(Problem("error", "kernel", "cannot be read"))
    assert failure(call, "STATUS")["code"] == 51


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (InvalidConfig("no such network", field="network"), 7),
        (InvalidConfig("no namespace", field="netns"), 8),
        (Unavailable("store away", hint="wait"), 11),
        (Conflict("eth0 exists"), 100),
        (Exhausted("full"), 101),
        (NotPermitted("not root"), 102),
        (KernelRejected("add link", "veth1", 16), 103),
        (Bug("broken promise"), 999),
        (ZeroDivisionError("division by zero"), 999),
    ],
)
def test_each_kind_of_error_has_its_code(
    call: Caller, memory: Memory, error: Exception, code: int
) -> None:
    memory.broken = error
    for command in ("ADD", "DEL"):
        document = failure(call, command)
        assert document["code"] == code
        said = str(error) if isinstance(error, NetloomError) else "ZeroDivisionError at "
        assert said in document["msg"]  # what is not ours may hold secrets
        assert "Traceback" not in document["msg"] + document["details"]


def test_status_of_an_agent_whose_store_is_needed_and_away_is_50(
    call: Caller, memory: Memory
) -> None:
    memory.broken = Unavailable("store away")
    assert failure(call, "STATUS")["code"] == 50


@pytest.mark.parametrize(
    "body", [b"", b"{", b"null", b"[]", b'"x"', b"\xff\xfe", b"{}{}", b"[" * 200000, b'{"a":NaN']
)
def test_what_is_no_json_object_is_refused_with_code_6(call: Caller, body: bytes) -> None:
    for command in ("ADD", "DEL", "GC"):
        assert failure(call, command, body)["code"] == 6


@pytest.mark.parametrize(
    ("config", "field"),
    [
        ({"name": ""}, "name"),
        ({"name": None}, "name"),
        ({"name": "a/b"}, "name"),
        ({"name": 3}, "name"),
        ({"network": "Not A Name"}, "network"),
        ({"network": []}, "network"),
        ({"network": "absent"}, "network"),
        ({"ipam": {"type": "host-local", "subnet": "10.0.0.0/24"}}, "ipam"),
        ({"prevResult": []}, "prevResult"),
        ({"prevResult": {"ips": [{}]}}, "prevResult.ips[0].address"),
        ({"prevResult": {"ips": [{"address": "10.0.0.1"}]}}, "prevResult.ips[0].address"),
        (
            {"prevResult": {"ips": [{"address": "10.0.0.1/8", "interface": 0}]}},
            "prevResult.ips[0].interface",
        ),
        ({"runtimeConfig": {"ips": ["300.1.1.1"]}}, "runtimeConfig.ips[0]"),
        ({"runtimeConfig": {"ips": ["10.244.1.3", "10.244.1.4"]}}, "runtimeConfig.ips[1]"),
        ({"runtimeConfig": {"mac": "no"}}, "runtimeConfig.mac"),
        ({"runtimeConfig": {"mac": "01:00:5e:00:00:01"}}, "runtimeConfig.mac"),
        ({"runtimeConfig": {"bandwidth": {"ingressRate": -1}}}, "bandwidth.ingressRate"),
        (
            {"runtimeConfig": {"portMappings": [{"hostPort": 70000, "containerPort": 1}]}},
            "runtimeConfig.portMappings[0].hostPort",
        ),
        (
            {"runtimeConfig": {"portMappings": [{"hostPort": 80, "protocol": "icmp"}]}},
            "runtimeConfig.portMappings[0]",
        ),
        ({"args": {"cni": {"ips": "10.0.0.1"}}}, "args.cni.ips"),
        ({"args": {"cni": {"labels": [{"value": "x"}]}}}, "args.cni.labels[0]"),
    ],
)
def test_a_field_that_is_wrong_is_named_with_code_7(
    call: Caller, memory: Memory, config: dict[str, Any], field: str
) -> None:
    document = failure(call, "ADD", config)
    assert document["code"] == 7
    assert field in document["msg"]
    assert memory.attached == {}


@pytest.mark.parametrize("setting", ["ipRanges", "deviceID", "infinibandGUID"])
def test_a_setting_that_we_cannot_honour_is_refused_with_code_2(call: Caller, setting: str) -> None:
    document = failure(call, "ADD", {"runtimeConfig": {setting: ["x"]}})
    assert document["code"] == 2
    assert f"runtimeConfig.{setting}" in document["msg"]
    assert '["x"]' in document["msg"]


def test_unknown_keys_and_settings_are_left_alone(call: Caller) -> None:
    extra = {"future": {"x": 1}, "runtimeConfig": {"aliases": ["a"], "cgroupPath": "/x"}}
    assert call("ADD", extra | {"ipam": {}, "args": {"other": 1}}).code == 0


def test_the_wishes_of_every_source_reach_the_agent(call: Caller, memory: Memory) -> None:
    config = {
        "network": "blue",
        "runtimeConfig": {
            "ips": ["10.244.1.7/24", "fd00:1::7"],
            "mac": "02-AA-00-00-00-07",
            "portMappings": [
                {"hostPort": 8080, "containerPort": 80, "protocol": "TCP", "hostIP": ""},
                {"hostPort": 0, "containerPort": 81},
            ],
            "bandwidth": {"ingressRate": 1000000, "ingressBurst": 20000},
            "dns": {"servers": ["10.0.0.10"], "searches": ["svc.local"]},
        },
        "args": {"cni": {"labels": [{"key": "app", "value": "web"}]}},
    }
    args = "IgnoreUnknown=1;K8S_POD_NAMESPACE=prod;K8S_POD_NAME=web-1;X=y"
    document = call("ADD", config, CNI_ARGS=args).document
    assert document["dns"] == {"nameservers": ["10.0.0.10"], "search": ["svc.local"]}
    (request,) = memory.requests
    assert (request.network, request.mac) == ("blue", "02:aa:00:00:00:07")
    assert [str(address) for address in request.addresses] == ["10.244.1.7", "fd00:1::7"]
    assert [(p.host_port, p.container_port, p.protocol) for p in request.ports] == [
        (8080, 80, "tcp")
    ]
    assert request.bandwidth.ingress_rate_bps == 1000000
    assert request.labels == {
        "k8s.pod.namespace": "prod",
        "k8s.pod.name": "web-1",
        "app": "web",
        "cni.name": "net",
    }


@pytest.mark.parametrize(
    ("config", "args", "address", "mac"),
    [
        ({}, "IP=10.244.1.5;MAC=02:00:00:00:00:05", "10.244.1.5", "02:00:00:00:00:05"),
        ({"args": {"cni": {"ips": ["10.244.1.6"]}}}, "IP=10.244.1.5", "10.244.1.6", ""),
        (
            {
                "args": {"cni": {"ips": ["10.244.1.6"], "mac": "02:00:00:00:00:06"}},
                "runtimeConfig": {"ips": ["10.244.1.7/16"]},
            },
            "IP=10.244.1.5",
            "10.244.1.7",
            "02:00:00:00:00:06",
        ),
    ],
)
def test_runtime_config_beats_args_which_beat_cni_args(
    call: Caller, memory: Memory, config: dict[str, Any], args: str, address: str, mac: str
) -> None:
    assert call("ADD", config, CNI_ARGS=args).code == 0
    (request,) = memory.requests
    assert request.addresses == (ipaddress.ip_address(address),)
    assert request.mac == mac


def test_after_another_plugin_our_part_is_appended_and_its_part_stays_whole(call: Caller) -> None:
    previous = {
        "cniVersion": "1.1.0",
        "interfaces": [
            {"name": "br9"},
            {"name": "net1", "sandbox": call.netns, "mac": "02:00:00:00:00:09", "pciID": "0:1"},
        ],
        "ips": [{"address": "192.0.2.7/24", "gateway": "192.0.2.1", "interface": 1}],
        "routes": [{"dst": "198.51.100.0/24", "gw": "192.0.2.1", "table": 7}],
        "dns": {"nameservers": ["192.0.2.53"]},
    }
    document = call("ADD", {"prevResult": previous}).document
    assert document["interfaces"][:2] == previous["interfaces"]
    assert document["ips"][0] == previous["ips"][0]
    assert document["ips"][1] == {
        "address": "10.244.1.2/24",
        "gateway": "10.244.1.1",
        "interface": 4,
    }
    assert document["interfaces"][4]["name"] == "eth0"
    assert document["routes"][0] == previous["routes"][0]
    assert document["dns"] == previous["dns"]


def test_a_result_of_an_older_form_is_understood(call: Caller) -> None:
    old = {"ip4": {"ip": "192.0.2.7/24", "gateway": "192.0.2.1", "routes": [{"dst": "0.0.0.0/0"}]}}
    document = call("ADD", {"cniVersion": "0.3.1", "prevResult": old}).document
    assert document["ips"][0] == {
        "version": "4",
        "address": "192.0.2.7/24",
        "gateway": "192.0.2.1",
    }
    assert document["routes"][0] == {"dst": "0.0.0.0/0"}


def test_an_interface_that_an_earlier_plugin_made_is_not_taken_over(
    call: Caller, memory: Memory
) -> None:
    previous = {"interfaces": [{"name": "eth0", "sandbox": call.netns}]}
    document = failure(call, "ADD", {"prevResult": previous})
    assert document["code"] == 100
    assert "eth0" in document["msg"]
    assert memory.requests == []
    host_side = {"interfaces": [{"name": "eth0"}]}  # the host's own eth0 is another matter
    assert call("ADD", {"prevResult": host_side}).code == 0


def test_sixteen_callers_at_once_get_sixteen_addresses(call: Caller) -> None:
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda n: call("ADD", CNI_CONTAINERID=f"c{n}"), range(16)))
    assert len({answer.document["ips"][0]["address"] for answer in answers}) == 16
