"""Writing a file as a whole: whoever reads it sees the old text or the new one, never a part.

Also after a crash or a loss of power: the new text is on the disk before it takes the old one's
place.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from netloom.model.errors import InvalidConfig, NotPermitted


def write_whole(
    path: Path, text: str | Iterable[str], mode: int = 0o644, *, inherit: bool = False
) -> None:
    """Put ``text``, whole or in parts, in the file's place in one step; a symbolic link stays one.

    Folders that are missing are made. A file that is there keeps its mode and owner when
    ``inherit``, else it gets ``mode``. Raises NotPermitted, InvalidConfig; the old file is whole
    then.
    """
    place = Path(os.path.realpath(path))
    beside = place.with_name(f".{place.name}.{os.getpid()}")
    try:
        place.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
        file = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with open(file, "w", encoding="utf-8", newline="") as out:
            _dress(out.fileno(), place if inherit else None, mode)
            out.writelines([text] if isinstance(text, str) else text)
            out.flush()
            os.fsync(out.fileno())
        beside.replace(place)
    except PermissionError:
        raise NotPermitted(f"{path}: may not be written", hint="run it as root") from None
    except OSError as error:
        raise InvalidConfig(
            f"{path}: cannot be written: {error.strerror}",
            field=str(path),
            hint="name a file in a folder that can be written, on a disk with room",
        ) from None
    finally:
        with suppress(OSError):
            beside.unlink(missing_ok=True)


def _dress(file: int, like: Path | None, mode: int) -> None:
    """Give a new file its mode, and the owner and mode of ``like`` if that is there."""
    os.fchmod(file, mode)
    if like is not None:
        with suppress(FileNotFoundError):
            before = like.stat()
            os.fchown(file, before.st_uid, before.st_gid)
            os.fchmod(file, before.st_mode & 0o7777)
