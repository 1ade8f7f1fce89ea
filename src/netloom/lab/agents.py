"""The agents of a lab: one real process per host, in the host's namespace, on its own directories.

An agent is started as ``python -m netloom agent`` of this very installation, in a session of its
own, with its output in a file: it outlives the command that started it.
"""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from netloom.drivers.cni import build
from netloom.kernel import namespaces
from netloom.lab import etcd, processes, record, wiring
from netloom.lab.processes import MARK, Process
from netloom.lab.waiting import wait_until
from netloom.model.errors import Conflict, Unavailable

#: The CNI executable's name.
PLUGIN = "netloom-cni"
READY_PATIENCE_S = 180.0
PROBLEM_PATIENCE_S = 5.0
#: So much of the time between two answers counts at most: a machine that stood still says nothing.
ANSWER_PAUSE_S = 0.5
STOP_PATIENCE_S = 30.0
ANSWER_PATIENCE_S = 20.0


@dataclass(frozen=True, slots=True)
class Home:
    """Where the files of one host are."""

    lab: str
    host: str

    @property
    def directory(self) -> Path:
        """The host's directory."""
        return record.directory(self.lab) / "hosts" / self.host

    @property
    def socket(self) -> Path:
        """The agent's socket."""
        return self.directory / "run" / "agent.sock"

    @property
    def subnet_file(self) -> Path:
        """What the agent tells container engines; the default place is the machine's own."""
        return self.directory / "run" / "subnet.env"

    @property
    def docker(self) -> Path:
        """What belongs to the host's Docker engine; absent until it has one."""
        return self.directory / "docker"

    @property
    def daemon_json(self) -> Path:
        """That engine's settings."""
        return self.docker / "daemon.json"

    @property
    def docker_host(self) -> str:
        """Where that engine listens, for ``docker``."""
        return f"unix://{self.docker / 'docker.sock'}"

    @property
    def log(self) -> Path:
        """What the agent says."""
        return self.directory / "agent.log"

    def make(self, agent: Mapping[str, Any]) -> None:
        """Create the host's directories, its ``netloom.yaml`` and its CNI executable."""
        for name in ("state", "run", "containers", "cni", "bin"):
            (self.directory / name).mkdir(mode=0o700, parents=True, exist_ok=True)
        record.write_json(self.directory / "netloom.yaml", dict(agent))  # all JSON is YAML
        (self.directory / "bin" / PLUGIN).symlink_to(build.executable())

    def settings(self) -> dict[str, str]:
        """Return the ``NETLOOM_*`` variables that make a command one of this host."""
        return {
            "NETLOOM_CONFIG": str(self.directory / "netloom.yaml"),
            "NETLOOM_STATE_DIR": str(self.directory / "state"),
            "NETLOOM_RUN_DIR": str(self.directory / "run"),
            "NETLOOM_SOCKET": str(self.socket),
            "NETLOOM_SUBNET_FILE": str(self.subnet_file),
            "NETLOOM_DATASTORE": datastore(self.lab),
            "NETLOOM_HOST_ID": self.host,
            "NETLOOM_HOST_NAME": self.host,
            "NETLOOM_DAEMON_JSON": str(self.daemon_json),
            "DOCKER_HOST": self.docker_host,
            MARK: f"{self.lab}/{self.host}",
        }

    def environment(self) -> dict[str, str]:
        """Return the environment of everything that runs on this host.

        The caller's own, without its Netloom settings, with this installation's ``netloom`` on the
        PATH.
        """
        kept = {k: v for k, v in os.environ.items() if not k.startswith("NETLOOM_")}
        binaries = os.path.dirname(sys.executable)
        kept["PATH"] = f"{binaries}:{kept.get('PATH', os.defpath)}"
        if "NETLOOM_LAB_DIR" in os.environ:
            kept["NETLOOM_LAB_DIR"] = os.environ["NETLOOM_LAB_DIR"]
        return kept | self.settings()

    @property
    def process(self) -> Process | None:
        """The agent's process if it is alive."""
        data = record.read_json(self.directory / "agent.json")
        process = Process.parse(data) if data else None
        return process if process and process.alive else None


