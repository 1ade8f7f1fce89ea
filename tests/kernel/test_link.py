"""Links, as iproute2 shows them after our changes, and as we read them after iproute2's."""

from __future__ import annotations

import ipaddress
from dataclasses import replace

import pytest

from netloom.model.errors import Bug, Conflict, KernelRejected
from netloom.model.gso import BY_DEFAULT, Gso
from netloom.model.kernel import Address, Link, Neighbour, Route, Vxlan
from netloom.reconcile.contracts import Change, Verb

UNDERLAY6 = ipaddress.ip_address("fd31::62")


def shown(host, name):
    (link,) = host.json("ip", "-d", "-j", "link", "show", name)
    return link


def exists(host, name):
    return any(link["ifname"] == name for link in host.json("ip", "-j", "link"))


def test_a_vxlan_device_has_every_setting_it_was_given(host, add, flannel1):
    add(flannel1)
    link = shown(host, "flannel.1")
    assert link["address"] == "02:aa:00:00:00:62"
    assert link["mtu"] == 1450
    assert link["ifalias"] == "netloom:blue"
    assert "UP" in link["flags"]
    assert link["linkinfo"]["info_kind"] == "vxlan"
    data = link["linkinfo"]["info_data"]
    assert (data["id"], data["port"], data["link"]) == (1, 8472, "ens33")
    assert data["local"] == "192.168.31.62"
    assert data["learning"] is False


def test_what_a_link_takes_in_one_piece_is_read(host, standing):
    assert standing("link")["link ens33"].gso == BY_DEFAULT
    host.run("ip", "link", "set", "ens33", "gso_max_size", "32000", "gso_max_segs", "24")
    assert standing("link")["link ens33"].gso == Gso(32000, 24)


def test_a_vxlan_device_over_ipv6_has_its_local_address(host, add, flannel1, standing):
    link = replace(flannel1, vxlan=Vxlan(1, 8472, "ens33", UNDERLAY6), mtu_bytes=1430)
    add(link)
    assert shown(host, "flannel.1")["linkinfo"]["info_data"]["local6"] == "fd31::62"
    assert standing("link")[link.key] == link


def test_what_was_made_reads_back_as_it_was_wanted(add, standing, flannel1, cni0):
    add(flannel1, cni0)
    links = standing("link")
    assert replace(links[flannel1.key], hairpin=None) == flannel1
    assert replace(links[cni0.key], hairpin=None) == cni0
    assert links["link lo"].kind == ""
    assert links["link ens33"].kind == "veth"


def test_a_device_made_by_another_hand_reads_with_its_settings(host, standing):
    host.sh("ip link add other type vxlan id 9 dev ens33 dstport 4789")
    other = standing("link")["link other"]
    assert other.alias == ""
    assert other.up is False
    assert other.vxlan == Vxlan(9, 4789, "ens33", ipaddress.ip_address("0.0.0.0"), learning=True)


def test_learning_turned_on_by_another_hand_reads_as_a_difference(host, add, standing, flannel1):
    add(flannel1)
    host.sh("ip link set flannel.1 type vxlan learning")
    assert standing("link")[flannel1.key].vxlan != flannel1.vxlan


def test_a_link_of_another_is_a_conflict_and_stays_as_it_was(host, attempt, flannel1):
    """ADD of a name that is held sets nothing on the holder: no alias, no MAC, no MTU."""
    host.sh("ip link add flannel.1 type bridge")
    before = shown(host, "flannel.1")
    (error,) = attempt(Verb.ADD, flannel1)
    assert isinstance(error, Conflict)
    assert "flannel.1" in str(error)
    assert "bridge" in str(error)
    assert "ip link delete flannel.1" in error.hint
    assert shown(host, "flannel.1") == before
    (error,) = attempt(Verb.REPLACE, flannel1)
    assert isinstance(error, Conflict)
    assert shown(host, "flannel.1") == before


