"""A move of backends: how it begins, who is awaited, when it ends, what is refused, which way."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

import pytest
from tests.unit.views import block, facts, host, net, network, view

from netloom.agent.registration import Registration
from netloom.core import moving
from netloom.core.backends.contract import Side
from netloom.core.backends.moving import PreparedMove, prepare, served
from netloom.core.desired import desired
from netloom.model.errors import Conflict, InvalidConfig
from netloom.model.host import UNPACKS, Host
from netloom.model.kernel import Route
from netloom.model.network import Network
from netloom.model.view import Cluster

OWN = facts("192.168.31.62/24")
PEER_BLOCK = block("10.244.2.0/24", "h2")


def blue(*backends: object) -> Network:
    """Return a network that was moved through ``backends``, one after the other."""
    now = network(backend=backends[0])
    for backend in backends[1:]:
        now = moving.begin(now, replace(now, backend=network(backend=backend).backend))
    return now


def a_host(
    host_id: str,
    *underlay: str,
    serves: tuple[str, ...] = (),
    sends: str = "",
    segments: tuple[str, ...] = (),
) -> Host:
    return replace(
        host(host_id, *underlay),
        serves=MappingProxyType({"blue": serves} if serves else {}),
        sends=MappingProxyType({"blue": sends} if sends else {}),
        segments=tuple(net(text) for text in segments),
    )


def cluster(definition: Network, *hosts: Host, blocks: Mapping[str, str] | None = None) -> Cluster:
    held = blocks or {h.id: f"10.244.{n}.0/24" for n, h in enumerate(hosts, 1)}
    return view([definition], hosts, [block(cidr, owner) for owner, cidr in held.items()]).cluster


def prepared(definition: Network, own=OWN):
    return prepare(Side(definition, host("h1"), own, (block("10.244.1.0/24", "h1"),)))


def labels(definition: Network) -> list[str]:
    return [choice.label for choice in definition.retiring]


def test_a_move_begins_with_the_former_backend_retiring_and_a_number_of_its_own():
    definition = blue("vxlan", "host-gw")
    assert (definition.backend.type, labels(definition)) == ("host-gw", ["vxlan"])
    assert (definition.moves, definition.course) == (1, "host-gw (1)")


def test_a_definition_that_never_moved_says_nothing_of_moves():
    assert blue("vxlan").course == "vxlan"
    assert {"retiring", "moves"}.isdisjoint(blue("vxlan").render())


def test_a_second_move_before_the_first_ended_keeps_all_that_may_be_in_use():
    definition = blue("vxlan", "host-gw", {"type": "vxlan", "vni": 7})
    assert labels(definition) == ["host-gw", "vxlan"]


def test_back_to_where_it_came_from_retires_what_lies_between():
    definition = blue("vxlan", "host-gw", "vxlan")
    assert (definition.backend.label, labels(definition)) == ("vxlan", ["host-gw", "vxlan"])
    assert [choice.label for choice in definition.moving_from] == ["host-gw"]
    assert definition.course != blue("vxlan").course


def test_nobody_but_the_hosts_ends_a_move():
    definition = blue("vxlan", "host-gw")
    asked = replace(definition, retiring=(), moves=0, mtu_bytes=1400)
    assert moving.begin(definition, asked) == replace(definition, mtu_bytes=1400)


@pytest.mark.parametrize("backends", [("vxlan",), ("vxlan", "host-gw"), ("vxlan", "udp", "vxlan")])
def test_parse_reads_what_render_writes(backends):
    definition = blue(*backends)
    assert Network.parse(definition.render()) == definition


def test_a_host_of_an_older_version_has_no_word_on_moves():
    old = Host.parse({"id": "h1", "name": "h1", "underlay": {"ipv4": "192.168.31.62"}})
    assert (old.serves, old.sends, old.segments) == ({}, {}, ())
    assert Host.parse(a_host("h2", serves=("vxlan",), sends="vxlan (3)").render()).sends == {
        "blue": "vxlan (3)"
    }


@pytest.mark.parametrize(
    ("serves", "way", "late"),
    [
        ((), "vxlan flannel.1", True),
        (("vxlan",), "vxlan flannel.1", True),
        (("host-gw",), "host-gw", False),
        (("vxlan", "host-gw"), "host-gw", False),
        (("something-newer",), "vxlan flannel.1", True),
    ],
)
def test_a_peer_is_reached_by_the_first_backend_that_it_serves_else_by_the_oldest(
    serves, way, late
):
    peer = a_host("h2", "192.168.31.63", serves=serves)
    reach = prepared(blue("vxlan", "host-gw")).reach(peer, PEER_BLOCK)
    assert reach.path.startswith(way)
    assert reach.late == late


@pytest.mark.parametrize(
    ("serves", "vni"),
    [((), 1), (("vxlan",), 1), (("vxlan vni=2", "vxlan"), 2), (("vxlan vni=3", "vxlan vni=2"), 3)],
)
def test_of_three_backends_the_newest_common_one_is_taken(serves, vni):
    definition = blue("vxlan", {"type": "vxlan", "vni": 2}, {"type": "vxlan", "vni": 3})
    peer = a_host("h2", "192.168.31.63", serves=serves)
    assert f"flannel.{vni} " in prepared(definition).reach(peer, PEER_BLOCK).path


def test_a_backend_that_leads_nowhere_here_is_not_taken_though_the_peer_serves_it():
    """host-gw for an IPv6 block on a host without IPv6 says nothing and does nothing."""
    definition = network("blue", "10.244.0.0/16", "fd00:10::/48")
    wanted = replace(definition, backend=network(backend="host-gw").backend)
    peer = a_host("h2", "192.168.31.63", serves=("host-gw", "vxlan"))
    reach = prepared(moving.begin(definition, wanted)).reach(peer, block("fd00:10:0:2::/64", "h2"))
    assert any(isinstance(obj, Route) for obj in reach.objects.values())
    assert reach.late


def test_a_peer_behind_a_router_keeps_the_old_way():
    peer = a_host("h2", "10.9.0.63", serves=("host-gw", "vxlan"))
    reach = prepared(blue("vxlan", "host-gw")).reach(peer, PEER_BLOCK)
    assert reach.late
    assert reach.path.startswith("vxlan")


def test_the_same_device_with_another_port_cannot_stand_beside_itself():
    definition = blue("vxlan", {"type": "vxlan", "port": 4789})
    side = prepared(definition)
    assert served(definition, side) == ("vxlan port=4789",)
    with pytest.raises(Conflict, match=r"both need link flannel\.1") as caught:
        moving.refuse_gap(Cluster(), definition)
    assert "backend.vni" in caught.value.hint


@pytest.mark.parametrize(
    "backend",
    ["host-gw", "udp", {"type": "vxlan", "vni": 2}, {"type": "vxlan", "directRouting": True}],
)
def test_backends_that_share_no_device_or_all_of_it_leave_no_gap(backend):
    definition = blue("vxlan", backend)
    moving.refuse_gap(Cluster(), definition)
    assert len(served(definition, prepared(definition))) == 2


def test_while_two_backends_stand_a_container_gets_the_smaller_mtu():
    assert prepared(blue("host-gw", "vxlan")).mtu_bytes == 1450
    assert prepared(blue("vxlan", "host-gw")).mtu_bytes == 1450
    assert prepared(blue("host-gw")).mtu_bytes == 1500


def test_a_move_waits_for_those_who_cannot_be_reached_the_new_way_then_for_those_who_send():
    definition = blue("vxlan", "host-gw")
    arrived = a_host("h1", serves=("host-gw", "vxlan"), sends=definition.course)
    ready = a_host("h2", serves=("host-gw", "vxlan"), sends="vxlan")
    dead = a_host("h3", serves=("vxlan",), sends="vxlan")
    assert moving.waiting_for(cluster(definition, arrived, ready, dead), definition) == ("h3",)
    assert moving.waiting_for(cluster(definition, arrived, ready), definition) == ("h2",)
    assert moving.finished(cluster(definition, arrived, ready), definition) is None
    done = moving.finished(cluster(definition, arrived), definition)
    assert done == replace(definition, retiring=())


def test_what_a_host_said_in_an_earlier_move_does_not_end_this_one():
    definition = blue("vxlan", "host-gw", "vxlan")
    stale = a_host("h1", serves=("vxlan", "host-gw"), sends=blue("vxlan").course)
    assert moving.waiting_for(cluster(definition, stale), definition) == ("h1",)


def test_asked_are_hosts_without_a_block_and_blocks_without_a_host():
    definition = blue("vxlan", "host-gw")
    idle = a_host("h1", serves=("vxlan",))
    stranger = a_host("h9")
    picture = cluster(definition, idle, stranger, blocks={"ghost": "10.244.3.0/24"})
    assert moving.waiting_for(picture, definition) == ("ghost", "h1")


def test_host_gw_is_refused_where_a_router_is_between_and_each_host_is_named():
    hosts = [
        a_host("h1", "192.168.31.62", segments=("192.168.31.0/24",)),
        a_host("h2", "192.168.32.63", segments=("192.168.32.0/24",)),
    ]
    definition = blue("vxlan", "host-gw")
    with pytest.raises(InvalidConfig, match=r"h1: .*192\.168\.32\.63 .*not on-link.*h2: "):
        moving.refuse_impossible(cluster(definition, *hosts), definition)
    # who has not said where it is cannot be judged
    silent = [replace(each, segments=()) for each in hosts]
    moving.refuse_impossible(cluster(definition, *silent), definition)


def recorded(picture: Cluster, own=OWN, *, told: Host | None = None) -> Host:
    """Return what h1 says after it applied ``picture``."""
    hosts = {**picture.hosts, **({"h1": told} if told else {})}
    picture = replace(picture, hosts=hosts)
    applied = desired(replace(view([], own=own), cluster=picture))
    return Registration("h1", "h1", lambda: 0.0).record(picture, own, applied)


def test_a_host_says_that_it_has_arrived_once_every_peer_is_reached_the_new_way():
    definition = blue("vxlan", "host-gw")
    late = a_host("h2", "192.168.31.63", serves=("vxlan",))
    ready = replace(late, serves=MappingProxyType({"blue": ("host-gw", "vxlan")}))
    blocks = {"h1": "10.244.1.0/24", "h2": "10.244.2.0/24"}
    before = recorded(cluster(definition, late, blocks=blocks))
    assert before.serves == {"blue": ("host-gw", "vxlan")}
    assert before.sends == {}
    assert recorded(cluster(definition, ready, blocks=blocks)).sends == {"blue": "host-gw (1)"}


def test_a_host_says_that_its_kernel_unpacks_as_long_as_it_does():
    applied = desired(view([blue("udp")], own=OWN))
    device = frozenset({"flannel0"})
    own = Registration("h1", "h1", lambda: 0.0)
    picture = cluster(blue("udp"))
    before = own.record(picture, OWN, applied, device)
    assert before.serves == {"blue": ("udp", UNPACKS)}
    told = replace(picture, hosts={"h1": before})
    assert own.record(told, OWN, None).serves == before.serves
    assert own.record(told, OWN, applied, device).serves == before.serves
    assert own.record(told, OWN, applied).serves == {"blue": ("udp",)}


def test_a_host_whose_underlay_is_gone_keeps_its_word_for_what_its_kernel_still_holds():
    """Without an underlay nothing is swept and nothing new stands: neither is to be claimed."""
    told = a_host("h1", serves=("vxlan",), sends="vxlan")
    ready = a_host("h2", "192.168.31.63", serves=("host-gw", "vxlan"))
    blocks = {"h1": "10.244.1.0/24", "h2": "10.244.2.0/24"}
    definition = blue("vxlan", "host-gw")
    said = recorded(cluster(definition, ready, blocks=blocks), facts(), told=told)
    assert (said.serves, said.sends) == (told.serves, told.sends)


def test_several_backends_are_one_prepared_value_that_equals_itself():
    """Equal prepared values give equal reaches: what was computed for peers is kept."""
    one, two = prepared(blue("vxlan", "host-gw")), prepared(blue("vxlan", "host-gw"))
    assert isinstance(one, PreparedMove)
    assert one == two


def test_only_while_it_lasts_a_move_lets_packets_come_another_way_than_answers_go():
    def filters(definition: Network) -> set[str]:
        return {key for key in prepared(definition).objects if "rp_filter" in key}

    moves = {f"sysctl ipv4/conf/{device}/rp_filter" for device in ("ens33", "flannel.1")}
    assert filters(blue("vxlan", "host-gw")) == moves
    assert filters(blue("vxlan")) == filters(blue("host-gw")) == set()


def test_what_the_kernel_refuses_of_one_network_says_nothing_of_another():
    blue_ = blue("host-gw", "vxlan")
    cni1 = {"type": "bridge", "bridge": "cni1"}
    red = network("red", "10.66.0.0/16", backend="host-gw", attachment=cni1)
    peer = a_host("h2", "192.168.31.63", serves=("host-gw",))
    peer = replace(peer, serves={"blue": ("host-gw",), "red": ("host-gw",)})
    blocks = [
        block("10.244.1.0/24", "h1"),
        PEER_BLOCK,
        block("10.66.1.0/24", "h1", "red"),
        block("10.66.2.0/24", "h2", "red"),
    ]
    wanted = desired(view([blue_, red], [a_host("h1", "192.168.31.62"), peer], blocks, own=OWN))

    def well(*refused: str) -> set[str]:
        assert set(refused) <= {*wanted.state, "link gone"}
        return set(moving.in_kernel(wanted, refused).standing)

    assert well() == {"blue", "red"}
    assert well("link gone") == {"blue", "red"}, "it is not wanted: what is wanted stands"
    assert well("route 10.66.2.0/24") == {"blue"}
    assert well("route 10.244.2.0/24") == {"red"}
    assert well("link flannel.1") == {"red"}
    assert well("sysctl ipv4/conf/flannel.1/rp_filter") == {"red"}
    assert well("route 10.66.2.0/24", "link flannel.1") == set()
    firewall = next(key for key in wanted.state if key.startswith("nft"))
    assert well(firewall) == {"blue", "red"}, "no packet travels by it"
    assert well(firewall, "link flannel.1") == {"red"}
    assert well("sysctl ipv4/ip_forward") == set(), "forwarding is of all"


@pytest.mark.parametrize("there_and_back", [False, True])
def test_what_peers_need_to_know_for_a_backend_that_retires_is_still_told(there_and_back: bool):
    """Pools with ways of their own, and one way for all: the tunnel's MAC stays in the record."""
    divided = {
        "type": "per-pool",
        "default": {"type": "bgp"},
        "pools": {"10.244.0.0/16": {"type": "vxlan"}},
    }
    ways: tuple[object, ...] = (divided, "bgp") if there_and_back else ("bgp", divided)
    definition = blue(*ways)
    told = recorded(cluster(definition, a_host("h1", "192.168.31.62"))).macs
    assert set(told) == {"blue"}
