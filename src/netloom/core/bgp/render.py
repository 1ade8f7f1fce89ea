"""A plan as the configuration of BIRD 2, whole.

What users name gets in by ``quoted`` alone, which refuses what would end BIRD's text: BIRD knows no
escapes in it (conf/cf-lex.l). All else is numbers and addresses.

Who writes which route: BIRD writes a blackhole for each own block and one route for each block
that it learns, of protocol 12 and with the least metric; nothing else. It reads the host's own
routes, to find the way to a peer behind a router, but no route of ours to a container: so none
can be announced.

Sources: BIRD 2.0 User's Guide, chapters 3.2, 5.2 and 6; RFC 4724 for graceful restart.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from datetime import timedelta

from netloom.core.bgp.filters import functions, marks, quoted, sent, taken
from netloom.core.bgp.plan import BgpPlan
from netloom.core.bgp.session import Session, Timers
from netloom.core.resources.values import BGP_PORT
from netloom.model.addr import Family, IPAddress, IPNetwork
from netloom.model.errors import InvalidConfig
from netloom.model.kernel import IPV6_METRIC, ROUTE_PROTOCOL

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,63}")
#: Where BIRD writes its log, in the folder that it runs in, and the largest it may grow.
LOG_FILE, LOG_BYTES = "bird.log", 1 << 20
#: Severities as Calico has them, each with the classes of BIRD's log that it adds to those before.
_SEVERITIES = (
    ("None", ()),
    ("Fatal", ("fatal", "bug")),
    ("Error", ("error",)),
    ("Warning", ("warning", "auth")),
    ("Info", ("info", "remote")),
    ("Debug", ("debug",)),
    ("Trace", ("trace",)),
)
#: What BIRD tells of each protocol where one wants to know more.
_DETAILS = {"Debug": "{ states, events }", "Trace": "all"}
#: The metric under which BIRD writes, as the kernel shows it: that of IPv6 is its default one.
_METRIC: dict[Family, int] = {4: 0, 6: IPV6_METRIC}
#: Between routes of BGP (100) and own blocks (240 for networks of interfaces, 200 for static ones).
_HOSTS_OWN = 150


def render(plan: BgpPlan) -> str:
    """Return BIRD's configuration. Raises InvalidConfig for a text that BIRD would misread."""
    families = sorted({s.family for s in plan.sessions} | {cidr.version for cidr in plan.own})
    parts = [_head(plan)]
    for family in families:
        ways = _ways(family, plan.sessions)
        parts += [_blocks(family, plan.own), *ways, _kernel(family, bool(ways))]
    parts += functions(plan.sessions)
    parts += [_session(plan, session) for session in plan.sessions]
    return "\n".join(parts)


def _head(plan: BgpPlan) -> str:
    links = ", ".join(quoted(link, "interface") for link in plan.links)
    direct = f"protocol direct underlay {{\n  ipv4;\n  ipv6;\n  interface {links};\n}}\n"
    return (
        "# Written by Netloom; it is put back when it is changed.\n"
        f"{_log(plan.log_severity)}"
        f"router id {plan.router_id};\n"
        "timeformat base iso long us;\n"
        "timeformat protocol iso long ms;\n"
        f"graceful restart wait {_seconds(plan.timers.restart_wait)};\n"
        "protocol device {\n  scan time 10;\n}\n" + (direct if links else "")
    )


def _log(severity: str) -> str:
    names = [name for name, _ in _SEVERITIES]
    upto = _SEVERITIES[: names.index(severity) + 1]
    classes = ", ".join(word for _, words in upto for word in words)
    details = f"debug protocols {_DETAILS[severity]};\n" if severity in _DETAILS else ""
    if not classes:
        return ""
    return f'log "{LOG_FILE}" {LOG_BYTES} "{LOG_FILE}.old" {{ {classes} }};\n{details}'


def _blocks(family: Family, own: Iterable[IPNetwork]) -> str:
    routes = "".join(f"  route {cidr} blackhole;\n" for cidr in own if cidr.version == family)
    return f"protocol static blocks{family} {{\n  ipv{family};\n{routes}}}\n"


