"""Names of labs and of all that belongs to them.

Every namespace is ``nl-<lab>-<node>`` (a host, a router or a segment) or
``nl-<lab>-<host>.<container>``. A lab's name may hold dashes, a node's may not: so the name of a
namespace alone tells whose it is, and a lab can be taken down when every record of it is lost.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

from netloom.model.errors import InvalidConfig

_LAB = re.compile(r"[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?")
_NODE = re.compile(r"[a-z0-9][a-z0-9_]{0,14}")
_CONTAINER = re.compile(r"[a-z0-9]([a-z0-9_-]{0,30}[a-z0-9])?")
_IFNAME = re.compile(r"[^\s/:%.][^\s/:%]{0,14}")
_NAMESPACE = re.compile(r"nl-(?P<lab>[^.]+)-(?P<node>[^.-]+)(\.(?P<container>.+))?")

DEFAULT_LAB = "lab"


@dataclass(frozen=True, slots=True)
class NamespaceName:
    """What the name of a namespace says; ``container`` is "" for a node's own."""

    lab: str
    node: str
    container: str = ""

    def __str__(self) -> str:
        name = f"nl-{self.lab}-{self.node}"
        return f"{name}.{self.container}" if self.container else name


def parse_namespace(text: str) -> NamespaceName | None:
    """Take a namespace's name apart; None when it has not the form of a lab's."""
    match = _NAMESPACE.fullmatch(text)
    if not match:
        return None
    return NamespaceName(match["lab"], match["node"], match["container"] or "")


def parse_lab_name(text: object, field: str = "name") -> str:
    """Return a lab's name. Raises InvalidConfig."""
    hint = "use at most 32 lower-case letters, digits and '-', e.g. 'try1'"
    return _matching(_LAB, text, field, "name of a lab", hint)


def parse_node_name(text: object, field: str) -> str:
    """Return the name of a host, router or segment. Raises InvalidConfig."""
    hint = "use at most 15 lower-case letters, digits and '_', e.g. 'h1'"
    return _matching(_NODE, text, field, "name of a host, router or segment", hint)


def parse_container_name(text: object, field: str) -> str:
    """Return a container's name. Raises InvalidConfig."""
    hint = "use at most 32 lower-case letters, digits, '_' and '-', e.g. 'web-1'"
    return _matching(_CONTAINER, text, field, "name of a container", hint)


def parse_ifname(text: object, field: str) -> str:
    """Return an interface name that the kernel takes. Raises InvalidConfig."""
    hint = "use at most 15 characters without '/', ':', '%' or spaces, e.g. 'ens33'"
    return _matching(_IFNAME, text, field, "interface name", hint)


def port_name(node: str, ifname: str) -> str:
    """Name the segment's end of a cable after what it leads to, within the kernel's 15 bytes."""
    name = f"{node}-{ifname}"
    if len(name) <= 15:
        return name
    digest = hashlib.sha1(name.encode(), usedforsecurity=False).hexdigest()
    return f"{node[:8]}-{digest[:6]}"


def _matching(pattern: re.Pattern[str], text: object, field: str, what: str, hint: str) -> str:
    if not isinstance(text, str) or not pattern.fullmatch(text):
        raise InvalidConfig(
            f"{field}: {text!r} cannot be the {what}", field=field, value=text, hint=hint
        )
    return text
