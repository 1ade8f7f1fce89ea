"""An etcd URL is understood or refused with the remedy; a password in it is never repeated."""

from __future__ import annotations

from pathlib import Path

import pytest

from netloom.model.errors import InvalidConfig
from netloom.store.etcd.url import PASSWORD_VARIABLE, Endpoint, TlsFiles, parse_url

SECRET = {PASSWORD_VARIABLE: "s3cret"}


def test_endpoints_are_names_and_addresses_of_both_families():
    url = parse_url("etcd://h1:2379,192.168.31.62:4001,[fd00::3]:2379,h1:2379", {})
    assert url.endpoints == (
        Endpoint("h1", 2379),
        Endpoint("192.168.31.62", 4001),
        Endpoint("fd00::3", 2379),
    )
    assert [str(endpoint) for endpoint in url.endpoints][2] == "[fd00::3]:2379"
    assert url.tls is None


@pytest.mark.parametrize("scheme", ["etcds", "etcd+tls"])
def test_tls_takes_files_or_the_systems_authorities(scheme: str):
    assert parse_url(f"{scheme}://h:1", {}).tls == TlsFiles()
    url = parse_url(f"{scheme}://h:1?ca=/a.pem&cert=/c.pem&key=/k.pem", {})
    assert url.tls == TlsFiles("/a.pem", "/c.pem", "/k.pem")


def test_the_password_comes_from_the_environment_or_from_a_file(tmp_path: Path):
    file = tmp_path / "password"
    file.write_text("from file\n")
    assert parse_url("etcd://h:1?user=ann", SECRET).password == "s3cret"
    assert parse_url(f"etcd://h:1?user=ann&password-file={file}", SECRET).password == "from file"
    assert "s3cret" not in repr(parse_url("etcd://h:1?user=ann", SECRET))


def test_a_prefix_is_kept_for_all_keys():
    assert parse_url("etcd://h:1?prefix=/tenant-a", {}).prefix == "/tenant-a"


@pytest.mark.parametrize(
    ("url", "message", "hint"),
    [
        ("http://h1:2379", "unknown scheme 'http'", "etcd:// or, with TLS, etcds://"),
        ("etcd://", "is no endpoint", "host:port"),
        ("etcd://h1:2379,", "is no endpoint", "host:port"),
        ("etcd://h1", "endpoint 'h1' has no port", "h1:2379"),
        ("etcd://h1:", "has no port", "h1:2379"),
        ("etcd://h1:0", "has no port", "2379"),
        ("etcd://h1:99999", "endpoint 'h1:99999'", "etcd://"),
        ("etcd://h1:x", "endpoint 'h1:x'", "etcd://"),
        ("etcd://:2379", "is no endpoint", "host:port"),
        ("etcd://fd00::3:2379", "endpoint 'fd00::3:2379'", "etcd://"),
        ("etcd://http://h1:2379", "", ""),
        ("etcd://h1:2379/netloom", "a path has no meaning", "?prefix=/netloom"),
        ("etcd://h1:2379?cacert=/x", "unknown option 'cacert'", "did you mean 'cert'?"),
        ("etcd://h1:2379?ca", "options 'ca'", "name=value"),
        ("etcds://h1:2379?ca=", "option 'ca' is empty", ""),
        ("etcds://h1:2379?ca=/a&ca=/b", "option 'ca' is twice", ""),
        ("etcd://h1:2379?ca=/a", "etcd:// is without TLS", "etcds://"),
        ("etcds://h1:2379?cert=/a", "needs its key too", "&key="),
        ("etcds://h1:2379?key=/a", "needs its cert too", "&cert="),
        ("etcd://h1:2379?user=ann", "user 'ann' needs a password", PASSWORD_VARIABLE),
        ("etcd://h1:2379?password-file=/x", "no user", "&user="),
        ("etcd://h1:2379?user=a&password-file=/no/such", "No such file", "name a file"),
    ],
)
def test_a_wrong_url_is_refused_with_the_remedy(url: str, message: str, hint: str):
    with pytest.raises(InvalidConfig) as caught:
        parse_url(url, {})
    assert caught.value.field == "datastore"
    assert message in str(caught.value)
    assert hint in caught.value.hint


@pytest.mark.parametrize("url", ["etcd://ann:hush@h1:2379", "etcd://h1:2379?user=a&password=hush"])
def test_a_password_in_a_url_is_refused_without_being_repeated(url: str):
    with pytest.raises(InvalidConfig) as caught:
        parse_url(url, {})
    assert "hush" not in f"{caught.value} {caught.value.hint} {caught.value.value}"
    assert PASSWORD_VARIABLE in caught.value.hint
