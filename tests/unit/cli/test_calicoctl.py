"""calicoctl's command line: its configuration in both forms, its words, its options anywhere."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from netloom.cli import calicoctl, calicoctl_config, main
from netloom.model.datastore import Store
from netloom.model.errors import InvalidConfig, NotPermitted

V1 = """\
apiVersion: v1
kind: calicoApiConfig
metadata:
spec:
  datastoreType: "etcdv2"
  etcdEndpoints: "http://192.168.26.100:2379,http://192.168.26.101:2379,http://192.168.26.102:2379"
"""
V3 = """\
apiVersion: projectcalico.org/v3
kind: CalicoAPIConfig
metadata:
spec:
  datastoreType: etcdv3
  etcdEndpoints: https://etcd1:2379,https://etcd2:2379
  etcdKeyFile: /etc/calico/key.pem
  etcdCertFile: /etc/calico/cert.pem
  etcdCACertFile: /etc/calico/ca.pem
  etcdUsername: root
  etcdPassword: secret
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "calicoctl.cfg"


def test_the_v1_file_of_the_docker_era_is_read_as_it_is(file: Path) -> None:
    file.write_text(V1)
    place = calicoctl_config.find(str(file), {})
    assert place is not None
    assert place.url == "etcd://192.168.26.100:2379,192.168.26.101:2379,192.168.26.102:2379"


def test_the_v3_file_brings_certificates_and_a_password_that_no_url_shows(file: Path) -> None:
    file.write_text(V3)
    place = calicoctl_config.find(str(file), {})
    assert place is not None
    assert place.url == (
        "etcds://etcd1:2379,etcd2:2379?ca=%2Fetc%2Fcalico%2Fca.pem&cert=%2Fetc%2Fcalico%2Fcert.pem"
        "&key=%2Fetc%2Fcalico%2Fkey.pem&user=root"
    )
    assert place.password == "secret"
    assert "secret" not in repr(place)


@pytest.mark.parametrize("prefix", ["", "CALICO_"])
def test_variables_win_over_the_file(file: Path, prefix: str) -> None:
    file.write_text(V1)
    env = {f"{prefix}ETCD_ENDPOINTS": "https://h1:2379", f"{prefix}ETCD_CA_CERT_FILE": "/ca"}
    place = calicoctl_config.find(str(file), env)
    assert place is not None
    assert place.url == "etcds://h1:2379?ca=%2Fca"


@pytest.mark.parametrize(
    ("old", "new", "field"),
    [
        ("kind: calicoApiConfig", "kind: CalicoAPIConfig", "apiVersion"),
        ("etcdv2", "kubernetes", "spec.datastoreType"),
        ("etcdv2", "etcd", "spec.datastoreType"),
        ("etcdEndpoints", "etcdEndpoint", "spec.etcdEndpoint"),
        ("http://192.168.26.101", "ftp://192.168.26.101", "spec.etcdEndpoints"),
        ("http://192.168.26.101", "https://192.168.26.101", "spec.etcdEndpoints"),
        ("  etcdEndpoints", "  etcdCACert: x\n  etcdEndpoints", "spec.etcdCACert"),
    ],
)
def test_what_is_wrong_with_the_file_is_named(file: Path, old: str, new: str, field: str) -> None:
    file.write_text(V1.replace(old, new, 1))
    with pytest.raises(InvalidConfig) as caught:
        calicoctl_config.find(str(file), {})
    assert caught.value.field == field
    assert str(file) in str(caught.value) or field.startswith("spec.")


def test_a_file_that_was_named_must_be_there(file: Path) -> None:
    with pytest.raises(InvalidConfig, match="No such file"):
        calicoctl_config.find(str(file), {})