def test_a_vni_that_another_device_holds_is_a_conflict_that_names_it(host, attempt, flannel1):
    host.sh("ip link add other type vxlan id 1 dstport 8472 local 192.168.31.62")
    (error,) = attempt(Verb.ADD, flannel1)
    assert isinstance(error, Conflict)
    assert "VNI 1" in str(error)
    assert "other" in str(error)
    assert not exists(host, "flannel.1")


def test_a_missing_underlay_interface_is_named(attempt, flannel1):
    vxlan = replace(flannel1.vxlan, device="eth9")
    (error,) = attempt(Verb.ADD, replace(flannel1, vxlan=vxlan))
    assert isinstance(error, KernelRejected)
    assert "there is no link eth9" in str(error)


def test_the_kernels_own_words_are_in_the_error(attempt, flannel1):
    """The extended acknowledgement says what is wrong; the errno alone would not."""
    (error,) = attempt(Verb.ADD, replace(flannel1, mtu_bytes=70000))
    assert isinstance(error, KernelRejected)
    assert error.detail
    assert error.detail in str(error)
    assert "70000" in error.hint


def test_a_link_that_cannot_be_finished_is_not_left_behind(host, attempt, cni0):
    """Hairpin needs a bridge as master; ens33's namespace has none called br9."""
    host.sh("ip link add dummy-master type vxlan id 77 dstport 99")
    link = replace(cni0, name="veth9", kind="bridge", master="dummy-master", hairpin=True)
    (error,) = attempt(Verb.ADD, link)
    assert isinstance(error, KernelRejected)
    assert not exists(host, "veth9")


def test_changes_in_place_keep_the_device(host, add, attempt, standing, flannel1):
    add(flannel1)
    before = standing("link")[flannel1.key]
    host.sh("ip link set flannel.1 mtu 1300 address 02:00:00:00:00:09")
    host.sh("ip link set flannel.1 down")
    damaged = standing("link")[flannel1.key]
    assert (damaged.mtu_bytes, damaged.mac, damaged.up) == (1300, "02:00:00:00:00:09", False)
    assert attempt(Verb.REPLACE, (flannel1, damaged)) == [None]
    after = standing("link")[flannel1.key]
    assert after == before
    assert after.index == before.index


def test_a_new_alias_is_set_in_place(host, add, attempt, standing, flannel1):
    add(flannel1)
    green = replace(flannel1, alias="netloom:green")
    assert attempt(Verb.REPLACE, (green, standing("link")[flannel1.key])) == [None]
    assert shown(host, "flannel.1")["ifalias"] == "netloom:green"


def test_other_vxlan_settings_make_a_new_device(add, attempt, standing, flannel1):
    add(flannel1)
    before = standing("link")[flannel1.key]
    moved = replace(flannel1, vxlan=replace(flannel1.vxlan, port=4789))
    assert attempt(Verb.REPLACE, (moved, before)) == [None]
    after = standing("link")[flannel1.key]
    assert after.vxlan == moved.vxlan
    assert after.index != before.index


def test_a_replace_of_what_is_gone_makes_it(attempt, standing, flannel1):
    assert attempt(Verb.REPLACE, flannel1) == [None]
    assert standing("link")[flannel1.key].vxlan == flannel1.vxlan


def test_a_replace_writes_nothing_that_is_right_already(add, attempt, standing, flannel1):
    """Setting the MAC a device has would make the kernel forget its permanent neighbours."""
    neighbour = Neighbour("flannel.1", ipaddress.ip_address("10.244.2.0"), "02:aa:00:00:00:63")
    add(flannel1, neighbour)
    wider = replace(flannel1, mtu_bytes=1440)
    assert attempt(Verb.REPLACE, (wider, standing("link")[flannel1.key])) == [None]
    assert standing("link", "neighbour")[neighbour.key] == neighbour


def test_deleting_is_safe_to_repeat(host, add, attempt, flannel1):
    add(flannel1)
    assert attempt(Verb.DELETE, flannel1) == [None]
    assert not exists(host, "flannel.1")
    assert attempt(Verb.DELETE, flannel1) == [None]


