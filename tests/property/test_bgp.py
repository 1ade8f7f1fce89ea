"""Whatever users name, BIRD reads the configuration, and it says no more than was planned."""

from __future__ import annotations

import ipaddress
import re
import subprocess
import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from netloom.core.bgp.filters import EXPORT, IMPORT, function_name, rules
from netloom.core.bgp.plan import BgpPlan
from netloom.core.bgp.render import render
from netloom.core.bgp.session import Session, session_name
from netloom.core.resources.bgp import Advertised
from netloom.core.resources.bgp_filter import BgpFilter, FilterRule
from netloom.kernel.commands import find
from netloom.model.errors import InvalidConfig

_V4 = st.integers(1, 0xDFFFFFFF).map(ipaddress.IPv4Address)
_V6 = st.integers(1, 1 << 120).map(ipaddress.IPv6Address)
_PLAIN = st.text(st.sampled_from("ab \\';{}#/*%$é"), max_size=20)
_TEXTS = st.one_of(
    *[_PLAIN] * 15, st.text(st.sampled_from('ab"\n\t;'), max_size=9), st.text(max_size=90)
)


def _cidr(address: ipaddress.IPv4Address | ipaddress.IPv6Address, length: int):
    return ipaddress.ip_network((address, min(length, address.max_prefixlen)), strict=False)


_AS = st.integers(1, 0xFFFFFFFF)
_COMMUNITIES = st.lists(
    st.tuples(st.integers(0, 0xFFFF), st.integers(0, 0xFFFF)) | st.tuples(_AS, _AS, _AS), max_size=2
).map(tuple)


@st.composite
def _rules(draw: st.DrawFn, addresses: st.SearchStrategy) -> FilterRule:
    cidr = draw(st.none() | st.builds(_cidr, addresses, st.integers(0, 64)))
    low = draw(st.integers(cidr.prefixlen if cidr else 0, cidr.max_prefixlen if cidr else 32))
    high = draw(st.integers(low, cidr.max_prefixlen if cidr else 32))
    return FilterRule(
        draw(st.booleans()),
        cidr,
        draw(st.sampled_from(("Equal", "NotEqual", "In", "NotIn"))),
        draw(st.none() | st.just((low, high))),
        draw(st.booleans()),
        draw(_TEXTS),
        draw(_COMMUNITIES),
        draw(st.lists(_AS, max_size=3).map(tuple)),
        draw(_COMMUNITIES),
        draw(st.lists(_AS, max_size=3).map(tuple)),
    )


_NAMES = st.from_regex(r"[a-z0-9]([a-z0-9.-]{0,80}[a-z0-9])?", fullmatch=True)
_FILTERS = st.builds(
    BgpFilter,
    name=_NAMES,
    **{
        f"{direction}{family}": st.lists(_rules(addresses), max_size=2).map(tuple)
        for direction in ("export", "import")
        for family, addresses in ((4, _V4), (6, _V6))
    },
)


@st.composite
def _sessions(draw: st.DrawFn) -> Session:
    addresses = draw(st.sampled_from((_V4, _V6)))
    neighbour = draw(addresses)
    accepts = st.lists(st.builds(_cidr, addresses, st.integers(8, 64)), max_size=3)
    local_as, remote_as = draw(st.none() | _AS), draw(_AS)
    return Session(
        session_name("Mesh_", neighbour),
        draw(addresses | st.none()),
        neighbour,
        remote_as,
        tuple(draw(accepts)),
        draw(st.booleans()),
        draw(_TEXTS),
        router=draw(st.booleans()),
        port=draw(st.integers(1, 65535)),
        local_as=local_as,
        transit=draw(st.booleans()),
        direct=draw(st.lists(addresses, max_size=2).map(tuple)),
        client=local_as == remote_as and draw(st.booleans()),
        next_hop=draw(st.sampled_from(("auto", "self", "keep"))),
        keepalive_s=draw(st.none() | st.integers(0, 21845)),
        restart_s=draw(st.none() | st.integers(0, 4095)),
        allowed_local_as=draw(st.integers(0, 10)),
        hops=draw(st.integers(0, 254)),
        filters=draw(st.lists(_FILTERS | st.none(), max_size=2).map(tuple)),
        reachable_by=draw(addresses | st.none()),
    )


