"""Records of hosts that are not as they should be: they take no session away from others."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.unit.core.test_bgp_resources import RANGES, names, plan, resource, seen, session_of, told
from tests.unit.views import ip

from netloom.model.view import View


def at(made: View, **addresses: str) -> View:
    """Return the view with other underlay addresses of hosts."""
    hosts = dict(made.cluster.hosts)
    for name, text in addresses.items():
        key = f"underlay{ip(text).version}"
        hosts[name] = replace(hosts[name], underlay4=None, underlay6=None)
        hosts[name] = replace(hosts[name], **{key: ip(text)})
    return replace(made, cluster=replace(made.cluster, hosts=hosts))


SAID = (
    "peer h3: its underlay address 192.168.26.2 is also host h2's (h2), with whom the BGP session "
    "there is"
)


@pytest.mark.parametrize("own", ["h1", "h4"])
def test_two_hosts_with_one_address_are_one_session_and_a_word_about_both(own: str) -> None:
    """BIRD knows no two sessions with one neighbour: it would refuse all of them."""
    made = plan(at(seen(own=own, hosts=4), h3="192.168.26.2"), RANGES)
    other = "Mesh_192_168_26_4" if own == "h1" else "Mesh_192_168_26_1"
    assert sorted(names(made)) == sorted(["Mesh_192_168_26_2", other])
    assert told(made) == [SAID]
    assert all(problem.remedy for problem in made.problems)


def test_the_session_is_as_the_first_of_them_is_configured_in_whatever_order_they_come() -> None:
    one = resource("BGPConfiguration", "node.h2", asNumber=64601)
    view = at(seen(one), h3="192.168.26.2")
    backwards = dict(reversed(view.cluster.hosts.items()))
    for each in (view, replace(view, cluster=replace(view.cluster, hosts=backwards))):
        assert session_of(plan(each, RANGES), "192.168.26.2").remote_as == 64601


@pytest.mark.parametrize("address", ["0.0.0.0", "224.0.0.5", "127.0.0.1"])
def test_a_host_whose_address_is_no_machines_is_left_out_and_named(address: str) -> None:
    made = plan(at(seen(), h2=address), RANGES)
    assert names(made) == ["Mesh_192_168_26_3"]
    (said,) = told(made)
    assert said.startswith(f"peer h2: its underlay address {address} ")