def datastore(lab: str) -> str:
    """Return the URL of the lab's common store, as its hosts reach it."""
    if etcd.members(lab):
        return etcd.agents_url(lab)
    return f"sqlite://{record.directory(lab) / 'store' / 'cluster.db'}"


def start(home: Home) -> Process:
    """Start the host's agent; return as soon as the process is there.

    Raises Conflict when it runs already.
    """
    running = home.process
    if running:
        raise Conflict(
            f"the agent of {home.host} runs already, as process {running.pid}",
            hint=f"`netloom lab fault {home.host} kill-agent` ends it",
        )
    netns = namespaces.path(wiring.namespace(home.lab, home.host))
    argv = ["nsenter", f"--net={netns}", sys.executable, "-m", "netloom", "agent"]
    process = processes.start_detached(argv, home.environment(), home.log)
    if process is None:
        raise Unavailable(f"the agent of {home.host} ended at once", hint=last_words(home))
    record.write_json(home.directory / "agent.json", process.render())
    return process


def wait_ready(home: Home, patience_s: float = READY_PATIENCE_S) -> dict[str, Any]:
    """Return the agent's status when it is ready, or has had problems for a few seconds.

    What is wrong then is for the user to see, on a host that stands. Raises Unavailable when the
    process ends or the patience does, with the log's last lines.
    """
    looked_s = time.monotonic()
    stuck_s = 0.0

    def look() -> dict[str, Any] | None:
        nonlocal looked_s, stuck_s
        if home.process is None:
            raise Unavailable(f"the agent of {home.host} ended", hint=last_words(home))
        try:
            answer = status(home)
        except Unavailable:
            return None
        before_s, looked_s = looked_s, time.monotonic()
        stuck_s = stuck_s + min(looked_s - before_s, ANSWER_PAUSE_S) if why_not_ready(answer) else 0
        return answer if answer["ready"] or stuck_s > PROBLEM_PATIENCE_S else None

    try:
        answer = wait_until(look, deadline_s=patience_s, what=f"the agent of {home.host}")
    except Unavailable as error:
        raise Unavailable(str(error), hint=error.hint or last_words(home)) from None
    assert answer is not None
    return answer


def why_not_ready(answer: Mapping[str, Any]) -> str:
    """Return the reasons that a status gives for not being ready; "" when it gives none."""
    if answer["ready"]:
        return ""
    reasons = [problem["text"] for problem in answer["problems"]]
    if answer["store"]["state"] != "connected":
        reasons.append(f"the store is {answer['store']['state']}: {answer['store']['error']}")
    return "; ".join(reasons)


def stop(home: Home, number: signal.Signals = signal.SIGTERM) -> None:
    """End the host's agent and return when it is gone; gone already is well."""
    process = home.process
    if process is None:
        return
    process.signal(number)
    if number == signal.SIGKILL:
        processes.end([process])
        return
    process.signal(signal.SIGCONT)
    wait_until(
        lambda: processes.gone(process),
        deadline_s=STOP_PATIENCE_S,
        what=f"the agent of {home.host} (process {process.pid}) to end",
    )


def status(home: Home, patience_s: float = ANSWER_PATIENCE_S) -> dict[str, Any]:
    """Return what the agent answers to ``GET /v1/status``. Raises Unavailable."""
    connection = _Unix(str(home.socket), patience_s)
    try:
        connection.request("GET", "/v1/status")
        answer = json.loads(connection.getresponse().read())
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise Unavailable(
            f"the agent of {home.host} does not answer: {error}",
            hint=f"its log is {home.log}",
        ) from None
    finally:
        connection.close()
    if not isinstance(answer, dict):
        raise Unavailable(f"the agent of {home.host} answered {answer!r}")
    return answer


def last_words(home: Home, lines: int = 5) -> str:
    """Return the end of the agent's log, and where the rest is."""
    try:
        text = home.log.read_text("utf-8", "replace")
    except OSError:
        return f"it left no log at {home.log}"
    return "\n".join(["its last words:", *text.splitlines()[-lines:], f"({home.log})"])


class _Unix(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path: str, patience_s: float) -> None:
        super().__init__("localhost", timeout=patience_s)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)
