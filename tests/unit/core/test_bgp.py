"""The plan of BGP and the configuration of BIRD that it becomes."""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType

import pytest
from tests.unit.views import block, facts, host, ip, net, network, view

from netloom.core.bgp.giving_way import give_way
from netloom.core.bgp.plan import BgpPlan, plan
from netloom.core.bgp.render import render
from netloom.core.bgp.session import Session
from netloom.core.desired import desired
from netloom.model.errors import InvalidConfig
from netloom.model.kernel import Bird, Route, state_of

POOL = net("10.233.0.0/16")
RANGES = {"blue": (POOL,)}
BLUE = {"cidr": str(POOL), "blockSize": 26}
GOLDEN = """\
# Written by Netloom; it is put back when it is changed.
log "bird.log" 1048576 "bird.log.old" { fatal, bug, error, warning, auth };
router id 192.168.26.101;
timeformat base iso long us;
timeformat protocol iso long ms;
graceful restart wait 10;
protocol device {
  scan time 10;
}
protocol direct underlay {
  ipv4;
  ipv6;
  interface "ens32";
}

protocol static blocks4 {
  ipv4;
  route 10.233.1.0/26 blackhole;
}

protocol kernel kernel4 {
  ipv4 {
    import filter {
      if krt_source = 78 then reject;
      if krt_metric = 0 then preference = 150;
      accept;
    };
    export filter {
      if proto = "blocks4" then { if net.len = 32 then reject; accept; }
      if source = RTS_BGP then accept;
      reject;
    };
  };
  learn;
  persist;
  scan time 2;
  metric 0;
  graceful restart;
}

protocol bgp Mesh_192_168_26_102 {
  local 192.168.26.101 as 64512;
  neighbor 192.168.26.102 as 64512;
  multihop;
  passive on;
  connect delay time 1;
  connect retry time 2;
  error wait time 1, 4;
  startup hold time 20;
  hold time 90;
  graceful restart on;
  graceful restart time 120;
  ipv4 {
    import filter { if net ~ [ 10.233.0.0/16{16,32} ] then accept; reject; };
    export filter { if proto = "blocks4" then accept; reject; };
    next hop self ebgp;
    gateway recursive;
  };
}
"""


def two_hosts(**more):
    return view(
        [
            network(
                "blue",
                {"cidr": "10.233.0.0/16", "blockSize": 26},
                backend="bgp",
                attachment="routed",
            )
        ],
        hosts=[host("h1", "192.168.26.101"), host("h2", "192.168.26.102")],
        blocks=[block("10.233.1.0/26", "h1"), block("10.233.2.0/26", "h2")],
        own=facts("192.168.26.101/24", link="ens32", **more),
    )


def test_the_configuration_is_this_text() -> None:
    assert render(plan(two_hosts(), RANGES)) == GOLDEN


def test_of_two_hosts_exactly_one_waits_for_the_other_by_number() -> None:
    """.9 and .101: as texts, "9" is the larger one."""
    hosts = [host("h1", "192.168.26.9"), host("h2", "192.168.26.101")]
    blocks = [block("10.233.1.0/26", "h1"), block("10.233.2.0/26", "h2")]
    waits = []
    for own, address in (("h1", "192.168.26.9/24"), ("h2", "192.168.26.101/24")):
        seen = replace(view([], hosts, blocks, own=facts(address)), host_id=own)
        waits += [session.passive for session in plan(seen, RANGES).sessions]
    assert waits == [True, False]


def test_both_families_have_sessions_of_their_own() -> None:
    seen = view(
        [],
        hosts=[host("h1", "192.168.26.1", "fd26::1"), host("h2", "192.168.26.2", "fd26::2")],
        blocks=[block("10.233.2.0/26", "h2"), block("fd00:10::/122", "h2")],
        own=facts("192.168.26.1/24", "fd26::1/64"),
    )
    made = plan(seen, {"blue": (POOL, net("fd00:10::/64"))})
    assert [(s.name, s.family) for s in made.sessions] == [
        ("Mesh_192_168_26_2", 4),
        ("Mesh_fd26__2", 6),
    ]
    assert "fd00:10::/64{64,128}" in render(made)


