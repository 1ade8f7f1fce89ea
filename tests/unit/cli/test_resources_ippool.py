"""IPPools: views of networks' pools, changed under the rules that every change of a network has."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from netloom.model import keys
from netloom.model.host import Host

Netloom = Callable[..., Any]
File = Callable[[str], str]

POOL = """\
apiVersion: projectcalico.org/v3
kind: IPPool
metadata:
  name: default-ipv4-ippool
spec:
  cidr: 10.244.0.0/16
  blockSize: 26
  vxlanMode: Always
  natOutgoing: true
  nodeSelector: all()
"""
SECOND = POOL.replace("default-ipv4-ippool", "second").replace("10.244", "10.245")


@pytest.fixture
def file(tmp_path: Path) -> File:
    def write(text: str) -> str:
        path = tmp_path / "pools.yaml"
        path.write_text(text)
        return str(path)

    return write


def test_the_first_pool_makes_the_network(netloom: Netloom, file: File) -> None:
    assert netloom("create", "-f", file(POOL)).code == 0
    network = netloom("network", "show", "calico", "-o", "json").data
    assert network["pools"] == [
        {
            "cidr": "10.244.0.0/16",
            "blockSize": 26,
            "natOutgoing": True,
            "name": "default-ipv4-ippool",
        }
    ]
    assert network["attachment"] == {"type": "routed"}
    assert network["backend"] == {
        "type": "vxlan",
        "vni": 4096,
        "port": 4789,
        "device": "vxlan.calico",
    }
    assert netloom("get", "ippools", "-o", "wide").out == (
        "NAME                  CIDR            NAT    IPIPMODE   VXLANMODE   DISABLED   "
        "DISABLEBGPEXPORT   SELECTOR   ASSIGNMENTMODE   \n"
        "default-ipv4-ippool   10.244.0.0/16   true   Never      Always      false      "
        "false              all()      Automatic        \n\n"
    )


def test_the_pool_of_any_network_is_an_ippool(netloom: Netloom) -> None:
    netloom("network", "create", "blue", "--preset", "flannel")
    got = netloom("get", "ippool", "blue-ipv4-ippool", "-o", "json").data
    assert got["metadata"]["annotations"] == {"netloom/network": "blue"}
    assert got["spec"]["vxlanMode"] == "Always"
    assert (
        netloom("patch", "ippool", "blue-ipv4-ippool", "-p", '{"spec":{"disabled":true}}').code == 0
    )
    network = netloom("network", "show", "blue", "-o", "json").data
    assert network["pools"][0]["disabled"] is True


def test_two_documents_become_two_pools_of_one_network(netloom: Netloom, file: File) -> None:
    assert netloom("apply", "-f", file(f"{POOL}---\n{SECOND}")).code == 0
    network = netloom("network", "show", "calico", "-o", "json").data
    assert [pool["name"] for pool in network["pools"]] == ["default-ipv4-ippool", "second"]
    assert network["backend"]["type"] == "vxlan"


def test_pools_with_modes_of_their_own_divide_the_network(netloom: Netloom, file: File) -> None:
    text = f"{POOL}---\n{SECOND.replace('Always', 'CrossSubnet')}"
    assert netloom("apply", "-f", file(text)).code == 0
    network = netloom("network", "show", "calico", "-o", "json").data
    assert network["backend"]["type"] == "per-pool"
    modes = netloom("get", "ippools", "-o", "custom-columns=NAME,VXLANMODE").out.split()
    assert modes == ["NAME", "VXLANMODE", "default-ipv4-ippool", "Always", "second", "CrossSubnet"]
    assert netloom("delete", "ippool", "second").code == 0
    network = netloom("network", "show", "calico", "-o", "json").data
    assert network["backend"]["type"] == "vxlan"
    assert network["retiring"][0]["type"] == "per-pool", "the hosts follow one after the other"


def test_another_mode_moves_the_network(netloom: Netloom, file: File) -> None:
    netloom("apply", "-f", file(POOL))
    change = '{"spec": {"vxlanMode": "CrossSubnet"}}'
    assert netloom("patch", "ippool", "default-ipv4-ippool", "-p", change).code == 0
    network = netloom("network", "show", "calico", "-o", "json").data
    assert network["backend"]["directRouting"] is True
    assert network["moves"] == 1


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("cidr: 10.244.0.0/16", "cidr: 10.244.0.1/16", "spec.cidr"),
        ("cidr: 10.244.0.0/16", "cidr: 10.0.0.0/8", "cannot become 10.0.0.0/8"),
        ("blockSize: 26", "blockSize: 12", "spec.blockSize"),
        ("blockSize: 26", "blockSize: 33", "spec.blockSize"),
        ("vxlanMode: Always", "vxlanMode: Sometimes", "Never, CrossSubnet, Always"),
        ("vxlanMode: Always", "vxlanMode: Always\n  ipipMode: Always", "exclude each other"),
        ("nodeSelector: all()", "nodeSelector: rack ==", "position 8"),
        ("natOutgoing: true", "natOutgoin: true", "did you mean 'natOutgoing'?"),
        ("name: default-ipv4-ippool", "name: third", "as IPPool(default-ipv4-ippool)"),
    ],
)
def test_bad_input_is_refused_and_nothing_is_written(
    netloom: Netloom, file: File, old: str, new: str, words: str
) -> None:
    netloom("apply", "-f", file(POOL))
    before = netloom("network", "show", "calico", "-o", "json").data
    said = netloom("apply", "-f", file(POOL.replace(old, new)))
    assert said.code == 3
    assert words in said.err
    assert "pools.yaml:" in said.err
    assert netloom("network", "show", "calico", "-o", "json").data == before


def test_a_pool_whose_addresses_are_in_use_is_not_deleted(
    netloom: Netloom, file: File, put: Callable[[str, Any], int]
) -> None:
    netloom("apply", "-f", file(f"{POOL}---\n{SECOND}"))
    block = {"network": "calico", "cidr": "10.245.0.0/26", "host": "h1", "state": "confirmed"}
    put("/netloom/v1/cluster/blocks/calico/10.245.0.0-26", block)
    endpoint = {
        "network": "calico",
        "host": "h1",
        "container": "web",
        "ifname": "eth0",
        "netns": "/run/netns/x",
        "hostIfname": "cali1",
        "mac": "02:00:00:00:00:01",
        "addresses": ["10.245.0.2"],
        "attached": True,
    }
    key = "/netloom/v1/endpoints/h1/calico/web/eth0"
    put(key, endpoint)
    said = netloom("delete", "ippool", "second")
    assert said.code == 4
    assert "calico.web.eth0" in said.err
    put(key, {**endpoint, "addresses": ["10.244.0.2"]})
    assert netloom("delete", "ippool", "second").code == 0
    assert netloom("ipam", "show", "-o", "json").data is not None
    assert netloom("get", "ippools").out.split()[3:] == [
        "default-ipv4-ippool",
        "10.244.0.0/16",
        "all()",
    ]


def test_what_a_pool_does_not_keep_is_said(netloom: Netloom, file: File) -> None:
    metadata = "metadata:\n  labels: {rack: a}\n  annotations: {note: x}"
    said = netloom("apply", "-f", file(POOL.replace("metadata:", metadata)))
    assert said.code == 0
    assert "metadata.labels has no effect here: a pool keeps none" in said.err
    assert "metadata.annotations has no effect here" in said.err
    said = netloom("label", "ippool", "default-ipv4-ippool", "rack=1")
    assert (said.code, "keeps no labels" in said.err) == (3, True)


@pytest.mark.parametrize("name", ["blue", "Not A Name", "''"])
def test_a_pool_stays_in_its_network(netloom: Netloom, file: File, name: str) -> None:
    netloom("apply", "-f", file(POOL))
    metadata = f"metadata:\n  annotations: {{netloom/network: {name}}}"
    said = netloom("apply", "-f", file(POOL.replace("metadata:", metadata)))
    assert said.code == 3
    assert "pools.yaml:4: metadata.annotations.netloom/network" in said.err


def test_what_is_exported_can_be_applied_elsewhere(
    netloom: Netloom, file: File, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    text = "---\nkind: IPReservation\nmetadata: {name: lab}\nspec: {reservedCIDRs: [10.244.0.1]}\n"
    netloom("apply", "-f", file(f"{POOL}---\n{SECOND.replace('Always', 'CrossSubnet')}{text}"))
    exported = netloom("get", "all", "-o", "yaml", "--export").out
    monkeypatch.setenv("NETLOOM_DATASTORE", f"sqlite://{tmp_path}/other.db")
    assert netloom("apply", "-f", file(exported)).code == 0
    assert netloom("get", "all", "-o", "yaml", "--export").out == exported


def test_a_new_pool_goes_to_the_network_that_is_as_calicos(netloom: Netloom, file: File) -> None:
    netloom("network", "create", "blue", "--preset", "calico")
    netloom("network", "create", "bridges", "--preset", "flannel")
    assert netloom("apply", "-f", file(SECOND)).code == 0
    names = [each["name"] for each in netloom("network", "list", "-o", "json").data]
    assert names == ["blue", "bridges"]
    got = netloom("get", "pool", "second", "-o", "json").data
    assert got["metadata"]["annotations"] == {"netloom/network": "blue"}


@pytest.mark.parametrize(
    "word",
    ["ippool", "IPPools", "pool", "ipps", "no", "nos", "weps", "bgpp", "ipamconfigs", "pros"],
)
def test_kinds_have_calicoctls_short_names(netloom: Netloom, word: str) -> None:
    netloom("network", "create", "blue", "--preset", "flannel")
    assert netloom("get", word).code == 0


def test_a_network_that_cannot_be_is_told_in_words_of_the_pool(
    netloom: Netloom, file: File
) -> None:
    netloom("apply", "-f", file(POOL))
    said = netloom("apply", "-f", file(SECOND.replace("10.245.0.0/16", "10.244.8.0/24")))
    assert (
        "pools.yaml:6: spec.cidr: 10.244.8.0/24 overlaps IPPool(default-ipv4-ippool) " in said.err
    )
    six = SECOND.replace("10.245.0.0/16", "fd00::/64").replace("blockSize: 26", "blockSize: 122")
    said = netloom("apply", "-f", file(six.replace("vxlanMode", "ipipMode")))
    assert "pools.yaml:8: spec.ipipMode: backend ipip does not carry IPv6" in said.err


def test_a_mode_that_a_hosts_kernel_cannot_make_is_refused_at_its_field(
    netloom: Netloom, file: File, put: Callable[[str, Any], int]
) -> None:
    """Nothing is written, whichever verb asks; the remedy is in the words of a pool."""
    netloom("apply", "-f", file(POOL))
    one = Host("1a", "h1", devices={"ipip": False, "vxlan": True})
    put(keys.host_key("1a"), one.render())
    before = netloom("network", "show", "calico", "-o", "json").data
    change = '{"spec": {"vxlanMode": "Never", "ipipMode": "CrossSubnet"}}'
    third = SECOND.replace("vxlanMode: Always", "ipipMode: Always")
    for said, place in (
        (netloom("patch", "ippool", "default-ipv4-ippool", "-p", change), "spec.ipipMode: "),
        (netloom("apply", "-f", file(third)), "pools.yaml:8: spec.ipipMode: "),
    ):
        assert said.code == 3
        assert f"{place}it needs links of type ipip, which the kernel cannot make on h1" in said.err
        assert "ipipMode: Never, vxlanMode: " in said.err
    assert netloom("network", "show", "calico", "-o", "json").data == before
