"""Several choices of a host's underlay as one: each for a family, the store's before the host's.

All are in the form of ``core/selection``. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping

from netloom.core.selection import Selection, parse
from netloom.model.addr import Family
from netloom.model.errors import InvalidConfig

_FAMILIES: tuple[Family, ...] = (4, 6)


def by_family(said: Mapping[Family, str]) -> str:
    """Return the choice that has each of ``said`` for its family alone; "" when all are empty.

    One that does not parse stays as it is: whoever chooses by it says what is wrong.
    """
    parts: list[str] = []
    for family, text in said.items():
        try:
            parts += _steps(parse(text), family) if text else ()
        except InvalidConfig:
            parts.append(f"{family}:{text}")
    return ";".join(parts)


def merged(said: str, own: str) -> str:
    """Return the choice by ``said``, the store's, and by ``own`` for families that it leaves open.

    A host's public address is its own matter.
    """
    if not said:
        return own
    try:
        spoken = {step.family for step in parse(said).steps}
        settings = parse(own)
    except InvalidConfig:
        return said
    left: list[str] = []
    for family in _FAMILIES:
        if spoken and not spoken & {None, family}:
            left += _steps(settings, family)
    return ";".join([said, *left, *(f"public={each}" for each in settings.public.values())])


def _steps(chosen: Selection, family: Family) -> list[str]:
    return [
        f"{family}:{step.method}{'=' * bool(step.value)}{step.value}"
        for step in chosen.steps
        if step.family in (None, family)
    ]
