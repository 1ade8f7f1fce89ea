"""Whatever is in the store, BIRD takes the configuration that comes of it."""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.property.test_bgp import said_by_bird
from tests.unit.views import block, facts, host, iface, net, network, view

from netloom.core.bgp.plan import plan
from netloom.core.bgp.render import render
from netloom.core.resources.values import nobodys
from netloom.model.resource import Resource
from netloom.model.view import View

POOLS = ("10.233.0.0/16", "fd00:10:233::/112")
RANGES = {"blue": tuple(map(net, POOLS)), "green": (net(POOLS[0]),)}
#: Few, so that they meet each other; the last ones are no machine's.
V4 = ("192.168.26.1", "192.168.26.2", "192.168.26.254", "10.9.9.9", "169.254.1.1")
V6 = ("fd26::1", "fd26::2", "fd26::fe")
ODD = ("0.0.0.0", "127.0.0.1", "224.0.0.5", "255.255.255.255", "::", "::1", "fe80::1", "ff02::5")
ODD += ("::ffff:192.168.26.2", "fe80::1%ens32", "fd26::1%ens32")
ADDRESSES = st.sampled_from([*V4, *V6]) | st.sampled_from([*V4, *V6, *ODD])
SERVES = MappingProxyType({"blue": ("bgp",)})
NAMES = ("h1", "h2", "h3", "h4")
AS = st.sampled_from([64512, 64513, 4200000000])


def _maybe(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional=fields)


_SELECTORS = st.sampled_from(["all()", "rr == 'true'", "rr != 'true'"])
_LISTS = st.lists(st.sampled_from(["f", "gone"]), max_size=2)
_PEERS = _maybe(
    node=st.sampled_from(NAMES),
    nodeSelector=_SELECTORS,
    peerIP=st.builds(
        lambda a, p: (f"[{a}]{p}" if ":" in a else a + p) if p else a,
        ADDRESSES,
        st.sampled_from(["", "", ":179", ":1790"]),
    ),
    peerSelector=_SELECTORS,
    asNumber=AS,
    localASNumber=AS,
    keepOriginalNextHop=st.booleans(),
    nextHopMode=st.sampled_from(["Auto", "Self", "Keep"]),
    sourceAddress=st.sampled_from(["None", "UseNodeIP"]),
    maxRestartTime=st.sampled_from(["0s", "4095s"]),
    keepaliveTime=st.sampled_from(["0s", "1s", "21845s"]),
    numAllowedLocalASNumbers=st.integers(0, 10),
    ttlSecurity=st.sampled_from([1, 254]),
    reachableBy=ADDRESSES,
    filters=_LISTS,
)
_CONFIGURATIONS = _maybe(
    asNumber=AS,
    nodeToNodeMeshEnabled=st.booleans(),
    listenPort=st.sampled_from([179, 1790]),
    nodeMeshMaxRestartTime=st.just("5s"),
    logSeverityScreen=st.sampled_from(["None", "Trace"]),
    ignoredInterfaces=st.just(["ens*"]),
    prefixAdvertisements=st.just([{"cidr": POOLS[0], "communities": ["1:2", "1:2:3"]}]),
)
_NODES = _maybe(
    bgp=_maybe(
        asNumber=AS,
        routeReflectorClusterID=st.sampled_from(["244.0.0.1", "244.0.0.2", "0.0.0.0"]),
    )
)
_FILTERS = _maybe(
    importV4=st.just([{"action": "Reject", "matchOperator": "In", "cidr": POOLS[0]}]),
    exportV6=st.just([{"action": "Accept"}]),
)


def _resource(kind: str, name: str, spec: dict[str, Any]) -> Resource:
    labels = {"rr": "true"} if name in ("h1", "h2") else {}
    return Resource.parse(
        {"kind": kind, "metadata": {"name": name, "labels": labels}, "spec": spec}
    )


@st.composite
def _views(draw: st.DrawFn) -> View:
    """Return what h1 sees; its own facts are the kernel's, all else anybody may have written."""
    named = [
        ("BGPPeer", name, _PEERS) for name in draw(st.lists(st.sampled_from("abcd"), unique=True))
    ]
    named += [
        ("BGPConfiguration", name, _CONFIGURATIONS)
        for name in draw(st.sets(st.sampled_from(["default", "node.h1", "node.h2"])))
    ]
    named += [("Node", name, _NODES) for name in draw(st.sets(st.sampled_from(NAMES)))]
    named += [("BGPFilter", "f", _FILTERS)] if draw(st.booleans()) else []
    resources = [_resource(kind, name, draw(spec)) for kind, name, spec in named]
    cidrs = ("10.233.0.0/26", "10.233.9.1/32", "10.233.1.0/26", "fd00:10:233::/122")
    made = view(
        [network(name, *POOLS, backend="bgp") for name in RANGES],
        [
            replace(
                host(name, *draw(st.lists(ADDRESSES, max_size=3))),
                serves=SERVES,
            )
            for name in draw(st.permutations(NAMES))
        ],
        [
            block(cidr, draw(st.sampled_from(NAMES)), name)
            for name in RANGES
            for cidr in draw(st.lists(st.sampled_from(cidrs), unique=True))
        ],
        own=facts(
            *draw(st.sampled_from([("192.168.26.1/24", "fd26::1/64"), ("192.168.26.1/24",), ()])),
            candidates=(("ens34", iface("10.9.9.1/24"), 1500),),
        ),
    )
    cluster = replace(made.cluster, resources={each.identity: each for each in resources})
    return replace(made, cluster=cluster)


@given(_views())
@settings(max_examples=150, deadline=None)
def test_no_content_of_a_cluster_makes_a_configuration_that_bird_refuses(made: View) -> None:
    """One host's record, or one resource, must not stop what is for all others."""
    done = plan(made, RANGES)
    assert not said_by_bird(text := render(done)), text
    ends = [(session.neighbour, session.port) for session in done.sessions]
    assert len(set(ends)) == len(ends)
    assert not any(nobodys(session.neighbour) for session in done.sessions)
    with_hosts = [session.neighbour for session in done.sessions if not session.router]
    assert len(set(with_hosts)) == len(with_hosts)
