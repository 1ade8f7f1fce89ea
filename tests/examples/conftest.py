"""Labs for examples and documents: a name of the run, and gone when the run is, however it ends."""

from __future__ import annotations

import itertools
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from netloom.lab import record, teardown
from netloom.lab.processes import Process

REPOSITORY = Path(__file__).resolve().parents[2]
#: Apart from labs of people and of other tests: nobody's `lab down --all` takes another's.
LAB_DIR = "/run/netloom-test-examples"
#: Below the limit of one test (pyproject.toml), or that of its mark.
PATIENCE_S = 280.0
NAME = re.compile(r"doc-(\d+)x([0-9a-f]+)-\d+")

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="session", autouse=True)
def _labs_apart(run_id: str) -> Iterator[None]:
    """Take down the labs of dead runs, and at the end those of this one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NETLOOM_LAB_DIR", LAB_DIR)
        for name in record.names():
            match = NAME.fullmatch(name)
            owner = Process(int(match[1]), int(match[2], 16)) if match else None
            if owner and not owner.alive:
                teardown.down(name)
        yield
        for name in record.names():
            if name.startswith(f"doc-{run_id}-"):
                teardown.down(name)


@pytest.fixture(scope="session")
def _lab_names(run_id: str) -> Iterator[str]:
    return (f"doc-{run_id}-{number}" for number in itertools.count())


@pytest.fixture
def lab_name(_lab_names: Iterator[str]) -> Iterator[str]:
    """Return the name of a lab that is this test's alone; the lab is gone after the test."""
    name = next(_lab_names)
    yield name
    teardown.down(name)


@pytest.fixture
def shell(lab_name: str, tmp_path: Path, request: pytest.FixtureRequest) -> Run:
    """Return a function that runs a command for which ``lab_name`` is the lab."""
    if os.geteuid() != 0:
        pytest.skip("a lab needs root")
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    said = request.node.get_closest_marker("timeout")
    patience_s = said.args[0] - 20 if said else PATIENCE_S
    own = {"NETLOOM_LAB": lab_name, "PATH": path}

    def run(*command: str, cwd: Path = tmp_path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command,
            cwd=cwd,
            env={**os.environ, **own},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=patience_s,
            check=False,
        )

    return run