def test_options_stand_anywhere_and_the_datastore_is_that_of_the_file(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NETLOOM_DATASTORE", "sqlite:///elsewhere")
    file.write_text(V1)
    seen: list[list[str]] = []

    def verbs(args: list[str]) -> int:
        seen.append([os.environ["NETLOOM_DATASTORE"][:14], *args])
        return 0

    for args in (
        ["-c", str(file), "get", "nodes", "-o", "wide"],
        ["get", f"--config={file}", "nodes", "-o", "wide", "-l", "debug"],
        ["get", "nodes", "--allow-version-mismatch", "-o", "wide", "--config", str(file)],
    ):
        assert calicoctl.run(args, {}, verbs) == 0
    assert seen == [["etcd://192.168", "get", "nodes", "-o", "wide"]] * 3


@pytest.mark.parametrize(
    ("args", "hint"),
    [
        (["gte", "nodes"], "'get'"),
        (["datastore", "migrate"], "is not moved"),
        (["get", "-c"], "-c"),
    ],
)
def test_what_it_does_not_have_is_answered_with_a_reason(args: list[str], hint: str) -> None:
    with pytest.raises(InvalidConfig) as caught:
        calicoctl.run(args, {})
    assert hint in caught.value.hint


def test_the_version_is_of_the_program_and_of_the_cluster(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    assert calicoctl.run(["version"], {}) == 0
    words = [line.partition(":")[0] for line in capsys.readouterr().out.splitlines()]
    assert words == ["Client Version", "Cluster Version", "Cluster Type"]


def test_where_no_datastore_answers_the_version_is_of_the_program(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("NETLOOM_DATASTORE", f"sqlite://{tmp_path}/nothing.db")
    assert calicoctl.run(["version"], {}) == 6
    assert capsys.readouterr().out.startswith("Client Version:    netloom-")
    assert calicoctl.run(["version", "--client"], {}) == 0


def test_files_are_validated_and_converted_without_a_datastore(
    monkeypatch: pytest.MonkeyPatch, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("NETLOOM_DATASTORE", "sqlite:///nowhere/at/all.db")
    file.write_text(
        "apiVersion: v1\nkind: ipPool\nmetadata: {cidr: 192.168.0.0/16}\n"
        "spec: {ipip: {enabled: true, mode: cross-subnet}, nat-outgoing: true}\n"
    )
    assert calicoctl.run(["validate", "-f", str(file)], {}) == 0
    assert capsys.readouterr().out == "Successfully validated 1 'IPPool' resource(s)\n"
    assert calicoctl.run(["convert", "-f", str(file)], {}) == 0
    converted = capsys.readouterr().out
    assert yaml.safe_load(converted) == {
        "apiVersion": "projectcalico.org/v3",
        "kind": "IPPool",
        "metadata": {"name": "192-168-0-0-16"},
        "spec": {
            "cidr": "192.168.0.0/16",
            "ipipMode": "CrossSubnet",
            "natOutgoing": True,
            "disabled": False,
        },
    }
    file.write_text(f"{converted}---\n{converted}".replace("natOutgoing", "natOutgoin", 1))
    assert calicoctl.run(["validate", "-f", str(file)], {}) == 3
    assert f"{file}:8: spec.natOutgoin: unknown field" in capsys.readouterr().err
    file.write_text(converted)
    assert calicoctl.run(["convert", "-f", str(file), "-f", str(file), "-o", "json"], {}) == 0
    assert len(json.loads(capsys.readouterr().out)["items"]) == 2


def test_what_asks_no_datastore_needs_none_that_can_be_read(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file.write_text(V3.replace("etcdv3", "kubernetes"))
    with pytest.raises(InvalidConfig):
        calicoctl.run(["-c", str(file), "get", "nodes"], {})
    assert calicoctl.run(["-c", str(file), "version", "--client"], {}) == 0
    assert calicoctl.run(["-c", str(file), "get", "--help"], {}) == 0
    (file.parent / "f.yaml").write_text("kind: NetworkSet\nmetadata: {name: a}\nspec: {}\n")
    assert calicoctl.run(["-c", str(file), "validate", "-f", str(file.parent / "f.yaml")], {}) == 0


def test_a_reader_who_has_seen_enough_is_no_bug(url: str, tmp_path: Path) -> None:
    """As ``calicoctl get … | head``: what is left is more than the pipe holds."""
    nets = ", ".join(f"10.{n >> 8}.{n & 255}.0/24" for n in range(20_000))
    text = f"kind: GlobalNetworkSet\nmetadata: {{name: a}}\nspec: {{nets: [{nets}]}}\n"
    (tmp_path / "f.yaml").write_text(text)
    assert calicoctl.run(["apply", "-f", str(tmp_path / "f.yaml")], {}) == 0
    program = "from netloom.cli.calicoctl import main; main()"
    process = subprocess.Popen(
        [sys.executable, "-c", program, "get", "globalnetworksets", "-o", "yaml"],
        env={**os.environ, "PYTHONUNBUFFERED": ""},  # else Python loses what a pipe does not take
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    assert process.stdout.readline().startswith("apiVersion")
    process.stdout.close()
    assert process.stderr.read() == ""
    assert process.wait(timeout=100) == 141


@pytest.mark.parametrize(
    "args",
    [
        ["get", "--help"],
        ["get"],
        ["get", "bgppeer", "nobody"],
        ["get", "--nonsense"],
        ["label", "--help"],
        ["delete"],
        ["node", "--help"],
        ["node", "status", "--help"],
    ],
)
def test_it_speaks_of_itself_by_its_own_name(
    store: Store, capsys: pytest.CaptureFixture[str], args: list[str]
) -> None:
    calicoctl.run(args, {})
    said = "".join(capsys.readouterr())
    assert "calicoctl" in said
    assert not [line for line in said.splitlines() if "netloom " in line]


def test_what_only_netloom_has_is_called_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["get", "--help"]) == 0  # and what calicoctl is told stays with it
    assert "netloom get bgppeers" in capsys.readouterr().out


@pytest.mark.parametrize(
    "args",
    [
        ["node", "run", "--node-image=quay.io/calico/node:v2.6.12", "--name=a"],
        ["node", "run", "--felix-config", "/etc/calico/felix.cfg", "--name=a"],
        ["node", "run", "--disable-docker-networking", "--name=a"],
        ["get", "nodes", "--context=prod"],
        ["version", "--poll=1s"],
    ],
)
def test_options_that_mean_nothing_here_are_taken_and_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], args: list[str]
) -> None:
    monkeypatch.setattr(calicoctl_config, "DEFAULT_FILE", Path("/nowhere/calicoctl.cfg"))
    seen: list[list[str]] = []
    assert calicoctl.run(args, {}, lambda rest: seen.append(rest) or 0) == 0
    unused = next(arg.partition("=")[0] for arg in args[1:] if arg.startswith("--"))
    assert capsys.readouterr().err == f"note: {unused} has no effect here\n"
    assert [arg for arg in seen[0] if arg.startswith("--")] in (["--name=a"], [])


def test_an_option_of_another_command_is_not_swallowed() -> None:
    seen: list[list[str]] = []
    args = ["get", "nodes", "--node-image=x"]
    assert calicoctl.run(args, {}, lambda rest: seen.append(rest) or 0) == 0
    assert seen == [args]


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to be somebody else for a moment")
@pytest.mark.parametrize("closed", ["folder", "file"])
def test_a_configuration_that_may_not_be_read_is_no_bug(
    file: Path, monkeypatch: pytest.MonkeyPatch, closed: str
) -> None:
    file.parent.chmod(0o755)
    folder = file.parent / "calico"
    folder.mkdir(mode=0o700 if closed == "folder" else 0o755)
    (folder / file.name).write_text(V3)
    (folder / file.name).chmod(0o600)
    monkeypatch.setattr(calicoctl_config, "DEFAULT_FILE", folder / file.name)
    for path in (None, str(folder / file.name)):
        os.seteuid(65534)
        try:
            with pytest.raises(NotPermitted, match="may not be read"):
                calicoctl_config.find(path, {})
        finally:
            os.seteuid(0)
