"""Compile the C front: ``python -m netloom.drivers.cni.build``; setup.py runs it for a wheel.

Statically linked where the C library allows, since a dynamic start costs as much again as the
program. Without a compiler nothing fails: :func:`executable` then names the Python front. This
module is also run by path, before Netloom is installed: it imports the standard library alone.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

HERE = Path(__file__).resolve().parent
SOURCE = HERE / "front.c"
COMPILED = HERE / "netloom-cni"
FALLBACK = HERE / "front.py"
_FLAGS = ("-std=gnu11", "-O2", "-Wall", "-Wextra")


def executable() -> Path:
    """Return the file to install as ``netloom-cni``: compiled if there is one, else Python."""
    return COMPILED if COMPILED.is_file() and os.access(COMPILED, os.X_OK) else FALLBACK


def install(target: Path) -> Path:
    """Put the front at ``target`` in one step, so that no runtime ever starts half of it."""
    target.parent.mkdir(parents=True, exist_ok=True)
    beside = target.with_name(f".{target.name}.{os.getpid()}")
    content = executable().read_bytes()
    if executable() == FALLBACK:  # started by its own path, without the detour over env(1)
        python = os.path.realpath(sys.executable)
        content = b"#!%s -IS\n" % os.fsencode(python) + content.partition(b"\n")[2]
    beside.write_bytes(content)
    beside.chmod(0o755)
    beside.replace(target)
    return target


def compile_front(target: Path = COMPILED) -> str:
    """Compile front.c to ``target``; return "" or, when it cannot be done, the reason."""
    compiler = os.environ.get("CC", "").split() or [shutil.which("cc") or shutil.which("gcc") or ""]
    if not compiler[0]:
        return "no C compiler (cc)"
    beside = target.with_name(f".{target.name}.{os.getpid()}")
    reason = ""
    try:
        for linking in (["-static"], []):
            command = [*compiler, *_FLAGS, *linking, "-o", str(beside), str(SOURCE)]
            done = subprocess.run(command, capture_output=True, encoding="utf-8", check=False)
            reason = done.stderr.strip()
            if done.returncode == 0:
                beside.replace(target)
                return ""
    except OSError as error:
        reason = str(error)
    finally:
        beside.unlink(missing_ok=True)
    return reason or "the compiler failed"


def main() -> int:
    """Compile if the source is newer, and put the front beside the ``netloom`` command."""
    current = COMPILED.exists() and COMPILED.stat().st_mtime >= SOURCE.stat().st_mtime
    reason = "" if current else compile_front()
    if reason:
        print(f"netloom-cni stays the Python front: {reason}", file=sys.stderr)
    print(install(Path(sysconfig.get_path("scripts")) / "netloom-cni"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
