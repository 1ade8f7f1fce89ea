"""Addresses end to end: real agents, real containers, the command line as people use it."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from ipaddress import ip_address, ip_network
from typing import Any, NamedTuple

import pytest

from netloom.kernel import namespaces
from netloom.lab.documents import default_document
from netloom.lab.lab import Lab, LabHost
from netloom.lab.traffic import Pings
from netloom.lab.waiting import wait_until
from netloom.model.datastore import Put, Transaction
from netloom.model.endpoint import Endpoint
from netloom.model.errors import NetloomError
from netloom.model.keys import endpoint_key

LabUp = Callable[..., Lab]
FLANNEL = {"name": "default", "preset": "flannel"}


class Said(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def data(self) -> Any:
        return json.loads(self.out)


def ipam(host: LabHost, *arguments: str) -> Said:
    """Run ``netloom ipam …`` as a person on that host would."""
    done = subprocess.run(
        host.command(["netloom", "ipam", *arguments]),
        env=dict(host.environment),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return Said(done.returncode, done.stdout, done.stderr)


def mirrored(host: LabHost, address: str) -> bool:
    said = ipam(host, "show", "--ip", address, "-o", "json")
    return said.code == 0 and bool(said.data[0]["inUse"])


def blocks(host: LabHost, network: str = "default") -> list[str]:
    """The CIDRs of the host's own blocks, as its agent has them."""
    (found,) = [each for each in host.status()["networks"] if each["name"] == network]
    return [block["cidr"] for block in found["blocks"]]


def findings(host: LabHost) -> list[tuple[str, str]]:
    return [(f["kind"], f["handle"]) for f in ipam(host, "check", "-o", "json").data["findings"]]


def test_an_address_is_attributed_checked_leaked_found_and_freed(lab_up: LabUp) -> None:
    lab = lab_up(default_document(hosts=2, network=FLANNEL))
    h1, h2 = lab.host("h1"), lab.host("h2")
    one, two = h1.run("one"), h1.run("two")
    wait_until(lambda: mirrored(h2, two.address), deadline_s=60, what="the mirror")
    shown = ipam(h2, "show", "--ip", two.address)
    assert f"{two.address} is in use" in shown.out
    assert "10.244.0.0/24 of host h1" in shown.out
    well = ipam(h1, "check")
    assert (well.code, well.out.splitlines()[-1]) == (0, "Check complete; found 0 problems.")

    # The runtime dies: the namespace goes, nobody calls DEL.
    namespaces.delete(two.namespace)
    wait_until(lambda: findings(h1) != [], deadline_s=60, what="the leak")
    (finding,) = ipam(h1, "check", "-o", "json").data["findings"]
    assert (finding["kind"], finding["subject"], finding["host"]) == ("leak", two.address, "h1")
    handle = finding["handle"]
    assert handle.startswith("default.")
    assert finding["remedy"] == f"netloom ipam release --handle {handle}"
    found = ipam(h1, "check")
    assert (found.code, found.out.splitlines()[-1]) == (6, "Check complete; found 1 problems.")

    refused = ipam(h2, "release", "--handle", handle, "--yes")
    assert (refused.code, "is on host h1" in refused.err) == (4, True)
    assert ipam(h1, "release", "--leaked").code == 2, "without a terminal it wants --yes"
    freed = ipam(h1, "release", "--leaked", "--yes")
    assert (freed.code, two.address in freed.out) == (0, True), freed.err
    assert findings(h1) == []
    again = ipam(h1, "release", "--handle", handle, "--yes")
    assert (again.code, "nothing is held there" in again.out) == (0, True)
    wait_until(lambda: not mirrored(h2, two.address), deadline_s=60, what="the mirror")
    assert h1.run("three").address not in (one.address, two.address), "freed last, used last"


def test_a_running_container_is_not_released_unless_forced(lab_up: LabUp) -> None:
    lab = lab_up(default_document(hosts=1, network=FLANNEL))
    host = lab.host("h1")
    box = host.run("box")
    refused = ipam(host, "release", "--ip", box.address, "--yes")
    assert (refused.code, "is no leak: its container is there" in refused.err) == (4, True)
    assert box.pings("10.244.0.1")
    forced = ipam(host, "release", "--ip", box.address, "--yes", "--force")
    assert forced.code == 0, forced.err
    assert not box.pings("10.244.0.1", wait_s=1)
    missing = ipam(host, "release", "--ip", box.address, "--yes")
    assert (missing.code, "is not held on this host" in missing.err) == (3, True)


def test_an_address_that_another_hand_gave_a_container_is_found(lab_up: LabUp) -> None:
    lab = lab_up(default_document(hosts=1, network=FLANNEL))
    host = lab.host("h1")
    one, two = host.run("one"), host.run("two")
    one.exec(["ip", "address", "add", "10.244.0.99/24", "dev", "eth0"])
    (found,) = ipam(host, "check", "-o", "json").data["findings"]
    assert (found["kind"], found["subject"]) == ("unheld", "10.244.0.99")
    assert "nobody holds it" in found["text"]
    one.exec(["ip", "address", "del", "10.244.0.99/24", "dev", "eth0"])
    one.exec(["ip", "address", "add", f"{two.address}/24", "dev", "eth0"])
    (found,) = ipam(host, "check", "-o", "json").data["findings"]
    assert (found["kind"], found["subject"]) == ("unheld", two.address)


