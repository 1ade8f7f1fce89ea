"""A second kernel beside the machine's own: Debian's user-mode-linux, over the machine's disk.

It has what the machine's kernel may lack, above all ipip; it is a process without rights over the
machine, and it boots in a second. The disk is its root, read-only: what is written goes to memory,
or to the one folder that ``run`` makes and hands in. ``init`` beside this file is its first
process, and ``wide_registers.c`` lets it run on processors that are younger than it. Its nftables
knows none of the usual families, so our firewall is refused there: a network works without it, and
the status says so.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

REPO = Path(__file__).parents[2]
_INIT = Path(__file__).with_name("init")
_REGISTERS = Path(__file__).with_name("wide_registers.c")
_PROGRAM = "linux.uml"
_MODULES = Path("/usr/lib/uml/modules")
#: For all tests of a module together, on a machine that has other work.
PATIENCE_S = 590.0
_MEMORY = "1G"
_PREFIX = "netloom-uml-"


@dataclass(frozen=True)
class Ran:
    """What a command in the second kernel said. ``status`` is None when it did not end."""

    status: int | None
    output: str
    console: str

    def __str__(self) -> str:
        """Return it for people: what the command said, else what the kernel said."""
        if self.status is None:
            end = "did not end in time, or the kernel did not start"
        else:
            end = f"ended with {self.status}"
        said = self.output or "\n".join(self.console.splitlines()[-30:])
        return f"the command in the second kernel {end}:\n{said}"


def missing() -> str:
    """Return what is missing to boot a second kernel, or ""."""
    if not (shutil.which(_PROGRAM) and _MODULES.is_dir()):
        return "missing: Debian's package user-mode-linux"
    return "" if shutil.which("gcc") else "missing: Debian's package gcc"


def run(
    command: str, collect: Callable[[Path], T], patience_s: float = PATIENCE_S
) -> tuple[Ran, T]:
    """Boot, run ``command`` with sh in the checkout, halt; ``collect`` reads what it left.

    The command finds a folder that it may write at /run/out; ``collect`` is given that folder.
    Nothing of it is left when this returns, and the kernel goes with the process that called.
    """
    _sweep()
    with tempfile.TemporaryDirectory(prefix=f"{_PREFIX}{os.getpid()}-") as name:
        folder = Path(name)
        (folder / "command").write_text(command)
        with (folder / "console").open("wb") as console:
            _boot(folder, console.fileno(), patience_s)
        said = Ran(_status(folder), _text(folder / "output"), _text(folder / "console"))
        return said, collect(folder)


def _sweep() -> None:
    """Remove the folders of runs that were killed."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*-*"):
        pid = folder.name.removeprefix(_PREFIX).partition("-")[0]
        if not Path("/proc", pid).exists():
            shutil.rmtree(folder, ignore_errors=True)


def _boot(folder: Path, console: int, patience_s: float) -> None:
    registers = folder / "wide_registers.so"
    build = ["gcc", "-shared", "-fPIC", "-O2", "-Wall", "-Werror", "-o", str(registers)]
    subprocess.run([*build, str(_REGISTERS)], check=True)
    words = [
        *("setpriv", "--pdeathsig=KILL"),
        # Its processes are not its children's keepers: a namespace takes them all along.
        *("unshare", "--pid", "--fork", "--kill-child=KILL"),
        # A kernel that panics ends itself by SIGABRT, which a namespace's first process ignores.
        *("sh", "-c", '"$0" "$@"; exit $?'),
        _PROGRAM,
        "rootfstype=hostfs",
        "rootflags=/",
        "ro",
        f"mem={_MEMORY}",
        f"init={_INIT}",
        "con=null",
        "con0=null,fd:1",
        f"uml_dir={folder}/",
        f"OUT={folder}",
        f"REPO={REPO}",
    ]
    kernel = subprocess.Popen(
        words,
        stdin=subprocess.DEVNULL,
        stdout=console,
        stderr=subprocess.STDOUT,
        env={**os.environ, "LD_PRELOAD": str(registers)},
        start_new_session=True,  # its own group: it has processes of its own
    )
    try:
        with suppress(subprocess.TimeoutExpired):  # told by the status that is not there
            kernel.wait(patience_s)
    finally:
        _end(kernel)


def _end(kernel: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(kernel.pid, signal.SIGKILL)
    kernel.wait()


def _status(folder: Path) -> int | None:
    text = _text(folder / "status").strip()
    return int(text) if text else None


def _text(file: Path) -> str:
    return file.read_text(errors="replace") if file.exists() else ""
