"""docker-opts: flannel's outputs, and daemon.json with nothing lost."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.cli.conftest import Said

from netloom.drivers.docker.daemon_json import DaemonJson

ENV = """\
FLANNEL_NETWORK=10.1.0.0/16
FLANNEL_SUBNET=10.1.74.1/24
FLANNEL_MTU=1472
FLANNEL_IPMASQ=false
"""
SINGLE = """\
DOCKER_OPT_BIP="--bip=10.1.74.1/24"
DOCKER_OPT_IPMASQ="--ip-masq=true"
DOCKER_OPT_MTU="--mtu=1472"
"""
COMBINED = 'DOCKER_OPTS=" --bip=10.1.74.1/24 --ip-masq=true --mtu=1472"\n'


@pytest.fixture
def env(tmp_path: Path) -> Path:
    path = tmp_path / "subnet.env"
    path.write_text(ENV)
    return path


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ([], SINGLE + COMBINED),
        (["-i"], SINGLE),
        (["-c"], COMBINED),
        (["-i", "-c"], SINGLE + COMBINED),
        (["-k", "CUSTOM_KEY"], SINGLE + COMBINED.replace("DOCKER_OPTS", "CUSTOM_KEY")),
        (["-c", "-m"], 'DOCKER_OPTS=" --bip=10.1.74.1/24 --mtu=1472"\n'),
    ],
)
def test_the_outputs_are_those_of_flannels_script(
    netloom: Callable[..., Said], env: Path, tmp_path: Path, options: list[str], wanted: str
):
    target = tmp_path / "docker_opts.env"
    assert netloom("docker-opts", "-f", str(env), "-d", str(target), *options).code == 0
    assert target.read_text() == wanted
    assert netloom("docker-opts", "-f", str(env), "-d", "-", *options).out == wanted


def test_variables_name_the_files_where_a_host_has_them_elsewhere(
    netloom: Callable[..., Said], env: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """As on a lab's host."""
    monkeypatch.setenv("NETLOOM_SUBNET_FILE", str(env))
    monkeypatch.setenv("NETLOOM_DAEMON_JSON", str(tmp_path / "daemon.json"))
    assert netloom("docker-opts", "--write").code == 0
    assert json.loads((tmp_path / "daemon.json").read_text())["bip"] == "10.1.74.1/24"


def test_where_we_masquerade_docker_does_not(netloom: Callable[..., Said], env: Path):
    env.write_text(ENV.replace("false", "true"))
    assert "--ip-masq=false" in netloom("docker-opts", "-f", str(env), "-d", "-").out


def test_a_subnet_env_that_is_missing_or_a_key_that_no_shell_takes_is_told(
    netloom: Callable[..., Said], env: Path, tmp_path: Path
):
    said = netloom("docker-opts", "-f", str(tmp_path / "none"), "-d", "-")
    assert (said.code, "no such file" in said.err) == (6, True)
    said = netloom("docker-opts", "-f", str(env), "-d", "-", "-k", "a b")
    assert (said.code, "'a b'" in said.err) == (3, True)


DAEMON = """\
{
  "log-driver": "json-file",
  "log-opts": {"max-size": "10m", "ratio": 1.50},
  "bip": "172.17.0.1/16",
  "registry-mirrors": [ "https://a" ]
}
"""


def test_daemon_json_keeps_every_key_and_its_looks(
    netloom: Callable[..., Said], env: Path, tmp_path: Path
):
    path = tmp_path / "daemon.json"
    path.write_text(DAEMON)
    path.chmod(0o600)
    if os.geteuid() == 0:
        os.chown(path, 65534, 65534)
    before = path.stat()
    assert netloom("docker-opts", "-f", str(env), "--write", "--daemon-json", str(path)).code == 0
    assert path.read_text() == DAEMON.replace("172.17.0.1/16", "10.1.74.1/24").replace(
        '"https://a" ]\n', '"https://a" ],\n  "mtu": 1472\n'
    )
    after = path.stat()
    assert stat.S_IMODE(after.st_mode) == 0o600
    assert (after.st_uid, after.st_gid) == (before.st_uid, before.st_gid)
    said = netloom("docker-opts", "-f", str(env), "--write", "--daemon-json", str(path))
    assert "says so already" in said.out
    assert path.stat().st_ino == after.st_ino
    assert sorted(os.listdir(tmp_path)) == ["daemon.json", "subnet.env"]