def test_a_delete_leaves_another_link_that_took_the_name(host, add, attempt, standing, cni0):
    add(cni0)
    ours = standing("link")[cni0.key]
    host.sh("ip link delete cni0")
    host.sh("ip link add cni0 type bridge")
    assert attempt(Verb.DELETE, ours) == [None]
    assert exists(host, "cni0")
    (error,) = attempt(Verb.DELETE, cni0)
    assert isinstance(error, Conflict)
    assert exists(host, "cni0")


def test_what_leans_on_a_new_link_can_be_added_in_the_same_call(host, add, flannel1):
    remote = ipaddress.ip_network("10.244.2.0/24")
    gateway = remote.network_address
    add(
        flannel1,
        Address("flannel.1", ipaddress.ip_interface("10.244.1.0/32")),
        Neighbour("flannel.1", gateway, "02:aa:00:00:00:63"),
        Route(remote, "flannel.1", gateway, onlink=True),
    )
    (route,) = host.json("ip", "-j", "route", "show", "proto", "78")
    assert (route["dst"], route["gateway"], route["dev"]) == (
        "10.244.2.0/24",
        "10.244.2.0",
        "flannel.1",
    )


def test_what_leans_on_a_link_made_anew_goes_to_the_new_one(host, kernel, add, flannel1):
    """One call deletes the device, makes it again under another number and uses it."""
    add(flannel1)
    route = Route(ipaddress.ip_network("10.244.2.0/24"), "flannel.1")
    changes = [
        Change(Verb.DELETE, flannel1),
        Change(Verb.ADD, flannel1),
        Change(Verb.ADD, route),
    ]
    assert [outcome.error for outcome in kernel.apply(changes)] == [None] * 3
    assert host.json("ip", "-j", "route", "show", "proto", "78")[0]["dev"] == "flannel.1"


def test_a_port_detached_by_another_hand_is_attached_again(
    host, make_netns, add, attempt, standing, cni0, pod_link
):
    link = pod_link(make_netns("pod"))
    add(cni0, link)
    assert shown(host, link.name)["linkinfo"]["info_slave_data"]["hairpin"] is True
    host.run("ip", "link", "set", link.name, "nomaster")
    detached = standing("link")[link.key]
    assert detached.master is None
    assert attempt(Verb.REPLACE, (link, detached)) == [None]
    after = shown(host, link.name)
    assert after["master"] == "cni0"
    assert after["linkinfo"]["info_slave_data"]["hairpin"] is True


def test_a_link_that_another_hand_put_into_a_bridge_is_taken_out(
    host, add, attempt, standing, flannel1
):
    add(flannel1)
    host.sh("ip link add br9 type bridge")
    host.sh("ip link set flannel.1 master br9")
    assert attempt(Verb.REPLACE, (flannel1, standing("link")[flannel1.key])) == [None]
    assert "master" not in shown(host, "flannel.1")


def test_a_kind_we_cannot_make_is_a_bug_said_by_name(attempt):
    with pytest.raises(Bug, match="dummy"):
        raise attempt(Verb.ADD, Link("x0", "dummy"))[0]


def test_many_links_go_at_once_and_others_stay(host, add, attempt, kernel):
    """A link that is gone already and one that is another's are judged for themselves."""
    links = [Link(f"br{n}", "bridge", alias="netloom:blue") for n in range(8)]
    add(*links)
    host.sh("ip link delete br3")
    host.sh("ip link delete br5")
    host.sh("ip link add br5 type bridge")
    errors = attempt(Verb.DELETE, *links)
    assert [type(error) for error in errors if error] == [Conflict]
    assert isinstance(errors[5], Conflict)
    left = {link["ifname"] for link in host.json("ip", "-j", "link")}
    assert left == {"lo", "ens33", "br5"}


def test_a_bridge_keeps_its_mtu_whatever_its_ports(host, add, attempt, cni0, make_netns, pod_link):
    link = pod_link(make_netns("pod"))
    narrow = replace(link, mtu_bytes=1300, peer=replace(link.peer, mtu_bytes=1300))
    add(cni0, narrow)
    assert shown(host, "cni0")["mtu"] == 1450
    assert attempt(Verb.DELETE, narrow) == [None]
    assert shown(host, "cni0")["mtu"] == 1450
