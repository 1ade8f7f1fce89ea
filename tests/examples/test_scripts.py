"""Every numbered example runs to its end and leaves nothing behind."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from netloom.lab import record, teardown

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
SCRIPTS = sorted(path.name for path in EXAMPLES.glob("*.sh"))
#: Two engines start three times; docs/docker.md, which is typed as well, goes the same way.
SLOW = "11-docker-engines.sh"


@pytest.mark.timeout(600)  # dozens of commands, each a start of Python
@pytest.mark.parametrize(
    "script",
    [pytest.param(each, marks=[pytest.mark.slow] * (each == SLOW)) for each in SCRIPTS],
)
def test_the_example_runs_and_takes_its_lab_away(
    shell: Callable, lab_name: str, script: str
) -> None:
    done = shell(str(EXAMPLES / script))
    assert done.returncode == 0, done.stdout
    assert lab_name not in record.names()
    assert teardown.namespaces_of(lab_name) == []


def test_examples_are_numbered_without_a_gap_and_listed_in_the_readme() -> None:
    assert [int(name[:2]) for name in SCRIPTS] == list(range(1, len(SCRIPTS) + 1))
    readme = (EXAMPLES.parent / "README.md").read_text()
    assert set(re.findall(r"examples/([0-9][0-9a-z-]+\.sh)", readme)) == set(SCRIPTS)
