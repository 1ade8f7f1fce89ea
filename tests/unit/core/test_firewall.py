"""The firewall's table, published ports and rate limits as pure functions."""

from __future__ import annotations

import ipaddress
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from netloom.core import firewall
from netloom.core.limits import qdiscs, settled
from netloom.core.published import (
    Lead,
    leads_of,
    loopback_sysctls,
    refuse_taken_ports,
    standing_leads,
)
from netloom.core.sources import Elsewhere, elsewhere
from netloom.model.endpoint import Bandwidth, Endpoint, PortMapping
from netloom.model.errors import Conflict, InvalidConfig
from netloom.model.kernel import Link, Qdisc, Sysctl
from netloom.model.network import Network

ip = ipaddress.ip_address


def network(*pools: Any, name: str = "blue") -> Network:
    return Network.parse({"name": name, "pools": list(pools)})


def endpoint(container: str, *ports: PortMapping, addresses: str = "10.244.1.2") -> Endpoint:
    return Endpoint(
        network="blue",
        host_id="h1",
        container_id=container,
        ifname="eth0",
        netns=f"/run/netns/{container}",
        host_ifname=f"veth-{container}",
        mac="02:00:00:00:00:01",
        addresses=tuple(ip(text) for text in addresses.split()),
        ports=ports,
        created="2026-01-01T00:00:00Z",
    )


def test_a_host_without_published_ports_has_no_destination_nat() -> None:
    text = firewall.table([network("10.244.0.0/16")]).text
    assert "dnat" not in text
    assert "chain prerouting" not in text
    assert "ip6" not in text


def test_nothing_is_asked_of_what_is_forwarded_since_an_accept_would_change_nothing() -> None:
    """Each rule of ours at that hook costs every packet; ``core/admission`` does what helps."""
    published = endpoint("c1", PortMapping(80, 80))
    for pool in ("10.244.0.0/16", {"cidr": "10.244.0.0/16", "natOutgoing": False}):
        text = firewall.table([network(pool)], [published]).text
        assert "hook forward" not in text
        assert "ct state" not in text
    bare = firewall.table([network({"cidr": "10.244.0.0/16", "natOutgoing": False})]).text
    assert "set " not in bare
    assert bare.count("chain") == 1


def test_a_source_that_this_host_would_not_answer_that_way_is_dropped_before_it_is_tracked() -> (
    None
):
    text = firewall.table([network("10.244.0.0/16", "fd00::/48")]).text
    chain = text[text.index("chain guard {") :].partition("}")[0]
    assert [line.strip() for line in chain.splitlines()[1:] if line.strip()] == [
        "type filter hook prerouting priority raw; policy accept;",
        "iifgroup 78 fib saddr . iif oif missing drop",
    ]


def several() -> tuple[list[Endpoint], list[Link]]:
    first = replace(endpoint("both", addresses="10.1.0.2 fd00:1::2"), host_ifname="veth1")
    second = replace(endpoint("both", addresses="10.2.0.2"), network="red", host_ifname="cali2")
    second = replace(second, container_id="its id in red")
    alone = replace(endpoint("alone", addresses="10.2.0.3"), network="red", host_ifname="cali3")
    links = [
        Link("cni0", "bridge"),
        Link("veth1", "veth", master="cni0"),
        Link("cali2", "veth"),
        Link("cali3", "veth"),
    ]
    return [first, alone, second], links


def test_a_container_of_several_networks_may_answer_through_each_of_its_interfaces() -> None:
    endpoints, links = several()
    assert elsewhere(endpoints, links) == {
        Elsewhere("cni0", ip("10.2.0.2")),
        Elsewhere("cali2", ip("10.1.0.2")),
        Elsewhere("cali2", ip("fd00:1::2")),
    }
    text = firewall.table([network("10.0.0.0/8")], elsewhere=elsewhere(endpoints, links)).text
    assert "fib saddr . iif oif missing goto strangers" in text
    assert "iifname . ip saddr @elsewhere4 accept" in text
    assert "elsewhere6" not in text, "a family without pools has no part in the table"
    assert text.split("chain strangers")[1].splitlines()[2].strip() == "drop"


def test_containers_of_one_network_change_nothing_in_the_table_by_coming_and_going() -> None:
    _, links = several()
    assert elsewhere([endpoint("c1"), endpoint("c2")], links) == frozenset()


