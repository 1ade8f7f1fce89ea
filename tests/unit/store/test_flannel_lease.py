"""flannel's leases and subnet.env, byte for byte as its own documents and tests have them."""

from __future__ import annotations

import ipaddress
import os
import stat
from pathlib import Path

import pytest

from netloom.model.errors import InvalidConfig, NetloomError, NotPermitted, Unavailable
from netloom.store.flannel.config import FlannelConfig
from netloom.store.flannel.lease import Lease, of_host, parse_key, render_key
from netloom.store.flannel.subnet_env import SubnetEnv, write_file

MAC = "c6:d2:32:6f:8f:44"
PUBLIC = ipaddress.IPv4Address("192.168.64.3")
PUBLIC6 = ipaddress.IPv6Address("fd00:64::3")
VXLAN = (
    b'{"PublicIP":"192.168.64.3","PublicIPv6":null,"BackendType":"vxlan",'
    b'"BackendData":{"VNI":1,"VtepMAC":"c6:d2:32:6f:8f:44"}}'
)
DUAL = (
    b'{"PublicIP":"192.168.64.3","PublicIPv6":"fd00:64::3","BackendType":"vxlan",'
    b'"BackendData":{"VNI":1,"VtepMAC":"c6:d2:32:6f:8f:44"},'
    b'"BackendV6Data":{"VNI":1,"VtepMAC":"c6:d2:32:6f:8f:44"}}'
)
HOST_GW = b'{"PublicIP":"192.168.64.3","PublicIPv6":null,"BackendType":"host-gw"}'
UDP = b'{"PublicIP":"192.168.64.3","PublicIPv6":null}'


def config(backend: str) -> FlannelConfig:
    return FlannelConfig.parse(f'{{"Network":"10.5.0.0/16","Backend":{{"Type":"{backend}"}}}}')


@pytest.mark.parametrize(
    ("backend", "dual", "golden"),
    [
        ("vxlan", False, VXLAN),
        ("vxlan", True, DUAL),
        ("host-gw", False, HOST_GW),
        ("udp", False, UDP),
    ],
)
def test_a_lease_of_ours_has_the_bytes_of_flannels(backend: str, dual: bool, golden: bytes):
    lease = of_host(config(backend), (PUBLIC, PUBLIC6), MAC, dual=dual)
    assert lease.render() == golden
    assert Lease.parse(golden) == lease
    assert lease.mismatch(config(backend), dual) == ""


def test_a_host_without_an_address_cannot_lease():
    with pytest.raises(InvalidConfig, match="no IPv4 underlay address"):
        of_host(config("udp"), (None, None), "", dual=False)
    with pytest.raises(InvalidConfig, match="no IPv6 underlay address"):
        of_host(config("vxlan"), (PUBLIC, None), MAC, dual=True)


def test_go_escapes_what_could_be_markup():
    lease = Lease(PUBLIC, None, "extension", "a<b>&c")
    assert lease.render().endswith(b'"BackendData":"a\\u003cb\\u003e\\u0026c"}')
    assert Lease.parse(lease.render()) == lease


@pytest.mark.parametrize("text", ["10.5.52.0-24", "10.5.52.0-24&fd00:10::-64"])
def test_a_key_is_rendered_as_it_was_read(text: str):
    cidrs = parse_key(text)
    assert render_key(cidrs) == text
    assert str(cidrs[0]) == "10.5.52.0/24"


@pytest.mark.parametrize(
    "text",
    [
        "x",
        "",
        "10.5.52.0/24",
        "10.5.52.1-24",
        "10.5.52.0-33",
        "010.5.52.0-24",
        "10.5.52.0-24&",
        "10.5.52.0-24&FD00::-64",
        "10.5.52.0-24&10.6.0.0-24",
        "10.5.52.0-24 ",
        "fd00::-64",
    ],
)
def test_a_key_that_flannel_would_not_write_is_none(text: str):
    with pytest.raises(InvalidConfig):
        parse_key(text)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (b"y", "not JSON.*line 1 column 1"),
        (b"{}", "PublicIP: None is not an IPv4 address"),
        (b'{"PublicIP":"fd00::1"}', "is not an IPv4 address"),
        (b'{"PublicIP":"1.2.3.4","BackendType":7}', "BackendType: 7 is not a text"),
    ],
)
def test_a_value_that_is_no_lease_says_what_is_wrong(value: bytes, message: str):
    with pytest.raises(InvalidConfig, match=message):
        Lease.parse(value)


