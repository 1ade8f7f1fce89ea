"""The small CNI runtime runs Debian's own plugins as libcni would."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from netloom.drivers.cni import codes
from netloom.drivers.cni.conflist import Conflist
from netloom.drivers.cni.runtime import PluginFailed, Runtime
from netloom.model.errors import InvalidConfig

DEBIAN = Path("/usr/lib/cni")
pytestmark = pytest.mark.skipif(
    not (DEBIAN / "bridge").exists(), reason="needs Debian's containernetworking-plugins"
)

#: A plugin that appends what it was called with to $CNI_LOG and answers from $CNI_ANSWER-<verb>.
RECORDER = """#!/bin/sh
config=$(cat)
printf '{"as":"%s","command":"%s","id":"%s","args":"%s","config":%s}\\n' \
  "${0##*/}" "$CNI_COMMAND" "$CNI_CONTAINERID" "$CNI_ARGS" "$config" >> "$RECORD"
if [ "$CNI_COMMAND" = "$FAIL" ]; then echo '{"code": 11, "msg": "later"}'; exit 1; fi
if [ "$CNI_COMMAND" = ADD ]; then
  echo "{\\"cniVersion\\": \\"1.1.0\\", \\"interfaces\\": [{\\"name\\": \\"${0##*/}\\"}]}"
fi
"""


class Recorded:
    """A folder with the recorder under two names, and the calls it saw."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.record = folder / "record"
        for name in ("first", "second"):
            (folder / name).write_text(RECORDER)
            (folder / name).chmod(0o755)

    def runtime(self, fail: str = "") -> Runtime:
        env = {**os.environ, "RECORD": str(self.record), "FAIL": fail}
        return Runtime([self.folder], self.folder / "cache", env)

    def take(self) -> list[dict[str, Any]]:
        calls = [json.loads(line) for line in self.record.read_text().splitlines()]
        self.record.unlink()
        return calls


@pytest.fixture
def recorded(tmp_path: Path) -> Recorded:
    return Recorded(tmp_path)


def two(version: str = "1.1.0", **keys: Any) -> Conflist:
    """Return a list of the two recorders; only the second declares portMappings."""
    plugins = [
        {"type": "first", "mine": 1},
        {"type": "second", "capabilities": {"portMappings": True, "mac": False}},
    ]
    return Conflist.parse({"cniVersion": version, "name": "net", "plugins": plugins, **keys})


def test_add_hands_each_plugin_the_result_of_the_one_before(recorded: Recorded) -> None:
    result = recorded.runtime().add(two(), "c1", "/ns")
    assert result["interfaces"] == [{"name": "second"}]
    first, second = recorded.take()
    assert (first["as"], second["as"]) == ("first", "second")
    assert first["config"] == {"type": "first", "mine": 1, "cniVersion": "1.1.0", "name": "net"}
    assert second["config"]["prevResult"]["interfaces"] == [{"name": "first"}]


def test_a_plugin_gets_the_capabilities_that_it_declares_and_no_others(recorded: Recorded) -> None:
    offered = {"portMappings": [{"hostPort": 1}], "mac": "02:00:00:00:00:01"}
    recorded.runtime().add(two(), "c1", "/ns", "eth0", offered)
    first, second = recorded.take()
    assert "runtimeConfig" not in first["config"]
    assert second["config"]["runtimeConfig"] == {"portMappings": [{"hostPort": 1}]}
    assert "capabilities" not in second["config"]


def test_del_runs_backwards_with_the_final_result_and_the_arguments_of_add(
    recorded: Recorded,
) -> None:
    runtime = recorded.runtime()
    runtime.add(two(), "c1", "/ns", "eth0", {"portMappings": []}, arguments=[("A", "b")])
    recorded.take()
    recorded.runtime().delete(two(), "c1", "/ns")
    second, first = recorded.take()
    assert (second["as"], first["as"]) == ("second", "first")
    assert first["config"]["prevResult"]["interfaces"] == [{"name": "second"}]
    assert second["config"]["runtimeConfig"] == {"portMappings": []}
    assert first["args"] == "A=b"
    recorded.runtime().delete(two(), "c1", "/ns")
    assert all("prevResult" not in call["config"] for call in recorded.take())


def test_del_of_an_old_version_carries_no_result(recorded: Recorded) -> None:
    recorded.runtime().add(two("0.3.1"), "c1", "/ns")
    recorded.take()
    recorded.runtime().delete(two("0.3.1"), "c1", "/ns")
    assert all("prevResult" not in call["config"] for call in recorded.take())


def test_a_damaged_cache_file_does_not_keep_a_del_from_its_work(recorded: Recorded) -> None:
    recorded.runtime().add(two(), "c1", "/ns")
    (recorded.folder / "cache/results/net-c1-eth0").write_text("{")
    recorded.take()
    recorded.runtime().delete(two(), "c1", "/ns")
    assert [call["command"] for call in recorded.take()] == ["DEL", "DEL"]
    assert not list((recorded.folder / "cache/results").iterdir())


def test_a_failed_del_is_remembered_so_that_it_can_be_repeated(recorded: Recorded) -> None:
    recorded.runtime().add(two(), "c1", "/ns")
    with pytest.raises(PluginFailed) as failed:
        recorded.runtime(fail="DEL").delete(two(), "c1", "/ns")
    assert failed.value.code == codes.TRY_AGAIN_LATER
    recorded.take()
    recorded.runtime().delete(two(), "c1", "/ns")
    assert all("prevResult" in call["config"] for call in recorded.take())


def test_gc_deletes_what_is_not_valid_and_then_tells_every_plugin(recorded: Recorded) -> None:
    for container in ("keep", "gone"):
        recorded.runtime().add(two(), container, "/ns")
    recorded.take()
    recorded.runtime().gc(two(), {("keep", "eth0")})
    calls = recorded.take()
    assert [(c["as"], c["command"], c["id"]) for c in calls] == [
        ("second", "DEL", "gone"),
        ("first", "DEL", "gone"),
        ("first", "GC", ""),
        ("second", "GC", ""),
    ]
    for key in ("cni.dev/valid-attachments", "cni.dev/attachments"):
        assert calls[-1]["config"][key] == [{"containerID": "keep", "ifname": "eth0"}]


def test_gc_goes_on_after_a_failure_and_reports_it(recorded: Recorded) -> None:
    recorded.runtime().add(two(), "gone", "/ns")
    recorded.take()
    with pytest.raises(PluginFailed):
        recorded.runtime(fail="DEL").gc(two(), set())
    assert [call["command"] for call in recorded.take()] == ["DEL", "GC", "GC"]


@pytest.mark.parametrize("version", ["0.3.0", "0.3.1"])
def test_check_is_refused_before_0_4_0(recorded: Recorded, version: str) -> None:
    with pytest.raises(InvalidConfig, match="has no CHECK"):
        recorded.runtime().check(two(version), "c1", "/ns")


def test_check_and_gc_are_left_out_where_the_list_says_so(recorded: Recorded) -> None:
    conflist = two(disableCheck="true", disableGC=True)
    recorded.runtime().check(conflist, "c1", "/ns")
    recorded.runtime().gc(conflist, set())
    assert not recorded.record.exists()


def test_status_is_asked_from_1_1_0_on(recorded: Recorded) -> None:
    recorded.runtime().status(two("1.0.0"))
    assert not recorded.record.exists()
    with pytest.raises(PluginFailed):
        recorded.runtime(fail="STATUS").status(two())


@pytest.mark.parametrize(
    ("document", "field"),
    [
        ([], "conflist"),
        ({"plugins": [{"type": "first"}]}, "name"),
        ({"name": "a/b", "plugins": [{"type": "first"}]}, "name"),
        ({"name": "net", "plugins": []}, "plugins"),
        ({"name": "net", "plugins": [{"type": "../sh"}]}, r"plugins\[0\].type"),
        ({"name": "net", "cniVersion": "9.0.0", "plugins": [{"type": "x"}]}, "cniVersions"),
    ],
)
def test_a_list_that_cannot_be_run_names_the_field(document: Any, field: str) -> None:
    with pytest.raises(InvalidConfig, match=field):
        Conflist.parse(document)


def test_the_newest_version_that_both_sides_know_is_spoken() -> None:
    conflist = two("0.4.0", cniVersions=["1.0.0", "1.1.0", "2.0.0"])
    assert conflist.version == "1.1.0"


def test_debians_bridge_and_portmap_serve_a_whole_life(
    make_netns: Callable[[str], Any], tmp_path: Path
) -> None:
    host, box = make_netns("host"), make_netns("box")
    plugins = [
        {
            "type": "bridge",
            "bridge": "br0",
            "isGateway": True,
            "ipam": {"type": "host-local", "subnet": "10.9.0.0/24", "dataDir": str(tmp_path)},
        },
        {"type": "tuning", "sysctl": {"net.ipv4.conf.all.log_martians": "1"}},
    ]
    conflist = Conflist.parse({"cniVersion": "1.0.0", "name": "net", "plugins": plugins})
    prefix = ["nsenter", f"--net={host.path}"]
    runtime = Runtime([DEBIAN], tmp_path / "cache", prefix=prefix)
    assert "1.0.0" in runtime.versions("bridge")
    result = runtime.add(conflist, "c1", box.path)
    assert result["ips"][0]["address"] == "10.9.0.2/24"
    runtime.check(conflist, "c1", box.path)
    host.run("ip", "link", "del", "br0")
    with pytest.raises(PluginFailed):
        runtime.check(conflist, "c1", box.path)
    runtime.delete(conflist, "c1", box.path)
    runtime.delete(conflist, "c1", box.path)
    assert [link["ifname"] for link in box.json("ip", "-j", "link")] == ["lo"]
