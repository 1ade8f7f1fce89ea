"""The host's secrets: one file each, ``<folder>/<name>/<key>``, that root alone may read.

A file that was good and is not any more changes nothing: the last text stays in use, and what is
wrong is said. Texts are in memory and in BIRD's configuration, and nowhere else.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path

from netloom.model.errors import InvalidConfig
from netloom.model.secret import Secret, SecretText

MOST_BYTES = 4096
_OTHERS = stat.S_IRWXG | stat.S_IRWXO


class SecretFiles:
    """Reads secrets below ``folder``; of one thread."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._good: dict[Secret, str] = {}

    def read(self, secrets: Iterable[Secret]) -> Mapping[Secret, SecretText]:
        """Return what there is of each secret; files are read anew each time."""
        wanted = sorted(secrets)
        self._good = {each: text for each, text in self._good.items() if each in wanted}
        return {secret: self._one(secret) for secret in wanted}

    def _one(self, secret: Secret) -> SecretText:
        place = self._folder / secret.name / secret.key
        try:
            text = _private_text(place)
        except InvalidConfig as error:
            return SecretText(self._good.get(secret), str(error), error.hint)
        self._good[secret] = text
        return SecretText(text)


def _private_text(place: Path) -> str:
    """Return a file's text without the line end that editors add. Raises InvalidConfig."""
    try:
        # Without waiting: what is called so may be a pipe.
        handle = os.open(place, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise _refused(place, "is not there", f"write the password into it: {place}") from None
    except OSError as error:
        raise _refused(place, f"cannot be read: {error.strerror}", f"see {place.parent}") from None
    try:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode):
            raise _refused(place, "is not a file", "put a plain file there")
        if status.st_mode & _OTHERS or status.st_uid not in (0, os.geteuid()):
            hint = f"chown root {place} && chmod 600 {place}"
            raise _refused(place, "can be read or written by others than root", hint)
        data = os.read(handle, MOST_BYTES + 1)
    finally:
        os.close(handle)
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        text = ""
    text = text.removesuffix("\n").removesuffix("\r")
    if not text or len(data) > MOST_BYTES:
        raise _refused(place, "holds no password", "write one line of text into it")
    return text


def _refused(place: Path, why: str, hint: str) -> InvalidConfig:
    return InvalidConfig(f"the file {place} {why}", field="password", hint=hint)
