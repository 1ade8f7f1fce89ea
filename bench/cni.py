"""CNI ADD: one at a time and in a burst, against Debian's bridge + host-local in the same run."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from bench.figures import figure, ratio
from netloom.drivers.cni import build
from netloom.kernel import namespaces
from netloom.lab.documents import default_document
from netloom.lab.lab import Lab
from netloom.lab.processes import myself

SINGLE = 40
BURST = 64
CALLERS = 16
RUNS = 5
_PLUGINS = Path("/usr/lib/cni")


class Caller:
    """Calls a plugin as a runtime does, inside a host's namespace, for containers made before."""

    def __init__(self, host: str, plugin: Path, config: bytes, environment: dict[str, str]) -> None:
        self._host = host
        self._plugin = plugin
        self._config = config
        self._environment = environment

    def call(self, command: str, container: str) -> float:
        """Run one command; return its milliseconds."""
        environment = {
            **self._environment,
            "CNI_COMMAND": command,
            "CNI_CONTAINERID": container,
            "CNI_NETNS": str(namespaces.path(container)),
            "CNI_IFNAME": "eth0",
            "CNI_PATH": str(_PLUGINS),
        }
        began = time.perf_counter()
        done = subprocess.run(
            [str(self._plugin)],
            input=self._config,
            env=environment,
            capture_output=True,
            check=False,
        )
        took = (time.perf_counter() - began) * 1000
        assert done.returncode == 0, done.stdout.decode() + done.stderr.decode()
        return took

    def inside(self, work: Callable[[], float]) -> float:
        """Run ``work`` in the host's namespace: what it starts is born there."""
        return namespaces.in_namespace(namespaces.path(self._host), work)


def main() -> None:
    """Measure and print."""
    network = {"name": "default", "preset": "flannel"}
    folder = Path(tempfile.mkdtemp(prefix="netloom-bench-"))
    try:
        with (
            Lab.up(default_document(hosts=1, network=network), name=_name(), owner=myself()) as lab,
            _containers(BURST) as names,
        ):
            home = lab.host("h1").home
            ours = _ours(lab)
            python = Caller(
                lab.host("h1").namespace, _python_front(folder), _CONFIG, home.environment()
            )
            reference = _reference(lab.host("h1").namespace, folder)
            _compare(ours, python, reference, names)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


_CONFIG = json.dumps({"cniVersion": "1.0.0", "name": "default", "type": "netloom-cni"}).encode()


def _compare(ours: Caller, python: Caller, reference: Caller, names: Sequence[str]) -> None:
    singles: dict[str, list[float]] = {"netloom-cni": [], "Python front": [], "bridge": []}
    callers = {"netloom-cni": ours, "Python front": python, "bridge": reference}
    for name in names[:SINGLE]:
        for label, caller in callers.items():
            singles[label].append(caller.inside(lambda c=caller, n=name: c.call("ADD", n)))
            caller.inside(lambda c=caller, n=name: c.call("DEL", n))
    mine = figure("CNI ADD, netloom-cni", "ms", singles["netloom-cni"])
    slow = figure("CNI ADD, the Python front", "ms", singles["Python front"])
    theirs = figure("CNI ADD, bridge + host-local", "ms", singles["bridge"])
    ratio("one ADD, netloom-cni / bridge + host-local", mine.median, theirs.median, "≤ 1.5, aim 1")
    ratio("one ADD, Python front / bridge + host-local", slow.median, theirs.median, "—")
    rates: dict[str, list[float]] = {"netloom-cni": [], "bridge": []}
    for _ in range(RUNS):
        for label, found in rates.items():
            found.append(_burst(callers[label], names))
    mine = figure(f"burst of {BURST} ADDs, {CALLERS} callers, ours", "ADD/s", rates["netloom-cni"])
    theirs = figure(f"burst of {BURST} ADDs, {CALLERS} callers, bridge", "ADD/s", rates["bridge"])
    ratio("burst, netloom-cni / bridge + host-local", mine.median, theirs.median, "≥ 1.0, aim 1.5")


def _burst(caller: Caller, names: Sequence[str]) -> float:
    """Attach all containers from ``CALLERS`` threads; return ADDs per second. Detach them."""

    def each(command: str) -> float:
        began = time.perf_counter()
        with ThreadPoolExecutor(CALLERS) as pool:
            list(pool.map(lambda n: caller.inside(lambda: caller.call(command, n)), names))
        return time.perf_counter() - began

    took = each("ADD")
    each("DEL")
    return len(names) / took


def _ours(lab: Lab) -> Caller:
    host = lab.host("h1")
    return Caller(host.namespace, Path(build.executable()), _CONFIG, host.home.environment())


def _python_front(folder: Path) -> Path:
    """Return an executable that runs the Python front as the fallback does."""
    source = Path(build.__file__).with_name("front.py")
    script = folder / "netloom-cni-python"
    script.write_text(f"#!{sys.executable} -IS\n" + source.read_text())
    script.chmod(0o755)
    return script


def _reference(host: str, folder: Path) -> Caller:
    config = {
        "cniVersion": "1.0.0",
        "name": "reference",
        "type": "bridge",
        "bridge": "ref0",
        "isGateway": True,
        "ipam": {
            "type": "host-local",
            "subnet": "10.250.0.0/24",
            "routes": [{"dst": "0.0.0.0/0"}],
            "dataDir": str(folder / "host-local"),
        },
    }
    return Caller(host, _PLUGINS / "bridge", json.dumps(config).encode(), dict(os.environ))


def _name() -> str:
    return f"bench{os.getpid()}"


@contextmanager
def _containers(count: int) -> Iterator[list[str]]:
    names = [f"nl-bench{os.getpid()}-c{number}" for number in range(count)]
    try:
        for name in names:
            namespaces.create(name)
        yield names
    finally:
        for name in names:
            namespaces.delete(name)


if __name__ == "__main__":
    main()
