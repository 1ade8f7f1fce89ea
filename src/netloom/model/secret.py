"""Secrets: texts that hosts keep in files of their own, and that nothing else ever shows."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, order=True)
class Secret:
    """Where a password is kept on each host: ``key`` of the secret ``name``; never in the store."""

    name: str
    key: str

    def __str__(self) -> str:
        return f"{self.name}/{self.key}"


@dataclass(frozen=True, slots=True)
class SecretText:
    """What a host found for a secret.

    ``text`` is None when there never was one that could be used; ``trouble`` and ``hint`` say what
    is wrong with the file now. With both, the text is the last good one.
    """

    text: str | None = field(default=None, repr=False)
    trouble: str = ""
    hint: str = ""