@pytest.mark.parametrize(
    ("value", "backend", "reason"),
    [
        (HOST_GW, "vxlan", "BackendType is 'host-gw', the network's backend is 'vxlan'"),
        (VXLAN, "host-gw", "BackendType is 'vxlan'"),
        (VXLAN, "udp", "BackendType is 'vxlan'"),
        (VXLAN.replace(b'"VNI":1', b'"VNI":2'), "vxlan", "BackendData.VNI is 2"),
        (VXLAN.replace(b"c6:d2", b"zz:d2"), "vxlan", "not a MAC address"),
        (VXLAN.replace(b'"BackendData"', b'"Other"'), "vxlan", "not a MAC address"),
    ],
)
def test_a_lease_that_does_not_fit_the_backend_says_why(value: bytes, backend: str, reason: str):
    assert reason in Lease.parse(value).mismatch(config(backend), dual=False)


ENV = """\
FLANNEL_NETWORK=10.244.0.0/16
FLANNEL_SUBNET=10.244.1.1/24
FLANNEL_MTU=1450
FLANNEL_IPMASQ=true
"""
ENV_DUAL = """\
FLANNEL_NETWORK=10.244.0.0/16
FLANNEL_SUBNET=10.244.1.1/24
FLANNEL_IPV6_NETWORK=fd00:244::/48
FLANNEL_IPV6_SUBNET=fd00:244:0:1::1/64
FLANNEL_MTU=1430
FLANNEL_IPMASQ=false
"""


@pytest.mark.parametrize("text", [ENV, ENV_DUAL])
def test_subnet_env_is_rendered_as_it_was_read(text: str):
    assert SubnetEnv.parse(text).render() == text


def test_subnet_env_is_made_of_a_hosts_blocks():
    network, block = ipaddress.ip_network("10.244.0.0/16"), ipaddress.ip_network("10.244.1.0/24")
    assert SubnetEnv.of_blocks((network,), (block,), 1450, True).render() == ENV


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("", "FLANNEL_NETWORK: is missing"),
        (ENV.replace("FLANNEL_SUBNET", "X"), "FLANNEL_SUBNET: is missing"),
        (ENV.replace("1450", "big"), "FLANNEL_MTU: 'big'"),
        (ENV.replace("10.244.1.1", "10.244.1.x"), "FLANNEL_SUBNET: '10.244.1.x/24'"),
    ],
)
def test_a_subnet_env_that_lacks_something_names_it(text: str, name: str):
    with pytest.raises(InvalidConfig, match=name):
        SubnetEnv.parse(text)


def test_a_subnet_env_that_is_not_there_yet_can_be_waited_for(tmp_path: Path):
    with pytest.raises(Unavailable, match="no such file"):
        SubnetEnv.load(tmp_path / "subnet.env")


def test_the_file_is_written_in_one_step_and_only_when_it_changes(tmp_path: Path):
    path = tmp_path / "flannel" / "subnet.env"
    old = os.umask(0o077)
    try:
        assert write_file(path, ENV)
    finally:
        os.umask(old)
    first = path.stat()
    assert stat.S_IMODE(first.st_mode) == 0o644
    assert not write_file(path, ENV)
    assert path.stat().st_ino == first.st_ino
    assert write_file(path, ENV_DUAL)
    assert SubnetEnv.load(path).mtu_bytes == 1430
    assert os.listdir(path.parent) == ["subnet.env"]


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(NetloomError, match=r"file/subnet\.env") as caught:
        write_file(tmp_path / "file" / "subnet.env", ENV)
    assert isinstance(caught.value, (InvalidConfig, NotPermitted))
