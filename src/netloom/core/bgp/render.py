"""A plan as the configuration of BIRD 2, whole.

What users name gets in by :func:`_text` alone, which refuses what would end BIRD's text: BIRD knows
no escapes in it (conf/cf-lex.l). All else is numbers and addresses.

Who writes which route: BIRD writes a blackhole for each own block and one route for each block
that it learns, of protocol 12 and with the least metric; nothing else. It reads the host's own
routes, to find the way to a peer behind a router, but no route of ours to a container: so none
can be announced.

Sources: BIRD 2.0 User's Guide, chapters 3.2, 5.2 and 6; RFC 4724 for graceful restart.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import timedelta

from netloom.core.bgp.plan import BgpPlan, Session, Timers
from netloom.model.addr import Family, IPNetwork
from netloom.model.errors import InvalidConfig
from netloom.model.kernel import ROUTE_PROTOCOL

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,63}")
#: Where BIRD writes its log, in the folder that it runs in, and the largest it may grow.
LOG_FILE, LOG_BYTES = "bird.log", 1 << 20
#: The longest key of TCP MD5 signatures (linux/tcp.h, TCP_MD5SIG_MAXKEYLEN).
MOST_PASSWORD_BYTES = 80
_CLASSES = "{ warning, error, fatal, bug, auth }"


def render(plan: BgpPlan) -> str:
    """Return BIRD's configuration. Raises InvalidConfig for a text that BIRD would misread."""
    families = sorted({s.family for s in plan.sessions} | {cidr.version for cidr in plan.own})
    parts = [_head(plan)]
    for family in families:
        parts += [_blocks(family, plan.own), _kernel(family)]
    parts += [_session(plan, session) for session in plan.sessions]
    return "\n".join(parts)


def _head(plan: BgpPlan) -> str:
    links = ", ".join(_text(link, "interface") for link in plan.links)
    direct = f"protocol direct underlay {{\n  ipv4;\n  ipv6;\n  interface {links};\n}}\n"
    return (
        "# Written by Netloom; it is put back when it is changed.\n"
        f'log "{LOG_FILE}" {LOG_BYTES} "{LOG_FILE}.old" {_CLASSES};\n'
        f"router id {plan.router_id};\n"
        "timeformat base iso long us;\n"
        "timeformat protocol iso long ms;\n"
        f"graceful restart wait {_seconds(plan.timers.restart_wait)};\n"
        "protocol device {\n  scan time 10;\n}\n" + (direct if links else "")
    )


def _blocks(family: Family, own: Iterable[IPNetwork]) -> str:
    routes = "".join(f"  route {cidr} blackhole;\n" for cidr in own if cidr.version == family)
    return f"protocol static blocks{family} {{\n  ipv{family};\n{routes}}}\n"


def _kernel(family: Family) -> str:
    """Return the protocol that writes to the kernel.

    An own block of one address is the route of its container, which is ours. ``persist``: routes
    stay when the daemon ends; that they go is asked for by a configuration without them.
    """
    whole = 32 if family == 4 else 128
    return f"""\
protocol kernel kernel{family} {{
  ipv{family} {{
    import filter {{ if krt_source = {ROUTE_PROTOCOL} then reject; accept; }};
    export filter {{
      if proto = "blocks{family}" then {{ if net.len = {whole} then reject; accept; }}
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
    accepts = ", ".join(_within(cidr) for cidr in session.accepts if cidr.version == family)
    taken = f"if net ~ [ {accepts} ] then accept;" if accepts else ""
    words = [
        f"local {session.local} as {plan.local_as};",
        f"neighbor {session.neighbour} as {session.remote_as};",
        "multihop;",
        *(["passive on;"] if session.passive else []),
        *([f"password {_password(session)};"] if session.password else []),
        *_timing(plan.timers),
    ]
    lines = "".join(f"  {word}\n" for word in words)
    return f"""\
protocol bgp {session.name} {{
{lines}  ipv{family} {{
    import filter {{ {taken} reject; }};
    export filter {{ if proto = "blocks{family}" then accept; reject; }};
    next hop self;
    gateway recursive;
  }};
}}
"""


def _timing(timers: Timers) -> Iterable[str]:
    yield f"connect delay time {_seconds(timers.connect)};"
    yield f"connect retry time {_seconds(timers.retry)};"
    yield f"error wait time {_seconds(timers.error_least)}, {_seconds(timers.error_most)};"
    yield f"hold time {_seconds(timers.hold)};"
    yield "graceful restart on;"
    yield f"graceful restart time {_seconds(timers.restart)};"


def _within(cidr: IPNetwork) -> str:
    return f"{cidr}{{{cidr.prefixlen},{cidr.max_prefixlen}}}"


def _seconds(time: timedelta) -> int:
    return int(time.total_seconds())


def _password(session: Session) -> str:
    if len(session.password.encode()) > MOST_PASSWORD_BYTES:
        raise InvalidConfig(
            f"the password of {session.neighbour} is longer than {MOST_PASSWORD_BYTES} bytes",
            field="password",
            hint="choose a shorter one: the kernel takes no more (TCP MD5)",
        )
    return _text(session.password, "password")


def _text(text: str, field: str) -> str:
    """Return ``text`` between quotes. The value is in no error: it may be a secret."""
    if any(sign == '"' or not sign.isprintable() for sign in text):
        raise InvalidConfig(
            f"{field}: it has a quote, a line's end or another sign that BIRD cannot read",
            field=field,
            hint="choose one without quotes, line ends and control characters",
        )
    return f'"{text}"'
