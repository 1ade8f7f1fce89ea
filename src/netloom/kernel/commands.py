"""Running ``nft``, ``tc`` and their like: list arguments, a time limit, errors that name a remedy.

Output is always in English (``LC_ALL=C``), since some of it is read.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass

from netloom.model.errors import NotPermitted, Unavailable

#: Debian's package of each program that we start.
PACKAGES = {
    "bird": "bird2",
    "bridge": "iproute2",
    "ip": "iproute2",
    "modprobe": "kmod",
    "nft": "nftables",
    "systemctl": "systemd",
    "tc": "iproute2",
}
#: Where they live when PATH is as bare as a service's or a CNI caller's may be.
_SYSTEM_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
_DENIED = ("Operation not permitted", "Permission denied")


@dataclass(frozen=True, slots=True)
class Done:
    """A command that has ended; ``code`` is its exit status, negative for a signal."""

    command: tuple[str, ...]
    code: int
    output: str
    error: str

    @property
    def complaint(self) -> str:
        """Return what the command said went wrong, on one line."""
        words = self.error.split("\n") if self.error.strip() else self.output.split("\n")
        lines = [line.strip() for line in words if line.strip(" ^~\t")]
        return "; ".join(lines[:4]) or f"exit status {self.code}"


def find(name: str) -> str:
    """Return where a program is, "" when it is not installed."""
    return shutil.which(name, path=_path()) or ""


def run(*command: str, stdin: str = "", timeout_s: float = 30.0) -> Done:
    """Run a command to its end and return what it said, whatever its exit status.

    Raises:
        Unavailable: the program is not installed (the hint names the Debian package), or it did
            not end in time and was killed.
        NotPermitted: the program may not be started, or was told by the kernel that it may not do
            what it was asked to.
    """
    name = command[0]
    try:
        ended = subprocess.run(
            command,
            input=stdin,
            capture_output=True,
            encoding="utf-8",
            errors="replace",  # what other hands call their rules is theirs
            timeout=timeout_s,
            check=False,
            env={"PATH": _path(), "LC_ALL": "C"},
        )
    except FileNotFoundError:
        raise missing(name) from None
    except PermissionError as error:
        raise NotPermitted(f"may not start {name}: {error.strerror}") from None
    except subprocess.TimeoutExpired:
        raise Unavailable(
            f"{' '.join(command)} did not end within {timeout_s:g} s and was stopped",
            hint="is the machine overloaded, or does another program hold the kernel's lock?",
        ) from None
    done = Done(command, ended.returncode, ended.stdout, ended.stderr)
    if done.code and any(word in done.error for word in _DENIED):
        raise NotPermitted(
            f"{' '.join(command)}: {done.complaint}",
            hint="run as root, or with CAP_NET_ADMIN",
        )
    return done


def missing(name: str) -> Unavailable:
    """Return the error for a program that is not installed."""
    package = PACKAGES.get(name)
    return Unavailable(
        f"the program {name} is not installed",
        hint=f"apt-get install {package}" if package else f"install {name}",
    )


def _path() -> str:
    given = os.environ.get("PATH", "")
    return f"{given}:{_SYSTEM_PATH}" if given else _SYSTEM_PATH
