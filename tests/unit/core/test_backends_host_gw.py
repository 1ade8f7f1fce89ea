"""Backend host-gw: the peer is the gateway, or it is refused by name."""

from __future__ import annotations

import pytest
from tests.unit.views import block, facts, host, network

from netloom.core.backends.contract import Side
from netloom.core.backends.host_gw import HostGwBackend, PreparedHostGw
from netloom.model.errors import InvalidConfig
from netloom.model.view import HostFacts
from netloom.model.wording import describe

V4 = facts("192.168.31.62/24")
BOTH = facts("192.168.31.62/24", "2001:db8::62/64")


def prepare(own: HostFacts = V4, *pools: str, mtu: int = 0) -> PreparedHostGw:
    wanted = network("blue", *(pools or ("10.244.0.0/16",)), backend="host-gw", mtu=mtu)
    return HostGwBackend().prepare(Side(wanted, host("h1"), own, (block("10.244.0.0/24", "h1"),)))


def test_the_peer_itself_is_the_gateway_of_its_block():
    found = prepare().reach(host("h2", "192.168.31.63"), block("10.244.1.0/24", "h2"))
    assert [describe(obj) for obj in found.objects.values()] == [
        "route 10.244.1.0/24 via 192.168.31.63 dev ens33"
    ]
    assert found.path == "host-gw via 192.168.31.63 dev ens33"


def test_an_ipv6_block_goes_by_the_peers_ipv6_address():
    prepared = prepare(BOTH, "fd00:10::/48")
    found = prepared.reach(host("h2", "192.168.31.63", "2001:db8::63"), block("fd00:10::/64", "h2"))
    assert [describe(obj) for obj in found.objects.values()] == [
        "route fd00:10::/64 via 2001:db8::63 dev ens33 metric 1024"
    ]


def test_a_peer_behind_a_router_is_refused_with_its_name_and_a_remedy():
    found = prepare().reach(host("h2", "192.168.30.72"), block("10.244.1.0/24", "h2"))
    assert found.objects == {}
    assert found.problem is not None
    assert found.problem.severity == "error"
    assert found.problem.subject == "peer h2"
    assert "192.168.30.72 is not on-link" in found.problem.text
    assert "192.168.31.0/24 of ens33" in found.problem.text
    assert "vxlan" in found.problem.remedy
    assert "directRouting" in found.problem.remedy


def test_a_peer_without_an_address_of_the_family_is_refused_by_name():
    found = prepare(BOTH, "fd00:10::/48").reach(
        host("h2", "192.168.31.63"), block("fd00:10::/64", "h2")
    )
    assert found.problem is not None
    assert found.problem.text == (
        "network blue: h2 has no IPv6 underlay address, which backend host-gw needs"
    )


def test_what_this_host_lacks_is_said_once_and_not_for_each_peer():
    prepared = prepare(V4, "fd00:10::/48")
    assert [problem.subject for problem in prepared.problems] == ["network blue"]
    assert "IPv6" in prepared.problems[0].text
    assert prepared.reach(host("h2", "2001:db8::63"), block("fd00:10::/64", "h2")).problem is None


@pytest.mark.parametrize(("mtu", "least"), [(0, 1500), (1400, 1400)])
def test_plain_routes_cost_no_mtu(mtu, least):
    assert prepare(mtu=mtu).mtu_bytes == least


def test_it_takes_no_address_of_a_block_and_no_device():
    prepared = prepare()
    assert not prepared.objects
    assert not prepared.excluded(block("10.244.0.0/24", "h1"))


def test_it_has_no_options():
    with pytest.raises(InvalidConfig) as caught:
        HostGwBackend().parse({"vni": 1}, "backend")
    assert caught.value.field == "backend.vni"
