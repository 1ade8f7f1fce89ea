"""A host at an address that another one had first: nobody leads there, and it speaks to nobody."""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType

import pytest
from tests.unit.core.test_bgp_resources import RANGES, names, resource, seen
from tests.unit.views import block, facts, host, ip, network, view

from netloom.core.bgp.plan import plan
from netloom.core.desired import desired
from netloom.model.host import Host
from netloom.model.view import View


def contesting(view: View, name: str) -> View:
    """Return the view with one host at the address of another, who had it first."""
    one = view.cluster.hosts[name]
    assert one.underlay4 is not None
    late = replace(one, underlay4=None, contested=(one.underlay4,))
    hosts = MappingProxyType({**view.cluster.hosts, name: late})
    return replace(view, cluster=replace(view.cluster, hosts=hosts))


def test_what_a_record_says_of_it_is_read_again() -> None:
    late = Host("h2", "h2", contested=(ip("192.168.31.63"), ip("fd00::3")))
    assert Host.parse(late.render()) == late
    assert late.contests(6) == ip("fd00::3")


@pytest.mark.parametrize("backend", ["vxlan", "host-gw", "ipip", "udp", "bgp"])
def test_a_peer_at_anothers_address_is_named_and_nothing_is_sent_there(backend: str) -> None:
    wanted = desired(
        contesting(
            view(
                [network(backend=backend)],
                [host("h1", "192.168.31.62"), host("h2", "192.168.31.63")],
                [block("10.244.1.0/24", "h1"), block("10.244.2.0/24", "h2")],
                own=facts("192.168.31.62/24"),
            ),
            "h2",
        )
    )
    assert not [key for key in wanted.state if "10.244.2." in key or "192.168.31.63" in key]
    said = "h2 came to 192.168.31.63, which another host had before it"
    assert any(p.subject == "peer h2" and said in p.text for p in wanted.problems)


def test_it_is_told_that_it_cannot_reach_the_one_whose_address_it_has() -> None:
    wanted = desired(
        view(
            [network(backend="host-gw")],
            [host("h1"), host("h2", "192.168.31.63")],
            [block("10.244.2.0/24", "h2")],
            own=facts("192.168.31.63/24"),
        )
    )
    said = "its address 192.168.31.63 is this host's own as well: what is sent there stays here"
    assert [p.text for p in wanted.problems if p.subject == "peer h2"] == [said]


def test_it_has_no_sessions_itself_with_hosts_or_routers() -> None:
    """Its neighbours would take it for the host whose address it has."""
    router = resource("BGPPeer", "tor", peerIP="192.168.26.254", asNumber=65000)
    late = contesting(seen(router, own="h2"), "h2")
    made = plan(late, RANGES)
    assert (names(made), made.problems) == ([], ())
    others = plan(contesting(seen(router, own="h1"), "h2"), RANGES)
    assert names(others) == ["Mesh_192_168_26_3", "Global_192_168_26_254"]
