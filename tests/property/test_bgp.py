"""Whatever users name, BIRD reads the configuration, and it says no more than was planned."""

from __future__ import annotations

import ipaddress
import re
import subprocess
import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from netloom.core.bgp.plan import BgpPlan
from netloom.core.bgp.render import render
from netloom.core.bgp.session import Session, session_name
from netloom.kernel.commands import find
from netloom.model.errors import InvalidConfig

_V4 = st.integers(1, 0xDFFFFFFF).map(ipaddress.IPv4Address)
_V6 = st.integers(1, 1 << 120).map(ipaddress.IPv6Address)
_TEXTS = st.text(st.sampled_from("ab \\'\"\n;{}#/*%$é\t"), max_size=20) | st.text(max_size=90)


def _cidr(address: ipaddress.IPv4Address | ipaddress.IPv6Address, length: int):
    return ipaddress.ip_network((address, min(length, address.max_prefixlen)), strict=False)


@st.composite
def _sessions(draw: st.DrawFn) -> Session:
    addresses = draw(st.sampled_from((_V4, _V6)))
    neighbour = draw(addresses)
    accepts = st.lists(st.builds(_cidr, addresses, st.integers(8, 64)), max_size=3)
    return Session(
        session_name("Mesh_", neighbour),
        draw(addresses),
        neighbour,
        draw(st.integers(1, 0xFFFFFFFF)),
        tuple(draw(accepts)),
        draw(st.booleans()),
        draw(_TEXTS),
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
)


@given(_PLANS)
@settings(max_examples=80, deadline=None)
def test_bird_reads_what_is_rendered_and_nothing_was_smuggled_in(plan: BgpPlan) -> None:
    try:
        text = render(plan)
    except InvalidConfig:
        texts = [*plan.links, *(session.password for session in plan.sessions)]
        assert any(
            '"' in each or not each.isprintable() or len(each.encode()) > 80 for each in texts
        )
        return
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "bird.conf").write_text(text, "utf-8")
        done = subprocess.run(
            [find("bird"), "-p", "-c", "bird.conf"],
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 0, (done.stderr, text)
    bare = re.sub(r'"[^"\n]*"', "TEXT", text)  # as BIRD's lexer sees texts
    families = {s.family for s in plan.sessions} | {cidr.version for cidr in plan.own}
    wanted = 1 + bool(plan.links) + 2 * len(families) + len(plan.sessions)
    assert (
        len(re.findall(r"\bprotocol (?=\w+ )", bare)) - bare.count("timeformat protocol") == wanted
    )
    assert bare.count("password TEXT;") == sum(bool(s.password) for s in plan.sessions)
    assert bare.count(" blackhole;") == len(plan.own)
