"""Labels: what people call a resource by, to select it. Kubernetes' rule, which is Calico's too.

A key is a name of at most 63 signs, with a DNS name and '/' before it where somebody owns it; a
value is empty or such a name. What stands in a store already is not asked: a host that has an odd
label keeps it, and is selected by it. Source: Kubernetes' documentation, "Labels and Selectors".
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from netloom.model.errors import InvalidConfig

_WORD = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?")
_PREFIX = re.compile(
    r"(?=.{1,253}\Z)[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*"
)
_RULE = "at most 63 letters, digits, '-', '_' and '.', a letter or digit first and last"


def check_labels(labels: Mapping[str, str], where: str) -> None:
    """Refuse labels that Kubernetes has not either. Raises InvalidConfig naming ``where``."""
    for key, value in labels.items():
        prefix, owned, name = key.rpartition("/")
        if not _WORD.fullmatch(name) or (owned and not _PREFIX.fullmatch(prefix)):
            raise InvalidConfig(
                f"{where}: {key!r} is not a label's key",
                field=where,
                value=key,
                hint=f"use {_RULE}; before a '/' a DNS name in lower case may stand",
            )
        if value and not _WORD.fullmatch(value):
            raise InvalidConfig(
                f"{where}.{key}: {value!r} is not a label's value",
                field=f"{where}.{key}",
                value=value,
                hint=f"use {_RULE}; an annotation may hold any text",
            )