def test_only_nat_outgoing_pools_are_masqueraded_and_never_towards_any_pool() -> None:
    green = network({"cidr": "10.9.0.0/16", "natOutgoing": False}, name="green")
    text = firewall.table([network("10.244.0.0/16"), green]).text
    assert "elements = { 10.9.0.0/16, 10.244.0.0/16 }" in text
    assert "\tset nat4 {\n\t\ttype ipv4_addr\n\t\tflags interval\n" in text
    unclaimed = "meta mark & 0x00004000 == 0x00000000"
    assert f"{unclaimed} ip saddr @nat4 ip daddr != @pools4" in text
    assert "224.0.0.0/4" in text, "to a multicast group a container speaks with its own address"
    nat = text.split("set nat4")[1].split("}")[0]
    assert "10.9.0.0" not in nat


def test_pools_that_touch_or_repeat_become_one_range_since_a_set_holds_none_twice() -> None:
    text = firewall.table([network("10.1.0.0/24", "10.1.1.0/24"), network("10.1.0.0/24")]).text
    assert text.count("10.1.0.0/23") == 2  # pools4 and nat4
    assert "10.1.1.0" not in text


def test_the_text_does_not_depend_on_the_order_of_what_it_is_made_from() -> None:
    networks = [network("10.244.0.0/16", "fd00::/48"), network("10.9.0.0/16", name="green")]
    endpoints = [
        endpoint(f"c{i}", PortMapping(8000 + i, 80), addresses=f"10.244.1.{i} fd00::{i:x}")
        for i in range(2, 40)
    ]
    one = firewall.table(networks, endpoints)
    two = firewall.table(networks[::-1], endpoints[::-1])
    assert one == two


def test_rules_do_not_grow_with_ports() -> None:
    def rules(count: int) -> int:
        endpoints = [
            endpoint(f"c{i}", PortMapping(1000 + i, 80, "udp"), addresses=f"10.244.{i >> 8}.{i}")
            for i in range(count)
        ]
        text = firewall.table([network("10.244.0.0/16")], endpoints).text
        return text[text.index("chain guard") :].count("\n")

    assert rules(1) == rules(200)


def test_a_mapping_leads_to_each_family_of_the_container_unless_host_ip_says_which() -> None:
    both = endpoint(
        "c1",
        PortMapping(80, 8080),
        PortMapping(81, 8081, "udp", ip("192.0.2.1")),
        addresses="fd00::2 10.244.1.2",
    )
    assert leads_of(both) == [
        Lead("tcp", None, 80, ip("10.244.1.2"), 8080),
        Lead("tcp", None, 80, ip("fd00::2"), 8080),
        Lead("udp", ip("192.0.2.1"), 81, ip("10.244.1.2"), 8081),
    ]


def test_where_two_endpoints_hold_one_port_all_the_same_the_older_one_stands() -> None:
    old = endpoint("old", PortMapping(80, 1))
    new = replace(
        endpoint("new", PortMapping(80, 2), PortMapping(81, 2)), created="2026-01-02T00:00:00Z"
    )
    assert [(lead.host_port, lead.container_port) for lead in standing_leads([new, old])] == [
        (80, 1),
        (81, 2),
    ]


@pytest.mark.parametrize(
    ("held", "wanted"),
    [
        (PortMapping(80, 1), PortMapping(80, 2)),
        (PortMapping(80, 1), PortMapping(80, 2, "tcp", ip("192.0.2.1"))),
        (PortMapping(80, 1, "udp", ip("192.0.2.1")), PortMapping(80, 2, "udp")),
        (PortMapping(80, 1, "tcp", ip("fd31::1")), PortMapping(80, 2)),
    ],
)
def test_a_taken_port_is_refused_naming_its_holder(held: PortMapping, wanted: PortMapping) -> None:
    holder = endpoint("holder", held, addresses="10.244.1.9 fd00::9")
    asker = endpoint("asker", wanted, addresses="10.244.1.2 fd00::2")
    with pytest.raises(Conflict, match=r"host port .*:80/.* container holder of network blue"):
        refuse_taken_ports(asker, [holder])


