"""The versions of the CNI specification that we speak, and what each of them knows."""

from __future__ import annotations

from functools import lru_cache

#: Oldest first. The fronts carry the same list; a test holds the three together.
SUPPORTED = ("0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0")
CURRENT = SUPPORTED[-1]


def at_least(version: str, wanted: str) -> bool:
    """Tell whether ``version`` is ``wanted`` or later; both are dotted decimal numbers."""
    return _numbers(version) >= _numbers(wanted)


@lru_cache(maxsize=64)
def _numbers(version: str) -> tuple[int, ...]:
    """Take the leading number of each part; what has none counts as 0 (``1.0.0-rc1``)."""
    parts = []
    for part in version.split("."):
        digits = part[: len(part) - len(part.lstrip("0123456789"))]
        parts.append(int(digits[:9]) if digits else 0)
    return tuple(parts + [0] * (3 - len(parts)))
