"""Labs for tests: named after the run, owned by it, and gone afterwards, whatever happens."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest

from netloom.lab import record, teardown
from netloom.lab.lab import Lab
from netloom.lab.processes import myself

#: Labs of tests live apart from those of people, so that neither's `down --all` takes the other's.
LAB_DIR = "/run/netloom-test-labs"
LabUp = Callable[..., Lab]


@pytest.fixture(scope="session", autouse=True)
def _labs_apart(run_id: str) -> Iterator[None]:
    """Keep labs of tests apart, take down those of dead runs, and at the end those of this one."""
    before = os.environ.get("NETLOOM_LAB_DIR")
    os.environ["NETLOOM_LAB_DIR"] = LAB_DIR
    teardown.sweep()
    yield
    for name in record.names():
        if name.startswith(f"t{run_id}-"):
            teardown.down(name)
    if before is None:
        del os.environ["NETLOOM_LAB_DIR"]
    else:
        os.environ["NETLOOM_LAB_DIR"] = before


@pytest.fixture(scope="session")
def lab_names(run_id: str) -> Iterator[str]:
    """Return names for labs of this run, a new one with each ``next``."""
    return (f"t{run_id}-{number}" for number in itertools.count())


@pytest.fixture
def lab_up(lab_names: Iterator[str]) -> Iterator[LabUp]:
    """Return a function that brings a lab up; all of them are down after the test."""
    made: list[Lab] = []

    def up(document: Mapping[str, Any], **options: Any) -> Lab:
        name = options.pop("name", None) or next(lab_names)
        lab = Lab.up(document, name=name, owner=myself(), **options)
        made.append(lab)
        return lab

    yield up
    for lab in made:
        lab.down()
