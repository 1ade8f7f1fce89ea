"""Giving a running BIRD another configuration: checked first, confirmed last, else undone.

BIRD touches only the protocols that differ, and lets routes pass filters that changed anew without
breaking a session. (Its ``soft`` variant would leave old routes as old filters had them.) Whatever
happens between ``configure`` and ``configure confirm``, BIRD takes the old one back after
``UNDO_S``; the file of the standing configuration changes last.
"""

from __future__ import annotations

import errno
import hashlib
import os
from contextlib import suppress
from pathlib import Path

from netloom.kernel.bird import process
from netloom.kernel.bird.control import CONFIG, Control, Reply
from netloom.model.errors import KernelRejected

UNDO_S = 10
NEW = "bird.conf.new"
_MARK = "NETLOOM"
_VALUE = 23  # what "eval" says


def write_private(path: Path, text: str) -> None:
    """Write a file that root alone may read, as a whole or not at all: it may hold passwords."""
    draft = path.with_name(path.name + ".draft")
    with suppress(FileNotFoundError):
        draft.unlink()
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w", encoding="utf-8") as target:
        target.write(text)
    draft.replace(path)


def prepare(directory: Path, text: str) -> KernelRejected | None:
    """Write the file with which BIRD is going to start; return why BIRD would not take it.

    The former one stands then: it was taken once, and what is wrong with the new one is not wrong
    with all else that is in it.
    """
    write_private(directory / NEW, marked(text))
    if complaint := process.complaint(directory / NEW):
        return _refused("check", complaint)
    (directory / NEW).replace(directory / CONFIG)
    return None


def configure(directory: Path, control: Control, text: str) -> None:
    """Give BIRD the configuration ``text``. Raises KernelRejected: then the old one stands."""
    write_private(directory / NEW, marked(text))
    _require(control.ask(f'configure check "{NEW}"'), "check")
    _require(control.ask(f'configure "{NEW}" timeout {UNDO_S}'), "configure")
    with Control(directory) as another:  # it lives, and listens to more than one
        another.ask("show status")
    _require(control.ask("configure confirm"), "confirm")
    (directory / NEW).replace(directory / CONFIG)


def _require(reply: Reply, what: str) -> None:
    if reply.failed:
        raise _refused(what, reply.complaint)


def _refused(what: str, complaint: str) -> KernelRejected:
    said = complaint.replace(NEW, "line")
    return KernelRejected(what, "the configuration of BIRD", errno.EINVAL, said)


def marked(text: str) -> str:
    """Return ``text`` with its own digest as a constant, which BIRD tells when asked."""
    return f'{text}define {_MARK} = "{mark(text)}";\n'


def written(directory: Path) -> str:
    """Return the configuration in BIRD's file; "" when there is none, or another hand's."""
    try:
        whole = (directory / CONFIG).read_text("utf-8")
    except (OSError, ValueError):
        return ""
    text = whole[: whole.rfind(f"define {_MARK} ")]
    return text if whole == marked(text) else ""


def standing(directory: Path, control: Control) -> str:
    """Return the configuration that BIRD has; "" when another hand changed it, or its file."""
    text = written(directory)
    return text if text and standing_mark(control) == mark(text) else ""


def standing_mark(control: Control) -> str:
    """Return the mark of the configuration that BIRD has; "" when it is none of ours."""
    return "".join(control.ask(f"eval {_MARK}").texts(_VALUE))


def mark(text: str) -> str:
    """Return the digest that is in a configuration of ours."""
    return hashlib.sha256(text.encode()).hexdigest()
