"""Forwarding entries of vxlan devices: which host a MAC lives behind."""

from __future__ import annotations

import ipaddress
from dataclasses import replace

import pytest

from netloom.model.kernel import Fdb, Vxlan
from netloom.reconcile.contracts import Verb

MAC = "02:aa:00:00:00:63"


@pytest.fixture(params=["192.168.31.63", "fd31::63"], ids=["IPv4 underlay", "IPv6 underlay"])
def wanted(request, add, flannel1):
    remote = ipaddress.ip_address(request.param)
    local = ipaddress.ip_address("192.168.31.62" if remote.version == 4 else "fd31::62")
    add(replace(flannel1, vxlan=Vxlan(1, 8472, "ens33", local), mtu_bytes=1430))
    return Fdb("flannel.1", MAC, remote)


def shown(host):
    entries = host.json("bridge", "-j", "fdb", "show", "dev", "flannel.1")
    return [entry for entry in entries if entry["mac"] == MAC]


def test_an_entry_leads_to_its_host_and_reads_back(host, add, standing, wanted):
    add(wanted)
    (entry,) = shown(host)
    assert entry["dst"] == str(wanted.remote)
    assert entry["state"] == "permanent"
    assert "self" in entry["flags"]
    assert standing("fdb") == {wanted.key: wanted}


def test_an_entry_gets_another_host_in_one_step(host, add, attempt, standing, wanted):
    add(wanted)
    moved = replace(wanted, remote=wanted.remote + 1)
    assert attempt(Verb.REPLACE, (moved, wanted)) == [None]
    assert [entry["dst"] for entry in shown(host)] == [str(moved.remote)]
    assert standing("fdb") == {wanted.key: moved}


def test_deleting_an_entry_is_safe_to_repeat(host, add, attempt, wanted):
    add(wanted)
    assert attempt(Verb.DELETE, wanted) == [None]
    assert shown(host) == []
    assert attempt(Verb.DELETE, wanted) == [None]


def test_entries_of_other_devices_and_of_bridges_are_not_read(
    host, make_netns, add, standing, cni0, pod_link, wanted
):
    host.sh("ip link add other type vxlan id 9 dev ens33 dstport 4789")
    host.sh(f"bridge fdb add {MAC} dev other dst 192.168.31.64 self permanent")
    add(cni0, pod_link(make_netns("pod")))
    assert standing("fdb") == {}
    add(wanted)
    assert standing("fdb") == {wanted.key: wanted}