@pytest.mark.parametrize(
    ("held", "wanted"),
    [
        (PortMapping(80, 1), PortMapping(80, 2, "udp")),
        (PortMapping(80, 1), PortMapping(81, 2)),
        (PortMapping(80, 1, "tcp", ip("192.0.2.1")), PortMapping(80, 2, "tcp", ip("192.0.2.2"))),
        (PortMapping(80, 1, "tcp", ip("192.0.2.1")), PortMapping(80, 2, "tcp", ip("fd31::1"))),
    ],
)
def test_ports_that_differ_in_any_part_stand_beside_each_other(
    held: PortMapping, wanted: PortMapping
) -> None:
    holder = endpoint("holder", held, addresses="10.244.1.9 fd00::9")
    refuse_taken_ports(endpoint("asker", wanted, addresses="10.244.1.2 fd00::2"), [holder])


def test_asking_again_for_ones_own_ports_is_well() -> None:
    mine = endpoint("c1", PortMapping(80, 8080))
    refuse_taken_ports(mine, [mine])


def test_a_port_wanted_twice_by_one_container_is_the_users_mistake() -> None:
    twice = endpoint("c1", PortMapping(80, 1), PortMapping(80, 2, "tcp", ip("192.0.2.1")))
    with pytest.raises(InvalidConfig, match=r"192\.0\.2\.1:80/tcp is wanted twice"):
        refuse_taken_ports(twice, [])


def test_a_host_ip_of_a_family_that_the_container_has_not_is_refused_by_field() -> None:
    with pytest.raises(InvalidConfig, match="no IPv6 address") as caught:
        refuse_taken_ports(endpoint("c1", PortMapping(80, 1, "tcp", ip("fd31::1"))), [])
    assert caught.value.field == "portMappings[0].hostIP"


def test_only_devices_behind_which_an_ipv4_port_is_published_open_for_127_0_0_1() -> None:
    links = [
        Link("veth-bridged", "veth", master="cni0"),
        Link("veth-routed", "veth"),
        Link("veth-silent", "veth", master="br1"),
        Link("veth-six", "veth", master="br6"),
    ]
    endpoints = [
        endpoint("bridged", PortMapping(80, 1)),
        endpoint("routed", PortMapping(81, 1)),
        endpoint("silent"),
        endpoint("six", PortMapping(82, 1), addresses="fd00::2"),
    ]
    assert loopback_sysctls(endpoints, links) == [
        Sysctl("ipv4/conf/cni0/route_localnet", "1"),
        Sysctl("ipv4/conf/veth-routed/route_localnet", "1"),
    ]


def test_what_the_container_receives_is_the_hosts_egress() -> None:
    limits = qdiscs("veth0", Bandwidth(ingress_rate_bps=8_000_000, ingress_burst_bits=1 << 24))
    assert [(q.link, q.direction, q.rate_bps) for q in limits] == [("veth0", "egress", 8_000_000)]
    limits = qdiscs("veth0", Bandwidth(egress_rate_bps=8_000_000))
    assert [(q.link, q.direction, q.rate_bps) for q in limits] == [("veth0", "ingress", 8_000_000)]
    assert qdiscs("veth0", Bandwidth()) == []


rates = st.integers(min_value=8, max_value=10**12)
bursts = st.integers(min_value=0, max_value=1 << 40)


@example(rate=4666672, burst=8, lost_us=2)
@given(rate=rates, burst=bursts, lost_us=st.integers(0, 2))
def test_a_settled_limit_is_found_again_in_what_tc_rounded(
    rate: int, burst: int, lost_us: int
) -> None:
    """A depth is cut to whole microseconds twice by tc, and to whole bytes once."""
    once = settled(Qdisc("veth0", "egress", rate, burst))
    per_second = once.rate_bps // 8
    reported = once.burst_bytes - lost_us * per_second // 1_000_000 - 1
    assert settled(once) == once
    assert settled(replace(once, burst_bytes=reported)) == once
    assert 0 < once.burst_bytes < 1 << 32
    assert once.burst_bytes <= per_second * 250, "a longer bucket overflows the kernel's clock"


def test_a_burst_near_the_one_asked_for_is_kept() -> None:
    (limit,) = qdiscs("veth0", Bandwidth(10_000_000, 8 * 1_000_000))
    assert abs(limit.burst_bytes - 1_000_000) < 100
