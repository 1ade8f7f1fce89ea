"""Compile the proxy: ``python -m netloom.kernel.udp.build``; setup.py runs it for a wheel.

Without a compiler nothing fails: :func:`command` then names the Python proxy, which is slower. This
module is also run by path, before Netloom is installed: it imports the standard library alone.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
SOURCES = sorted(HERE.glob("*.c"))
HEADERS = sorted(HERE.glob("*.h"))
COMPILED = HERE / "netloom-udp"
FALLBACK = HERE / "proxy.py"
_FLAGS = ("-std=gnu11", "-O3", "-Wall", "-Wextra", "-pthread")


def command() -> tuple[str, ...]:
    """Return the words that start the proxy: compiled if there is one, else Python."""
    if COMPILED.is_file() and os.access(COMPILED, os.X_OK):
        return (str(COMPILED),)
    return (sys.executable, "-IS", str(FALLBACK))


def compile_proxy(target: Path = COMPILED) -> str:
    """Compile the sources to ``target``; return "" or, when it cannot be done, the reason."""
    compiler = os.environ.get("CC", "").split() or [shutil.which("cc") or shutil.which("gcc") or ""]
    if not compiler[0]:
        return "no C compiler (cc)"
    beside = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        done = subprocess.run(
            [*compiler, *_FLAGS, "-o", str(beside), *map(str, SOURCES)],
            capture_output=True,
            encoding="utf-8",
            check=False,
        )
        if done.returncode == 0:
            beside.replace(target)
            return ""
        return done.stderr.strip() or "the compiler failed"
    except OSError as error:
        return str(error)
    finally:
        beside.unlink(missing_ok=True)


def main() -> int:
    """Compile if a source is newer."""
    newest = max(path.stat().st_mtime for path in (*SOURCES, *HEADERS))
    current = COMPILED.exists() and COMPILED.stat().st_mtime >= newest
    reason = "" if current else compile_proxy()
    if reason:
        print(f"netloom-udp stays the Python proxy: {reason}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
