"""The agent's own folders: what must survive a reboot, and what must not; for root alone."""

from __future__ import annotations

import errno
from pathlib import Path

from netloom.model.errors import InvalidConfig, NotPermitted, Unavailable


def make_private(directory: Path, field: str) -> None:
    """Make a folder of the agent's own. Raises InvalidConfig, NotPermitted, Unavailable."""
    try:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    except FileExistsError:
        raise InvalidConfig(
            f"{field}: {directory} is not a folder",
            field=field,
            value=str(directory),
            hint="name another place, or move that file away",
        ) from None
    except OSError as error:
        text = f"{field}: {directory} cannot be made: {error.strerror}"
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            hint = "name a place that root may write to"
            raise NotPermitted(text, hint=hint) from None
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise Unavailable(text, hint="free some space there") from None
        raise InvalidConfig(
            text, field=field, value=str(directory), hint="name another place"
        ) from None
