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
def lab_names(run_id: str) -> Iterator[str]:
    return (f"doc-{run_id}-{number}" for number in itertools.count())


@pytest.fixture
def shell(lab_names: Iterator[str], tmp_path: Path) -> Iterator[Run]:
    """Return a function that runs a script with a lab's name of its own in the environment."""
    if os.geteuid() != 0:
        pytest.skip("a lab needs root")
    made = []

    def run(*command: str, cwd: Path = tmp_path) -> subprocess.CompletedProcess[str]:
        name = next(lab_names)
        made.append(name)
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        return subprocess.run(
            command,
            cwd=cwd,
            env={**os.environ, "NETLOOM_LAB": name, "NETLOOM_LAB_DIR": LAB_DIR, "PATH": path},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=100,
            check=False,
        )

    yield run
    for name in made:
        teardown.down(name)
