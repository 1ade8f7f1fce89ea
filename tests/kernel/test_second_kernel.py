"""What stands around the second kernel of ``tests/uml``: it tells of its end, whatever that was."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.uml import second_kernel

pytestmark = pytest.mark.skipif(bool(second_kernel.missing()), reason=second_kernel.missing())


def _nothing(folder: Path) -> None:
    """Collect nothing."""


def test_a_command_says_how_it_ended() -> None:
    ran, _ = second_kernel.run("echo here; exit 3", _nothing)
    assert ran.status == 3
    assert ran.output.startswith("here\n")


def test_a_kernel_that_panics_is_not_waited_for() -> None:
    """The limit of all tests is below the patience that a second kernel has."""
    ran, _ = second_kernel.run("echo c >/proc/sysrq-trigger; sleep 1000", _nothing)
    assert ran.status is None
    assert "sysrq" in str(ran)