def _ways(family: Family, sessions: Iterable[Session]) -> list[str]:
    """Return the routes to neighbours that are reached by way of a gateway somebody named."""
    routes = {
        f"  route {each.neighbour}/{each.neighbour.max_prefixlen} via {each.reachable_by};\n"
        for each in sessions
        if each.reachable_by is not None and each.family == family
    }
    text = "".join(sorted(routes))
    return [f"protocol static ways{family} {{\n  ipv{family};\n{text}}}\n"] if text else []


def _kernel(family: Family, ways: bool) -> str:
    """Return the protocol that writes to the kernel.

    An own block of one address is the route of its container, which is ours. A route that the host
    itself has where BIRD's would be stays, and is the better one: BIRD would fail to write its own.
    ``persist``: routes stay when the daemon ends; that they go is asked for by a configuration
    without them.
    """
    whole = 32 if family == 4 else 128
    to_ways = f'\n      if proto = "ways{family}" then accept;' if ways else ""
    return f"""\
protocol kernel kernel{family} {{
  ipv{family} {{
    import filter {{
      if krt_source = {ROUTE_PROTOCOL} then reject;
      if krt_metric = {_METRIC[family]} then preference = {_HOSTS_OWN};
      accept;
    }};
    export filter {{
      if proto = "blocks{family}" then {{ if net.len = {whole} then reject; accept; }}{to_ways}
      if source = RTS_BGP then accept;
      reject;
    }};
  }};
  learn;
  persist;
  scan time 2;
  metric 0;
  graceful restart;
}}
"""


def _session(plan: BgpPlan, session: Session) -> str:
    if not _NAME.fullmatch(session.name):
        raise InvalidConfig(f"{session.name!r} is no name of a session", value=session.name)
    family = session.family
    external = session.remote_as != (session.local_as or plan.local_as)
    protected = [*plan.protected, *(plan.own if external else ())]
    colours = marks(((each.cidr, each.communities) for each in plan.advertised), family)
    lines = "".join(f"  {word}\n" for word in _words(plan, session))
    return f"""\
protocol bgp {session.name} {{
{lines}  ipv{family} {{
    import filter {{ {taken(session, protected, plan.too_fine, plan.loans)} }};
    export filter {{ {sent(session, plan.unexported, colours)} }};
    next hop {_next_hop(session, external)};
    gateway recursive;
  }};
}}
"""


def _words(plan: BgpPlan, session: Session) -> Iterator[str]:
    yield f"local {_place(session.local, plan.port)}as {session.local_as or plan.local_as};"
    yield f"neighbor {_place(session.neighbour, session.port)}as {session.remote_as};"
    yield f"multihop {session.hops};" if session.hops else "multihop;"
    if session.hops:
        yield "ttl security on;"
    if session.passive:
        yield "passive on;"
    if session.password:
        yield f"password {_password(session)};"
    if session.client:
        yield "rr client;"
        yield f"rr cluster id {plan.cluster_id};"
    if session.allowed_local_as:
        yield f"allow local as {session.allowed_local_as};"
    yield from _timing(plan.timers, session)


def _place(address: IPAddress | None, port: int) -> str:
    where = f"{address} " if address else ""
    return where + (f"port {port} " if port != BGP_PORT else "")


def _next_hop(session: Session, external: bool) -> str:
    """Return whom routes lead to: what is reflected keeps its way, what comes from afar is ours."""
    return {"keep": "keep", "self": "self"}.get(
        session.next_hop, "self" if external else "self ebgp"
    )


def _timing(timers: Timers, session: Session) -> Iterator[str]:
    hold_s, keepalive_s = _seconds(timers.hold), session.keepalive_s
    yield f"connect delay time {_seconds(timers.connect)};"
    yield f"connect retry time {_seconds(timers.retry)};"
    yield f"error wait time {_seconds(timers.error_least)}, {_seconds(timers.error_most)};"
    yield f"startup hold time {_seconds(timers.opening)};"
    yield f"hold time {max(hold_s, 3 * (keepalive_s or 0))};"
    if keepalive_s:
        yield f"keepalive time {keepalive_s};"
    restart_s = session.restart_s
    yield "graceful restart on;"
    yield f"graceful restart time {_seconds(timers.restart) if restart_s is None else restart_s};"


def _seconds(time: timedelta) -> int:
    return int(time.total_seconds())


def _password(session: Session) -> str:
    return quoted(session.password, f"the password of {session.neighbour}")
