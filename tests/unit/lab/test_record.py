"""The directory of labs: what is in it by accident is no lab, and goes."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from netloom.lab import record, teardown


@pytest.fixture
def labs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a directory with what two builders have of their labs: one is dead, one is alive."""
    monkeypatch.setenv("NETLOOM_LAB_DIR", str(tmp_path))
    with subprocess.Popen(["true"]) as dead:
        (tmp_path / f".one.{dead.pid}").mkdir()
    (tmp_path / f".two.{os.getpid()}").mkdir()
    return tmp_path


def test_what_a_builder_has_before_the_name_is_its_own_is_no_lab(labs: Path) -> None:
    assert record.names() == []


def test_what_a_builder_left_that_died_is_swept_and_that_of_a_living_one_stays(labs: Path) -> None:
    teardown.sweep()
    assert [entry.name for entry in labs.iterdir()] == [f".two.{os.getpid()}"]


def test_a_file_of_another_kind_is_left_alone(labs: Path) -> None:
    (labs / ".hidden.directory").mkdir()
    teardown.sweep()
    assert (labs / ".hidden.directory").exists()
