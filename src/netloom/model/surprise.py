"""What nobody foresaw: told by its kind and its place, never by what it was about.

An exception that is none of ours may hold anything in its arguments: a `UnicodeEncodeError` holds
the whole text, and with BIRD's configuration all its passwords.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

from netloom.model.errors import InvalidConfig, NetloomError

P = ParamSpec("P")
T = TypeVar("T")
_OURS = "netloom."


class Unforeseen(InvalidConfig):
    """What stands in an entry, and a parser of ours did not foresee: ours to mend as well."""


def told(error: BaseException) -> str:
    """Return an exception on one line: ``TypeError at netloom.model.host:131``."""
    place, trace = "", error.__traceback__
    while trace is not None:
        module = str(trace.tb_frame.f_globals.get("__name__", ""))
        if module != __name__ and (module.startswith(_OURS) or not place):
            place = f" at {module}:{trace.tb_lineno}"
        trace = trace.tb_next
    return type(error).__name__ + place


def foreseen(parse: Callable[P, T]) -> Callable[P, T]:
    """Wrap a parser of entries: it raises InvalidConfig or another error of ours, nothing else.

    One entry that surprises it is a problem of that entry, and never the end of following the rest.
    """

    @wraps(parse)
    def read(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return parse(*args, **kwargs)
        except NetloomError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, it is about this entry
            raise Unforeseen(
                f"it cannot be interpreted: {told(error)}",
                hint="mend or delete it, and please report what stood there",
            ) from None

    return read
