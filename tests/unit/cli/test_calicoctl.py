"""calicoctl's command line: its configuration in both forms, its words, its options anywhere."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from netloom.cli import calicoctl, calicoctl_config
from netloom.model.errors import InvalidConfig

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
    [(["gte", "nodes"], "'get'"), (["convert", "-f", "x"], "as they are"), (["get", "-c"], "-c")],
)
def test_what_it_does_not_have_is_answered_with_a_reason(args: list[str], hint: str) -> None:
    with pytest.raises(InvalidConfig) as caught:
        calicoctl.run(args, {})
    assert hint in caught.value.hint
