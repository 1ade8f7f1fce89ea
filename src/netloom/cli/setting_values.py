"""How one setting's value is read, wherever it comes from: a text, a path, a time.

A reader takes the value and the place where a person must edit it; each raises InvalidConfig.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from netloom.model.errors import InvalidConfig
from netloom.model.fields import nearest


def text(value: object, where: str) -> str:
    """Return a text; numbers are taken for one, too."""
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise InvalidConfig(f"{where}: {value!r} is not a text", field=where, value=value)
    return str(value)


def url(value: object, where: str) -> str:
    """Refuse what can never be a datastore; whether this one can be used, opening it tells."""
    said = text(value, where)
    if not re.fullmatch(r"[a-z][a-z0-9+.-]*://.+", said):
        raise InvalidConfig(
            f"{where}: {said!r} is not a datastore URL",
            field=where,
            value=value,
            hint="e.g. sqlite:///var/lib/netloom/cluster.db",
        )
    return said


def path(value: object, where: str) -> Path:
    """Return a path, made absolute."""
    said = text(str(value) if isinstance(value, Path) else value, where)
    if not said or "\0" in said:
        raise InvalidConfig(f"{where}: {said!r} is not a path", field=where, value=value)
    return Path(said).absolute()


def path_or_none(value: object, where: str) -> Path | None:
    """Return a path, made absolute; None for "none"."""
    return None if value == "none" else path(value, where)


def interface(value: object, where: str) -> str:
    """Return what the underlay is chosen by (``core/selection``)."""
    from netloom.core.selection import parse

    said = text(value, where)
    parse(said)
    return said


def seconds(value: object, where: str) -> float:
    """Return a time from a tenth of a second to a day."""
    with suppress(TypeError, ValueError):
        time_s = float(text(value, where))
        if 0.1 <= time_s <= 86400:
            return time_s
    raise InvalidConfig(
        f"{where}: {value!r} is not a time in seconds",
        field=where,
        value=value,
        hint="give a number of seconds from 0.1 to 86400",
    )


def truth(value: object, where: str) -> bool:
    """Return true or false, also for the words."""
    said = str(value).lower()
    if said in ("true", "false"):
        return said == "true"
    raise InvalidConfig(
        f"{where}: {value!r} is not true or false",
        field=where,
        value=value,
        hint="give true or false",
    )


def one_of(*known: str) -> Callable[[object, str], str]:
    """Return the reader of one of the ``known`` words."""

    def read(value: object, where: str) -> str:
        said = text(value, where)
        if said not in known:
            raise InvalidConfig(
                f"{where}: unknown {said!r}", field=where, value=value, hint=nearest(said, known)
            )
        return said

    return read
