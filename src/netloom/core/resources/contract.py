"""What a kind of resource is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from netloom.model.resource import Resource


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of resource: its name, what else people call it, and the check of a document.

    ``check`` raises InvalidConfig naming the field; it returns what of the document is understood
    but has no effect here, one dotted path each, so that whoever writes it can be told.
    """

    name: str
    plural: str
    check: Callable[[Resource], tuple[str, ...]]
    aliases: tuple[str, ...] = ()
    namespaced: bool = False

    def called(self, word: str) -> bool:
        """Tell whether ``word`` means this kind, whatever its case."""
        names = (self.name, self.plural, *self.aliases)
        return word.lower() in {name.lower() for name in names}
