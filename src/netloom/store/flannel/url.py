"""The part of a datastore URL that asks for flannel's format.

::

    etcd://h1:2379?format=flannel
    etcd://h1:2379?format=flannel&prefix=/atomic.io/network&ttl=3600&ipmasq=false&network=blue
"""

from __future__ import annotations

import urllib.parse
from contextlib import suppress

from netloom.model.errors import InvalidConfig
from netloom.model.fields import nearest
from netloom.store.flannel.layout import DEFAULT_PREFIX, DEFAULT_TTL_S, Format

FORMATS = ("netloom", "flannel")
_OURS = ("format", "prefix", "ttl", "network", "ipmasq")


def take_format(url: str) -> tuple[str, Format | None]:
    """Return the URL of the store alone, and the format if it is flannel's. Raises InvalidConfig.

    Without ``format=flannel`` the URL comes back as it was: ``prefix`` is then the store's own.
    """
    place, mark, query = url.partition("?")
    pairs = [pair for pair in query.split("&") if pair]
    given: dict[str, str] = {}
    rest = []
    for pair in pairs:
        name, _, value = pair.partition("=")
        if name in _OURS:
            given[name] = urllib.parse.unquote_plus(value)
        else:
            rest.append(pair)
    wanted = given.get("format", "netloom")
    if wanted not in FORMATS:
        raise _wrong(url, f"format: unknown {wanted!r}", nearest(wanted, FORMATS))
    if wanted != "flannel":
        kept = [pair for pair in pairs if not pair.startswith("format=")]
        return place + (mark + "&".join(kept) if kept else ""), None
    try:
        form = Format(
            given.get("prefix", DEFAULT_PREFIX),
            given.get("network", "default"),
            _seconds(url, given.get("ttl")),
            _truth(url, given.get("ipmasq", "true")),
        )
    except InvalidConfig as error:
        raise _wrong(url, str(error), error.hint) from None
    return place + (mark + "&".join(rest) if rest else ""), form


def _seconds(url: str, text: str | None) -> float:
    if text is None:
        return DEFAULT_TTL_S
    with suppress(ValueError):
        return float(text)
    raise _wrong(url, f"ttl: {text!r} is not a number of seconds", "flannel's is 86400")


def _truth(url: str, text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise _wrong(url, f"ipmasq: {text!r} is neither true nor false", "write ipmasq=true")
    return text.lower() == "true"


def _wrong(url: str, message: str, hint: str) -> InvalidConfig:
    text = message.removeprefix("datastore: ")
    return InvalidConfig(f"datastore: {text}", field="datastore", value=url, hint=hint)