_PLANS = st.builds(
    BgpPlan,
    router_id=_V4,
    local_as=st.integers(1, 0xFFFFFFFF),
    own=st.lists(st.builds(_cidr, _V4 | _V6, st.integers(8, 128)), max_size=3, unique=True).map(
        tuple
    ),
    sessions=st.lists(_sessions(), max_size=4, unique_by=lambda s: s.name).map(tuple),
    links=st.lists(_TEXTS.filter(bool), max_size=2).map(tuple),
    port=st.integers(1, 65535),
    cluster_id=_V4,
    unexported=st.lists(st.builds(_cidr, _V4 | _V6, st.integers(0, 64)), max_size=2).map(tuple),
    protected=st.lists(st.builds(_cidr, _V4 | _V6, st.integers(0, 64)), max_size=2).map(tuple),
    too_fine=st.lists(
        st.tuples(st.builds(_cidr, _V4, st.integers(0, 16)), st.just(17), st.just(31)), max_size=2
    ).map(tuple),
    loans=st.lists(
        st.builds(_cidr, _V4, st.just(32)) | st.builds(_cidr, _V6, st.just(128)), max_size=2
    ).map(tuple),
    advertised=st.lists(
        st.builds(Advertised, st.builds(_cidr, _V4 | _V6, st.integers(0, 64)), _COMMUNITIES),
        max_size=2,
    ).map(tuple),
    log_severity=st.sampled_from(("None", "Fatal", "Error", "Warning", "Info", "Debug", "Trace")),
)


@given(_PLANS)
@settings(max_examples=80, deadline=None)
def test_bird_reads_what_is_rendered_and_nothing_was_smuggled_in(plan: BgpPlan) -> None:
    try:
        text = render(plan)
    except InvalidConfig:
        texts = [*plan.links, *(session.password for session in plan.sessions)]
        texts += [rule.interface for rule in _all_rules(plan)]
        assert any(
            '"' in each or not each.isprintable() or len(each.encode()) > 80 for each in texts
        )
        return
    assert not said_by_bird(text), text
    bare = re.sub(r'"[^"\n]*"', "TEXT", text)  # as BIRD's lexer sees texts
    families = {s.family for s in plan.sessions} | {cidr.version for cidr in plan.own}
    ways = {s.family for s in plan.sessions if s.reachable_by}
    wanted = 1 + bool(plan.links) + 2 * len(families) + len(ways) + len(plan.sessions)
    assert len(re.findall(r"^protocol \w+ ", bare, re.MULTILINE)) == wanted
    assert bare.count("password TEXT;") == sum(bool(s.password) for s in plan.sessions)
    assert bare.count(" blackhole;") == len(plan.own)
    assert bare.count("ifname ~ TEXT") == sum(bool(r.interface) for r in _all_rules(plan))
    assert bare.count("{") == bare.count("}")


def said_by_bird(text: str) -> str:
    """Return what BIRD says of a configuration: nothing when it takes it."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "bird.conf").write_text(text, "utf-8")
        done = subprocess.run(
            [find("bird"), "-p", "-c", "bird.conf"],
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
        )
    assert bool(done.stderr) == bool(done.returncode)
    return done.stderr


def _all_rules(plan: BgpPlan) -> list[FilterRule]:
    """Return the rules that are written down: of each filter once, in the families of sessions."""
    used = {
        function_name(each, direction, session.family): rules(each, direction, session.family)
        for session in plan.sessions
        for each in session.filters
        if each
        for direction in (IMPORT, EXPORT)
    }
    return [rule for each in used.values() for rule in each]
