"""The audit: each thing that does not fit is found, and nothing else."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from ipaddress import ip_address, ip_network

import pytest

from netloom.core.ipam.audit import KINDS, Facts, Finding, Live, check
from netloom.model.endpoint import Endpoint
from netloom.model.host import Block, Host
from netloom.model.keys import host_key, network_key
from netloom.model.network import Network
from netloom.model.pool import Pool
from netloom.model.view import Cluster, Problem

BLUE = Network("blue", (Pool(ip_network("10.244.0.0/16"), 24), Pool(ip_network("fd00::/48"), 64)))


def block(cidr: str, host: str, network: str = "blue", confirmed: bool = True) -> Block:
    return Block(network, ip_network(cidr), host, confirmed)


def cluster(blocks: Iterable[Block], hosts: Iterable[str] = ("h1", "h2")) -> Cluster:
    return Cluster(
        networks={"blue": BLUE},
        hosts={host: Host(host, host) for host in hosts},
        blocks={(each.network, each.cidr): each for each in blocks},
    )


def endpoint(container: str, *addresses: str, host: str = "h1", network: str = "blue") -> Endpoint:
    return Endpoint(
        network,
        host,
        container,
        "eth0",
        f"/run/netns/{container}",
        f"veth-{container}",
        "02:00:00:00:00:01",
        tuple(ip_address(text) for text in addresses),
        attached=True,
        created="2026-01-01T10:00:00+00:00",
    )


def live(each: Endpoint) -> Live:
    return Live(each.handle, each.network, each.host_ifname, each.addresses)


ONE = endpoint("c1", "10.244.1.2", "fd00::2")
FAR = endpoint("c9", "10.244.2.2", host="h2")
WELL = Facts(
    cluster([block("10.244.1.0/24", "h1"), block("fd00::/64", "h1"), block("10.244.2.0/24", "h2")]),
    "h1",
    endpoints=(ONE,),
    mirrored=(ONE, FAR),
    live=(live(ONE),),
)


def kinds(facts: Facts) -> list[str]:
    return [finding.kind for finding in check(facts)]


def only(facts: Facts) -> Finding:
    (finding,) = check(facts)
    assert finding.remedy
    assert finding.kind in KINDS
    return finding


def test_when_all_agree_nothing_is_found() -> None:
    assert check(WELL) == ()


def test_a_container_that_is_gone_is_a_leak_with_all_its_addresses_as_one_finding() -> None:
    finding = only(replace(WELL, live=()))
    assert finding == Finding("leak", "10.244.1.2, fd00::2", "blue.c1.eth0", "h1", "", "")
    assert "/run/netns/c1 has no interface eth0" in finding.text
    assert finding.remedy == "netloom ipam release --handle blue.c1.eth0"


def test_without_a_look_at_the_containers_no_leak_is_claimed() -> None:
    assert check(replace(WELL, live=None)) == ()


def test_an_attach_in_progress_is_no_leak_but_one_that_never_ended_is() -> None:
    intent = replace(ONE, attached=False)
    facts = replace(WELL, endpoints=(intent,), mirrored=(), live=())
    assert check(facts) == ()
    assert check(replace(facts, intents_before="2026-01-01T10:00:00+00:00")) == ()
    assert kinds(replace(facts, intents_before="2026-01-01T10:05:00+00:00")) == ["leak"]


def test_one_address_held_on_two_hosts_is_found_on_both_sides() -> None:
    twin = endpoint("twin", "10.244.1.2", host="h2")
    found = [f for f in check(replace(WELL, mirrored=(ONE, twin))) if f.kind == "duplicate"]
    assert [(f.subject, f.handle, f.host) for f in found] == [
        ("10.244.1.2", "blue.c1.eth0", "h1"),
        ("10.244.1.2", "blue.twin.eth0", "h2"),
    ]
    assert "and by blue.twin.eth0 on host h2" in found[0].text


def test_one_address_held_twice_on_one_host_is_found() -> None:
    twin = endpoint("twin", "10.244.1.2")
    facts = replace(WELL, endpoints=(ONE, twin), mirrored=(), live=(live(ONE), live(twin)))
    found = [(f.kind, f.handle) for f in check(facts)]
    assert ("duplicate", "blue.c1.eth0") in found
    assert ("duplicate", "blue.twin.eth0") in found


def test_the_same_address_in_two_networks_is_no_duplicate() -> None:
    red = endpoint("c1", "10.244.1.2", network="red")
    facts = replace(WELL, endpoints=(ONE, red), live=(live(ONE), live(red)))
    assert "duplicate" not in kinds(facts)


def test_an_own_endpoint_and_its_mirror_are_one_holder() -> None:
    stale = replace(ONE, attached=False)
    assert check(replace(WELL, mirrored=(stale, FAR))) == ()


def test_an_address_outside_its_hosts_blocks_is_found_here_and_elsewhere() -> None:
    stray = endpoint("stray", "10.244.2.9")
    facts = replace(WELL, endpoints=(ONE, stray), live=(live(ONE), live(stray)))
    finding = only(facts)
    assert (finding.kind, finding.subject, finding.handle) == (
        "outside",
        "10.244.2.9",
        "blue.stray.eth0",
    )
    assert "(10.244.1.0/24, fd00::/64)" in finding.text
    far = endpoint("far", "10.244.1.77", host="h2")
    assert only(replace(WELL, mirrored=(far,))).host == "h2"


def test_a_pending_block_holds_no_addresses() -> None:
    pending = cluster([block("10.244.1.0/24", "h1", confirmed=False), block("fd00::/64", "h1")])
    assert kinds(replace(WELL, cluster=pending, mirrored=())) == ["outside"]


@pytest.mark.parametrize("inner", ["10.244.1.0/26", "10.244.1.192/26"])
def test_blocks_that_overlap_are_found(inner: str) -> None:
    blocks = [*WELL.cluster.blocks.values(), block(inner, "h2")]
    finding = only(replace(WELL, cluster=cluster(blocks)))
    assert (finding.kind, finding.subject, finding.host) == ("overlap", inner, "h2")
    assert "10.244.1.0/24 of host h1" in finding.text


def test_a_loan_lies_in_its_lenders_block_and_nowhere_else() -> None:
    loan = replace(block("10.244.1.9/32", "h2"), lender="h1")
    assert check(replace(WELL, cluster=cluster([*WELL.cluster.blocks.values(), loan]))) == ()
    strange = replace(loan, lender="h3")
    found = kinds(replace(WELL, cluster=cluster([*WELL.cluster.blocks.values(), strange])))
    assert found == ["overlap", "orphan-block"]


def test_every_pair_in_a_nest_of_blocks_is_found() -> None:
    nest = [
        block("10.244.16.0/20", "h1"),
        block("10.244.16.0/24", "h2"),
        block("10.244.16.64/26", "h1"),
        block("10.244.17.0/24", "h2"),
        block("10.244.32.0/24", "h2"),
    ]
    facts = Facts(cluster(nest), "h1")
    assert [(f.kind, f.subject) for f in check(facts)] == [
        ("overlap", "10.244.16.0/24"),
        ("overlap", "10.244.16.64/26"),
        ("overlap", "10.244.16.64/26"),
        ("overlap", "10.244.17.0/24"),
    ]


def test_pending_blocks_that_overlap_are_a_race_in_progress_and_no_finding() -> None:
    blocks = [*WELL.cluster.blocks.values(), block("10.244.1.0/26", "h2", confirmed=False)]
    assert check(replace(WELL, cluster=cluster(blocks))) == ()


@pytest.mark.parametrize(
    ("odd", "says"),
    [
        (block("10.244.9.0/24", "gone"), "belongs to host gone, which is not known"),
        (block("10.99.0.0/24", "h1"), "lies in no pool of it any more"),
        (block("10.244.9.0/24", "h1", network="red"), "a network that does not exist"),
    ],
)
def test_a_block_that_belongs_nowhere_is_found(odd: Block, says: str) -> None:
    finding = only(replace(WELL, cluster=cluster([*WELL.cluster.blocks.values(), odd])))
    assert finding.kind == "orphan-block"
    assert says in finding.text


def test_what_cannot_be_read_makes_no_orphans() -> None:
    """A network or a host whose record does not parse is there, and may be dealt from."""
    odd = [block("10.244.9.0/24", "h1", network="red"), block("10.244.8.0/24", "h9")]
    facts = replace(WELL, cluster=cluster([*WELL.cluster.blocks.values(), *odd]))
    assert len(check(facts)) == 2
    assert check(replace(facts, unread={network_key("red"), host_key("h9")})) == ()


def test_a_mirrored_endpoint_without_a_journal_record_is_found() -> None:
    ghost = endpoint("ghost", "10.244.1.99")
    finding = only(replace(WELL, mirrored=(ONE, FAR, ghost)))
    assert (finding.kind, finding.handle) == ("mirror", "blue.ghost.eth0")


def test_a_mirrored_endpoint_of_a_host_that_is_not_known_is_found() -> None:
    ghost = endpoint("ghost", "10.244.1.99", host="gone")
    found = check(replace(WELL, mirrored=(ONE, FAR, ghost)))
    assert [f.kind for f in found] == ["outside", "mirror"]
    assert found[1].remedy == "netloom host forget gone"


def test_a_live_address_that_nobody_holds_is_found() -> None:
    stranger = Live("", "blue", "veth-x", (ip_address("10.244.1.50"),))
    finding = only(replace(WELL, live=(live(ONE), stranger)))
    assert (finding.kind, finding.subject) == ("unheld", "10.244.1.50")
    assert "in use by veth-x, but nobody holds it" in finding.text


def test_addresses_outside_the_pools_that_another_plugin_gave_are_no_finding() -> None:
    extra = replace(live(ONE), addresses=(*ONE.addresses, ip_address("192.168.7.7")))
    assert check(replace(WELL, live=(extra,))) == ()


def test_a_record_that_cannot_be_read_is_found() -> None:
    problem = Problem("error", "key journal/endpoints/blue/x/eth0", "cannot be read", "remedy")
    finding = only(replace(WELL, unreadable=(problem,)))
    assert (finding.kind, finding.subject) == ("unreadable", problem.subject)


def test_a_live_address_that_another_handle_holds_is_found() -> None:
    two = endpoint("c2", "10.244.1.3")
    swapped = replace(live(two), addresses=(ip_address("10.244.1.2"),))
    facts = replace(WELL, endpoints=(ONE, two), live=(live(ONE), swapped))
    finding = only(facts)
    assert finding.kind == "unheld"
    assert "in use by blue.c2.eth0, but blue.c1.eth0 holds it" in finding.text


def test_where_no_agent_runs_the_stores_picture_is_judged() -> None:
    facts = replace(WELL, host_id="", endpoints=(), live=None, journal=False)
    assert check(facts) == ()
    twin = endpoint("twin", "10.244.1.2", host="h2")
    assert kinds(replace(facts, mirrored=(ONE, twin))) == ["duplicate", "duplicate", "outside"]


def test_findings_come_most_serious_first_and_always_in_the_same_order() -> None:
    stray = endpoint("stray", "10.244.7.7")
    blocks = [*WELL.cluster.blocks.values(), block("10.244.9.0/24", "gone")]
    twin = endpoint("twin", "10.244.1.2")
    facts = replace(WELL, cluster=cluster(blocks), endpoints=(stray, twin, ONE), live=())
    backwards = replace(facts, endpoints=(ONE, twin, stray), cluster=cluster(reversed(blocks)))
    assert check(facts) == check(backwards)
    order = [list(KINDS).index(kind) for kind in kinds(facts)]
    assert order == sorted(order)
    assert len(order) == 7