def test_an_address_held_twice_in_the_cluster_is_found(lab_up: LabUp) -> None:
    lab = lab_up(default_document(hosts=1, network=FLANNEL))
    host = lab.host("h1")
    box = host.run("box")
    twin = Endpoint(
        *("default", "ghost", "twin", "eth0", "/run/netns/x", "veth1", "02:00:00:00:00:01"),
        addresses=(ip_address(box.address),),
        attached=True,
    )
    store = lab.store()
    key = endpoint_key("ghost", "default", "twin", "eth0")
    store.commit(Transaction([Put(key, json.dumps(twin.render()).encode())]))
    store.close()
    kinds = [kind for kind, _ in findings(host)]
    assert kinds == ["duplicate", "duplicate", "outside", "mirror"]


def test_small_blocks_are_claimed_on_demand_for_both_families(lab_up: LabUp) -> None:
    """The same code with another setting: four addresses a block, two blocks a host at most."""
    network = {
        "name": "default",
        "pools": [
            {"cidr": "10.9.0.0/24", "blockSize": 30},
            {"cidr": "fd00:9::/64", "blockSize": 126},
        ],
        "addressing": {"mode": "on-demand", "maxBlocksPerHost": 2},
        "attachment": "routed",
        "backend": "host-gw",
    }
    document = default_document(hosts=2, network=network)
    document["segments"][0]["subnets"].append("fd31::/64")
    for number, each in enumerate(document["hosts"], start=62):
        each["interfaces"][0].pop("address")
        each["interfaces"][0]["addresses"] = [f"192.168.31.{number}", f"fd31::{number}"]
    lab = lab_up(document)
    h1, h2 = lab.host("h1"), lab.host("h2")
    assert blocks(h1) == [], "nothing is claimed before it is needed"
    boxes = [h1.run(f"c{number}") for number in range(5)]
    wait_until(lambda: len(blocks(h1)) == 4, deadline_s=60, what="two blocks of each family")
    assert len({box.address for box in boxes}) == 5
    for box in boxes:
        four, six = (ip_address(text) for text in box.addresses)
        assert any(four in ip_network(cidr) for cidr in blocks(h1))
        assert any(six in ip_network(cidr) for cidr in blocks(h1))
    far = h2.run("far")
    assert not set(blocks(h1)) & set(blocks(h2))
    for address in boxes[4].addresses:
        wait_until(
            lambda address=address: far.pings(address), deadline_s=60, what=f"{address} reached"
        )
    for number in range(5, 8):
        h1.run(f"c{number}")
    with pytest.raises(NetloomError, match="no free IPv4 address on this host") as error:
        h1.run("one-too-many")
    assert "in use by default.c" in str(error.value)
    assert ipam(h1, "check").code == 0


def test_a_host_keeps_its_block_through_restart_and_a_new_underlay_address(lab_up: LabUp) -> None:
    """Its identity is its id: the others follow it to its new address."""
    lab = lab_up(default_document(hosts=2, network=FLANNEL))
    h1, h2 = lab.host("h1"), lab.host("h2")
    a, b = h1.run("a"), h2.run("b")
    wait_until(lambda: b.pings(a.address), deadline_s=60, what="the first ping")
    before = blocks(h1)
    lab.fault("h1", "kill-agent")
    h1.exec(["ip", "address", "del", "192.168.31.62/24", "dev", "ens33"])
    h1.exec(["ip", "address", "add", "192.168.31.200/24", "dev", "ens33"])
    h1.exec(["ip", "route", "replace", "default", "via", "192.168.31.1", "dev", "ens33"])
    h1.start_agent()
    assert blocks(h1) == before
    wait_until(lambda: b.pings(a.address), deadline_s=60, what="the ping by the new address")
    assert h1.run("c").address.startswith(before[0].rpartition(".")[0])


def test_a_reservation_takes_effect_at_once_and_static_addresses_are_given(lab_up: LabUp) -> None:
    lab = lab_up(default_document(hosts=1, network=FLANNEL))
    host = lab.host("h1")
    said = ipam(host, "reserve", "default", "10.244.0.0/29", "--reason", "the printers")
    assert said.code == 0, said.err

    def beyond() -> bool:
        box = host.run("probe")
        host.remove("probe")
        return ip_address(box.address) not in ip_network("10.244.0.0/29")

    wait_until(beyond, deadline_s=60, what="the reservation")
    assert host.run("static", ips=["10.244.0.5"]).address == "10.244.0.5"
    with pytest.raises(NetloomError, match=r"10\.244\.0\.5 of network default is held by"):
        host.run("second", ips=["10.244.0.5"])
    assert "10.244.0.0/29 the printers" in ipam(host, "show", "--ip", "10.244.0.5").out
    (pool,) = ipam(host, "show", "-o", "json").data
    assert pool["reserved"] == 7
    assert ipam(host, "unreserve", "default", "10.244.0.0/29").code == 0


def test_a_host_that_lost_its_journal_keeps_its_running_containers(lab_up: LabUp) -> None:
    """The state directory is deleted while a container runs: it goes on, its address stays held."""
    lab = lab_up(default_document(hosts=2, network=FLANNEL))
    h1, h2 = lab.host("h1"), lab.host("h2")
    box, gone = h1.run("box"), h1.run("gone")
    for each in (box, gone):
        wait_until(lambda each=each: mirrored(h2, each.address), deadline_s=60, what="the mirror")
    before = blocks(h1)
    lab.fault("h1", "kill-agent")
    namespaces.delete(gone.namespace)
    shutil.rmtree(h1.environment["NETLOOM_STATE_DIR"])
    with Pings(box, "10.244.0.1", 0.005) as running:
        h1.start_agent()
        wait_until(lambda: not mirrored(h2, gone.address), deadline_s=60, what="the mirror again")
    assert running.lost == 0
    assert blocks(h1) == before
    assert ipam(h1, "check").code == 0
    assert h1.run("next").address != box.address