def test_a_host_without_a_block_is_a_peer_once_it_serves_the_network() -> None:
    newcomer = replace(host("h2", "192.168.26.2"), serves=MappingProxyType({"blue": ("bgp",)}))
    for other, count in ((host("h2", "192.168.26.2"), 0), (newcomer, 1)):
        seen = view([], hosts=[host("h1", "192.168.26.1"), other], own=facts("192.168.26.1/24"))
        assert len(plan(seen, RANGES).sessions) == count


def test_blocks_that_are_not_confirmed_are_not_announced() -> None:
    seen = view(
        [],
        hosts=[host("h1", "192.168.26.1")],
        blocks=[block("10.233.1.0/26", "h1", confirmed=False)],
        own=facts("192.168.26.1/24"),
    )
    assert plan(seen, RANGES).own == ()


def test_a_host_without_ipv4_has_a_router_id_all_the_same() -> None:
    seen = view([], hosts=[host("h1", "fd26::1")], own=facts("fd26::1/64"))
    assert int(plan(seen, {}).router_id) > 0


@pytest.mark.parametrize("secret", ['a"b', "a\nb", "a\rb", "x" * 81, "\0"])
def test_a_password_that_bird_would_misread_is_refused_and_not_told(secret: str) -> None:
    session = Session("P", ip("10.0.0.1"), ip("10.0.0.2"), 1, (POOL,), password=secret)
    with pytest.raises(InvalidConfig) as caught:
        render(BgpPlan(ip("10.0.0.1"), 1, (), (session,), ()))
    assert secret not in str(caught.value)
    assert secret not in repr(session)


def test_a_standing_bgp_network_has_the_daemon_and_no_route_of_ours_to_a_block() -> None:
    state = desired(two_hosts()).state
    assert state["bird"] == Bird(GOLDEN)
    assert not [obj for obj in state.values() if isinstance(obj, Route)]


def test_without_an_underlay_the_daemon_is_left_as_it_is() -> None:
    result = desired(replace(two_hosts(), facts=facts()))
    assert "bird" not in result.state
    assert result.hold


def test_a_peer_is_reached_by_what_bird_has_learned() -> None:
    before = desired(two_hosts())
    learned = MappingProxyType({net("10.233.2.0/26"): ip("192.168.26.102")})
    after = desired(two_hosts(learned=learned))
    assert before.paths["h2", "blue"] == "bgp, no route from 192.168.26.102 yet"
    assert after.paths["h2", "blue"] == "bgp via 192.168.26.102"


def test_our_routes_stand_one_metric_behind_where_bird_may_write() -> None:
    routes = (
        Route(net("10.233.2.0/26"), "ens32", ip("192.168.26.102")),
        Route(net("10.234.2.0/26"), "ens32", ip("192.168.26.102")),
        Route(net("fd00::/122"), "ens32", ip("fd26::2"), metric=1024),
        Route(net("10.233.3.7/32"), "cali1"),
    )
    state = state_of(*routes)
    give_way(state, [net("10.233.2.0/26"), net("fd00::/122"), net("10.233.3.7/32")])
    assert {r.destination: r.metric for r in state.values() if isinstance(r, Route)} == {
        net("10.233.2.0/26"): 1,
        net("10.234.2.0/26"): 0,
        net("fd00::/122"): 1025,
        net("10.233.3.7/32"): 0,
    }


def test_of_a_divided_network_only_the_pools_with_bgp_are_the_daemons() -> None:
    divided = {"type": "per-pool", "default": "vxlan", "pools": {str(POOL): "bgp"}}
    other = {"cidr": "10.240.0.0/16", "blockSize": 26}
    seen = view(
        [network("blue", BLUE, other, backend=divided, attachment="routed")],
        [host("h1", "192.168.31.62"), host("h2", "192.168.31.63")],
        [block("10.233.1.0/26", "h1"), block("10.240.1.0/26", "h1")],
    )
    state = desired(seen).state
    bird = state["bird"]
    assert isinstance(bird, Bird)
    assert "10.233.1.0/26" in bird.config
    assert "10.240" not in bird.config
    assert "route 10.240.1.0/26" in state
    assert "route 10.233.1.0/26" not in state