def test_an_absent_or_blank_daemon_json_is_made(
    netloom: Callable[..., Said], env: Path, tmp_path: Path
):
    for path in (tmp_path / "docker" / "daemon.json", tmp_path / "blank.json"):
        if path.name == "blank.json":
            path.write_text("\n")
        assert (
            netloom("docker-opts", "-f", str(env), "--write", "--daemon-json", str(path)).code == 0
        )
        assert json.loads(path.read_text()) == {"bip": "10.1.74.1/24", "mtu": 1472}
        assert stat.S_IMODE(path.stat().st_mode) == 0o644


def test_a_link_stays_a_link(netloom: Callable[..., Said], env: Path, tmp_path: Path):
    real, link = tmp_path / "real.json", tmp_path / "daemon.json"
    real.write_text("{}")
    link.symlink_to(real)
    assert netloom("docker-opts", "-f", str(env), "--write", "--daemon-json", str(link)).code == 0
    assert link.is_symlink()
    assert json.loads(real.read_text())["mtu"] == 1472


def test_masquerading_is_named_where_dockers_default_would_be_wrong(
    netloom: Callable[..., Said], env: Path, tmp_path: Path
):
    path = tmp_path / "daemon.json"
    env.write_text(ENV.replace("false", "true"))
    netloom("docker-opts", "-f", str(env), "--write", "--daemon-json", str(path))
    assert json.loads(path.read_text())["ip-masq"] is False
    env.write_text(ENV)
    netloom("docker-opts", "-f", str(env), "--write", "--daemon-json", str(path))
    assert json.loads(path.read_text())["ip-masq"] is True


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b'{"bip": "1.1.1.1/24",}', "not JSON"),
        (b"// comment\n{}", "line 1 column 1"),
        (b"[]", "expected an object"),
        (b'{"a": "\xff"}', "not UTF-8"),
    ],
)
def test_a_daemon_json_that_is_not_json_is_left_untouched(
    netloom: Callable[..., Said], env: Path, tmp_path: Path, text: bytes, words: str
):
    path = tmp_path / "daemon.json"
    path.write_bytes(text)
    said = netloom("docker-opts", "-f", str(env), "--write", "--daemon-json", str(path))
    assert said.code == 3
    assert words in said.err
    assert "untouched" in said.err
    assert path.read_bytes() == text


SCALARS = st.none() | st.booleans() | st.integers() | st.text(max_size=5)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner)
)


@given(
    st.dictionaries(st.text(max_size=4) | st.sampled_from(["bip", "mtu"]), VALUES, max_size=5),
    st.sampled_from([None, 0, 1, 2, 4, "\t"]),
)
def test_whatever_the_file_holds_only_the_wanted_keys_change(
    data: dict[str, object], indent: int | str | None
):
    wanted = {"bip": "10.1.74.1/24", "mtu": 1472, "ip-masq": False}
    text = json.dumps(data, indent=indent)
    after = DaemonJson.parse(text).with_keys(wanted)
    assert json.loads(after) == {**data, **wanted}
    assert DaemonJson.parse(after).with_keys(wanted) == after
    assert "\n" not in after or "\n" in text or not data


def test_of_a_key_that_stands_twice_the_one_that_counts_is_set():
    after = DaemonJson.parse('{"mtu": 1, "x": {"mtu": 2}, "mtu": 3}').with_keys({"mtu": 9})
    assert after == '{"mtu": 1, "x": {"mtu": 2}, "mtu": 9}'


def test_true_is_not_one():
    assert DaemonJson.parse('{"ip-masq": 1}').with_keys({"ip-masq": True}) == '{"ip-masq": true}'
