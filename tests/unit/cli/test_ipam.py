"""``netloom ipam`` on a real datastore, without an agent."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest

from netloom.model import keys
from netloom.model.datastore import Delete, Put, Store, Transaction
from netloom.model.endpoint import Endpoint
from netloom.model.host import Block, Host, Reservation
from netloom.model.network import Network
from netloom.model.pool import Pool

POOLS = (Pool(ip_network("10.244.0.0/16"), 24), Pool(ip_network("fd00::/48"), 64))


@pytest.fixture(autouse=True)
def no_agent(run_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NETLOOM_SOCKET", str(run_dir / "nobody.sock"))


def endpoint(host: str, container: str, *addresses: str) -> Endpoint:
    return Endpoint(
        *("blue", host, container, "eth0", f"/run/netns/{container}", "v", "02:00:00:00:00:01"),
        addresses=tuple(ip_address(text) for text in addresses),
        attached=True,
        created="2026-01-01T00:00:00+00:00",
    )


@pytest.fixture
def cluster(store: Store, put: Callable) -> Store:
    """Two hosts with a block of each pool; three containers on h1, one on h2; 16 reserved."""
    put(keys.network_key("blue"), Network("blue", POOLS).render())
    for number, host in enumerate(("h1", "h2"), start=1):
        put(keys.host_key(f"id{number}"), Host(f"id{number}", host).render())
        for cidr in (f"10.244.{number}.0/24", f"fd00:0:0:{number}::/64"):
            block = Block("blue", ip_network(cidr), f"id{number}", True)
            put(keys.block_key("blue", block.cidr), block.render())
    for number in (2, 3, 4):
        one = endpoint("id1", f"c{number}", f"10.244.1.{number}", f"fd00:0:0:1::{number}")
        put(keys.endpoint_key("id1", "blue", f"c{number}", "eth0"), one.render())
    far = endpoint("id2", "far", "10.244.2.2")
    put(keys.endpoint_key("id2", "blue", "far", "eth0"), far.render())
    reserved = Reservation("blue", ip_network("10.244.1.0/28"), "printers")
    put(keys.reservation_key("blue", reserved.cidr), reserved.render())
    return store


def test_pools_are_counted_as_calicoctl_users_know_it(cluster: Store, netloom: Callable) -> None:
    header, four, six = netloom("ipam", "show").out.splitlines()
    assert header.split("  ")[0] == "GROUPING"
    assert [part.strip() for part in header.split("  ") if part][:5] == [
        "GROUPING",
        "CIDR",
        "IPS TOTAL",
        "IPS IN USE",
        "IPS FREE",
    ]
    words = " ".join(four.split())
    assert words == "IP Pool 10.244.0.0/16 65536 4 (0%) 65519 (100%) 13 (0%) blue -"
    assert six.split()[:6] == ["IP", "Pool", "fd00::/48", "1.2089e+24", "3", "(0%)"]


def test_blocks_are_shown_with_their_hosts(cluster: Store, netloom: Callable) -> None:
    lines = [
        " ".join(line.split()) for line in netloom("ipam", "show", "--show-blocks").out.splitlines()
    ]
    assert "Block 10.244.1.0/24 256 3 (1%) 240 (94%) 13 (5%) blue h1" in lines
    assert "Block 10.244.2.0/24 256 1 (0%) 255 (100%) 0 blue h2" in lines


def test_a_host_with_more_blocks_than_it_may_have_by_now_is_told(
    cluster: Store, netloom: Callable, put: Callable
) -> None:
    assert "note:" not in netloom("ipam", "show").out
    assert "beyondLimit" not in netloom("ipam", "show", "-o", "json").data[0]
    block = Block("blue", ip_network("10.244.7.0/24"), "id2", True)
    put(keys.block_key("blue", block.cidr), block.render())
    text = "note: host h2 holds 2 blocks of pool 10.244.0.0/16, addressing mode host-block lets it"
    assert text in netloom("ipam", "show").out
    pool = netloom("ipam", "show", "-o", "json").data[0]
    assert pool["beyondLimit"] == [{"host": "id2", "blocks": 2, "limit": 1}]


def test_counts_as_json_add_up(cluster: Store, netloom: Callable) -> None:
    four, _ = netloom("ipam", "show", "--show-blocks", "-o", "json").data
    assert (four["network"], four["cidr"]) == ("blue", "10.244.0.0/16")
    for each in (four, *four["blocks"]):
        assert each["total"] == each["inUse"] + each["reserved"] + each["free"]
    assert [(b["cidr"], b["host"], b["inUse"]) for b in four["blocks"]] == [
        ("10.244.1.0/24", "id1", 3),
        ("10.244.2.0/24", "id2", 1),
    ]


def test_without_networks_the_first_step_is_named(store: Store, netloom: Callable) -> None:
    assert "netloom network create" in netloom("ipam", "show").out


def test_an_address_in_use_is_attributed(cluster: Store, netloom: Callable) -> None:
    said = netloom("ipam", "show", "--ip", "10.244.1.3")
    assert said.code == 0
    for part in (
        "10.244.1.3 is in use",
        "blue.c3.eth0",
        "10.244.1.0/24 of host h1",
        "c3 (eth0 in /run/netns/c3)",
        "10.244.1.0/28 printers",
    ):
        assert part in said.out
    (found,) = netloom("ipam", "show", "--ip", "10.244.1.3", "-o", "json").data
    assert found["inUse"] is True
    assert found["holders"][0]["handle"] == "blue.c3.eth0"


def test_a_free_address_is_not_assigned(cluster: Store, netloom: Callable) -> None:
    said = netloom("ipam", "show", "--ip", "fd00:0:0:9::9")
    assert "fd00:0:0:9::9 is not assigned" in said.out
    assert "none claimed yet" in said.out


def test_an_address_of_no_pool_is_refused_with_the_pools(cluster: Store, netloom: Callable) -> None:
    said = netloom("ipam", "show", "--ip", "192.168.1.1")
    assert (said.code, "10.244.0.0/16, fd00::/48" in said.err) == (3, True)
    assert netloom("ipam", "show", "--ip", "rubbish").code == 3


def test_without_an_agent_the_datastore_is_checked_and_it_says_so(
    cluster: Store, netloom: Callable, put: Callable
) -> None:
    said = netloom("ipam", "check")
    assert said.code == 0
    assert "not judged  leaks: no agent answers" in said.out
    assert said.out.endswith("Check complete; found 0 problems.\n")
    twin = endpoint("id2", "twin", "10.244.1.3")
    put(keys.endpoint_key("id2", "blue", "twin", "eth0"), twin.render())
    said = netloom("ipam", "check")
    assert said.code == 6
    assert "duplicate" in said.out
    assert "blue.c3.eth0 on host id1 and by blue.twin.eth0 on host id2" in said.out
    assert said.out.endswith("Check complete; found 3 problems.\n")
    kinds = [each["kind"] for each in netloom("ipam", "check", "-o", "json").data["findings"]]
    assert kinds == ["duplicate", "duplicate", "outside"]


def test_releasing_needs_the_agent(cluster: Store, netloom: Callable) -> None:
    said = netloom("ipam", "release", "--handle", "blue.c2.eth0", "--yes")
    assert (said.code, "no agent answers" in said.err) == (6, True)


@pytest.mark.parametrize("args", [[], ["--leaked", "--ip", "10.244.1.2"]])
def test_release_wants_exactly_one_choice(netloom: Callable, args: list[str]) -> None:
    assert netloom("ipam", "release", *args).code == 2


def test_without_a_terminal_a_release_wants_yes(cluster: Store, netloom: Callable) -> None:
    said = netloom("ipam", "release", "--block", "fd00:0:0:2::/64")
    assert (said.code, "--yes" in said.err) == (2, True)
    assert cluster.get(keys.block_key("blue", ip_network("fd00:0:0:2::/64"))) is not None


def test_an_empty_block_can_be_released_and_a_used_one_cannot(
    cluster: Store, netloom: Callable
) -> None:
    key = keys.block_key("blue", ip_network("fd00:0:0:2::/64"))
    assert "is free" in netloom("ipam", "release", "--block", "fd00:0:0:2::/64", "--yes").out
    assert cluster.get(key) is None
    again = netloom("ipam", "release", "--block", "fd00:0:0:2::/64", "--yes")
    assert (again.code, "nobody holds it" in again.out) == (0, True)
    said = netloom("ipam", "release", "--block", "10.244.1.0/24", "--yes")
    assert (said.code, "in use by blue.c2.eth0, blue.c3.eth0" in said.err) == (4, True)


def test_a_block_that_a_running_agent_deals_from_is_released_by_force_alone(
    cluster: Store, netloom: Callable
) -> None:
    lease = cluster.grant(60)
    cluster.commit(Transaction([Put(keys.alive_key("id2"), b"{}", lease)]))
    said = netloom("ipam", "release", "--block", "fd00:0:0:2::/64", "--yes")
    assert (said.code, "the agent of host id2 runs" in said.err) == (4, True)
    assert netloom("ipam", "release", "--block", "fd00:0:0:2::/64", "--yes", "--force").code == 0


def test_a_reservation_is_written_and_names_what_is_in_use_there(
    cluster: Store, netloom: Callable
) -> None:
    said = netloom("ipam", "reserve", "blue", "10.244.2.0/30", "--reason", "the lift")
    assert said.code == 0
    assert "in use there, and they stay so: 10.244.2.2 (blue.far.eth0)" in said.out
    entry = cluster.get(keys.reservation_key("blue", ip_network("10.244.2.0/30")))
    assert entry is not None
    assert b"the lift" in entry.value
    assert netloom("ipam", "reserve", "blue", "10.244.2.0/30").code == 0, "safe to repeat"


def test_what_was_reserved_and_unreserved_is_told_as_json(
    cluster: Store, netloom: Callable
) -> None:
    said = netloom("ipam", "reserve", "blue", "10.244.2.0/30", "--reason", "the lift", "-o", "json")
    assert said.data["reservation"]["cidr"] == "10.244.2.0/30"
    assert said.data["reservation"]["reason"] == "the lift"
    (held,) = said.data["inUse"]
    assert held["ip"] in said.out
    assert held["handle"].startswith("blue.")
    one = ("ipam", "unreserve", "blue", "10.244.2.0/30", "-o", "json")
    gone = {"network": "blue", "cidr": "10.244.2.0/30"}
    assert netloom(*one).data == {**gone, "removed": True}
    assert netloom(*one).data == {**gone, "removed": False}


def test_a_single_address_can_be_reserved(cluster: Store, netloom: Callable) -> None:
    assert netloom("ipam", "reserve", "blue", "fd00::9").code == 0
    assert cluster.get(keys.reservation_key("blue", ip_network("fd00::9/128"))) is not None


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["blue", "192.168.0.0/24"], "is in no pool of network blue"),
        (["blue", "10.244.0.1/24"], "did you mean 10.244.0.0/24?"),
        (["bleu", "10.244.0.0/24"], "did you mean 'blue'?"),
        (["blue", "rubbish"], "not an IP address"),
        (["blue", "10.0.0.0/8"], "is in no pool of network blue"),
    ],
)
def test_a_reservation_that_cannot_be_is_refused_by_name(
    cluster: Store, netloom: Callable, args: list[str], says: str
) -> None:
    said = netloom("ipam", "reserve", *args)
    assert (said.code, says in said.err) == (3, True), said.err


def test_a_lifted_reservation_is_gone_and_lifting_again_is_well(
    cluster: Store, netloom: Callable
) -> None:
    said = netloom("ipam", "unreserve", "blue", "10.244.1.0/28")
    assert "is no longer reserved" in said.out
    assert cluster.get(keys.reservation_key("blue", ip_network("10.244.1.0/28"))) is None
    again = netloom("ipam", "unreserve", "blue", "10.244.1.0/28")
    assert (again.code, "was not reserved; reserved: none" in again.out) == (0, True)


def test_orphan_blocks_can_be_released_while_their_hosts_agent_runs_if_they_are_empty(
    cluster: Store, netloom: Callable, put: Callable, tmp_path: Path
) -> None:
    lease = cluster.grant(60)
    cluster.commit(Transaction([Put(keys.alive_key("id2"), b"{}", lease)]))
    for network, cidr in (("red", "10.244.2.0/24"), ("blue", "10.99.0.0/24")):
        block = Block(network, ip_network(cidr), "id2", True)
        put(keys.block_key(network, block.cidr), block.render())
    held = endpoint("id2", "old", "10.99.0.2")
    put(keys.endpoint_key("id2", "blue", "old", "eth0"), held.render())
    two = netloom("ipam", "release", "--block", "10.244.2.0/24", "--yes")
    assert (two.code, "networks blue, red have a block 10.244.2.0/24" in two.err) == (3, True)
    one = netloom("ipam", "release", "--block", "10.244.2.0/24", "--network", "red", "--yes")
    assert one.code == 0, one.err
    used = netloom("ipam", "release", "--block", "10.99.0.0/24", "--yes")
    assert (used.code, "in use by blue.old.eth0" in used.err) == (4, True)
    report = tmp_path / "report.json"
    report.write_text(netloom("ipam", "check", "-o", "json").out)
    assert netloom("ipam", "release", "--from-report", str(report)).code == 2, "it wants --yes"
    said = netloom("ipam", "release", "--from-report", str(report), "--yes")
    assert (said.code, "1 not released: block 10.99.0.0/24" in said.err) == (4, True)
    cluster.commit(Transaction([Delete(keys.endpoint_key("id2", "blue", "old", "eth0"))]))
    said = netloom("ipam", "release", "--from-report", str(report), "--yes")
    assert (said.code, "block 10.99.0.0/24 of blue is free" in said.out) == (0, True)


def test_a_block_of_a_network_that_cannot_be_read_is_released_by_force_alone(
    cluster: Store, netloom: Callable, put: Callable
) -> None:
    """Its host's agent deals from it by the last good definition."""
    lease = cluster.grant(60)
    cluster.commit(Transaction([Put(keys.alive_key("id2"), b"{}", lease)]))
    put(keys.network_key("blue"), b"{")
    said = netloom("ipam", "release", "--block", "fd00:0:0:2::/64", "--yes")
    assert (said.code, "the agent of host id2 runs" in said.err) == (4, True)
