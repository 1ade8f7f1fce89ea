"""Sockets in short, private folders: the kernel allows no path longer than 107 bytes."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def run_dir() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="nl-") as folder:
        yield Path(folder)
