"""Errors, named by who must act; each knows its exit code.

Third-party exceptions are translated into these at the seam where they arise (``store/``,
``kernel/``, ``drivers/``). The command line prints ``str(error)`` and the hint; it shows a
traceback for :class:`Bug` alone.
"""

from __future__ import annotations

import errno as _errno

#: A longer value is shown by its beginning.
_LONGEST_SHOWN = 200
_BEGINNING = 80


class NetloomError(Exception):
    """Anything Netloom reports on purpose. ``hint`` tells the remedy in one sentence."""

    exit_code = 1

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class Bug(NetloomError):
    """We broke a promise of our own; the user reports it."""

    exit_code = 1


class InvalidConfig(NetloomError):
    """The user must edit something: a field, a flag, a file.

    ``field`` is the dotted path of the field (``pools[0].blockSize``), ``value`` what stood there.
    The message shows no more of a long value than its beginning.
    """

    exit_code = 3

    def __init__(
        self, message: str, *, field: str = "", value: object = None, hint: str = ""
    ) -> None:
        super().__init__(_shortened(message, value), hint=hint)
        self.field = field
        self.value = value


def _shortened(message: str, value: object) -> str:
    """Return ``message`` with what it shows of ``value`` made short."""
    if len(message) <= _LONGEST_SHOWN:
        return message
    try:
        texts = (repr(value), str(value))
    except ValueError:  # a number with more digits than Python writes: it stands in no message
        return message
    for text in texts:
        if len(text) > _LONGEST_SHOWN:
            message = message.replace(text, f"{text[:_BEGINNING]}… ({len(text)} characters)")
    return message


class Conflict(NetloomError):
    """Another owns what we were asked to take: an address, a block, a name, a device."""

    exit_code = 4


class NotPermitted(NetloomError):
    """The process lacks a right: root, a capability, a file mode."""

    exit_code = 5


class Unavailable(NetloomError):
    """Something that we lean on is away: the store, the agent. Trying again may help."""

    exit_code = 6


class KernelRejected(NetloomError):
    """The kernel refused an operation.

    ``operation`` is a verb ("add route"), ``subject`` the object as a user would name it,
    ``errno`` the kernel's number, ``detail`` its extended acknowledgement text, if any.
    """

    exit_code = 7

    def __init__(
        self, operation: str, subject: str, errno: int, detail: str = "", *, hint: str = ""
    ) -> None:
        name = _errno.errorcode.get(errno, str(errno))
        text = f"kernel refused to {operation} {subject}: {name}"
        super().__init__(f"{text} ({detail})" if detail else text, hint=hint)
        self.operation = operation
        self.subject = subject
        self.errno = errno
        self.detail = detail


class Exhausted(Conflict):
    """No free address or block is left where one was asked for."""
