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

from netloom.kernel.bird.control import CONFIG, Control, Reply
from netloom.model.errors import KernelRejected

UNDO_S = 10
_NEW = "bird.conf.new"
_MARK = "NETLOOM"
_VALUE = 23  # what "eval" says


def write_private(path: Path, text: str) -> None:
    """Write a file that root alone may read, as a whole or not at all: it may hold passwords."""
    draft = path.with_name(path.name + ".draft")
    with suppress(FileNotFoundError):
        draft.unlink()
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as target:
        target.write(text)
    draft.replace(path)


def configure(directory: Path, control: Control, text: str) -> None:
    """Give BIRD the configuration ``text``. Raises KernelRejected: then the old one stands."""
    write_private(directory / _NEW, marked(text))
    _require(control.ask(f'configure check "{_NEW}"'), "check")
    _require(control.ask(f'configure "{_NEW}" timeout {UNDO_S}'), "configure")
    with Control(directory) as another:  # it lives, and listens to more than one
        another.ask("show status")
    _require(control.ask("configure confirm"), "confirm")
    (directory / _NEW).replace(directory / CONFIG)


def _require(reply: Reply, what: str) -> None:
    if reply.failed:
        raise KernelRejected(
            what, "the configuration of BIRD", errno.EINVAL, reply.complaint.replace(_NEW, "line")
        )


def marked(text: str) -> str:
    """Return ``text`` with its own digest as a constant, which BIRD tells when asked."""
    return f'{text}define {_MARK} = "{mark(text)}";\n'


def standing(directory: Path, control: Control) -> str:
    """Return the configuration that BIRD has; "" when another hand changed it, or its file."""
    try:
        whole = (directory / CONFIG).read_text("utf-8")
    except (OSError, ValueError):
        return ""
    text = whole[: whole.rfind(f"define {_MARK} ")]
    return text if whole == marked(text) and standing_mark(control) == mark(text) else ""


def standing_mark(control: Control) -> str:
    """Return the mark of the configuration that BIRD has; "" when it is none of ours."""
    return "".join(control.ask(f"eval {_MARK}").texts(_VALUE))


def mark(text: str) -> str:
    """Return the digest that is in a configuration of ours."""
    return hashlib.sha256(text.encode()).hexdigest()
