"""A place where commands run: a host's or a container's namespace."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping, Sequence
from typing import Any

from netloom.model.errors import NetloomError

EXEC_PATIENCE_S = 120.0


class CommandFailed(NetloomError):
    """A command inside a lab ended with another code than 0; ``output`` is what it printed."""

    def __init__(self, place: str, argv: Sequence[str], code: int, output: str) -> None:
        super().__init__(f"{place}: {' '.join(argv)}: exit code {code}\n{output.strip()}")
        self.code = code
        self.output = output


class Place:
    """The namespace called ``namespace``, and the environment of its host.

    ``name`` is what people call it: ``h1``, or ``h1/web``.
    """

    def __init__(self, name: str, namespace: str, environment: Mapping[str, str]) -> None:
        self.name = name
        self.namespace = namespace
        self.environment = environment

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name} in {self.namespace}>"

    def command(self, argv: Sequence[str]) -> list[str]:
        """Return the command that runs ``argv`` there, with the namespace's own ``/sys``."""
        return ["ip", "netns", "exec", self.namespace, *argv]

    def exec(
        self, argv: Sequence[str], *, check: bool = True, timeout_s: float = EXEC_PATIENCE_S
    ) -> str:
        """Run a command and return its output. Raises CommandFailed unless ``check`` is off."""
        done = subprocess.run(
            self.command(argv),
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            timeout=timeout_s,
            check=False,
        )
        if check and done.returncode:
            said = done.stdout + done.stderr
            raise CommandFailed(self.name, argv, done.returncode, said)
        return done.stdout

    def json(self, argv: Sequence[str]) -> Any:
        """Run a command that prints JSON (``ip -j …``) and return it."""
        return json.loads(self.exec(argv) or "[]")

    def popen(self, argv: Sequence[str], **options: Any) -> subprocess.Popen[str]:
        """Start a command; the caller ends it, or taking the lab down does."""
        return subprocess.Popen(
            self.command(argv), env=self.environment, encoding="utf-8", **options
        )

    def pings(self, address: object, *, count: int = 1, wait_s: float = 5.0) -> bool:
        """Tell whether every one of ``count`` pings to ``address`` came back."""
        argv = ["ping", "-n", "-q", "-c", str(count), "-W", str(wait_s), str(address)]
        done = subprocess.run(self.command(argv), capture_output=True, check=False)
        # Its exit code tells of one that came back at least.
        return f" {count} received".encode() in done.stdout
