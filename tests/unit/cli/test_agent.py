"""``netloom agent`` before it takes anything: what no patience can mend ends it at once."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("kubernetes://default", "kubernetes datastore cannot be used yet"),
        ("etcd://h1", "endpoint 'h1' has no port"),
        ("etcd://h1:2379?prefx=/a", "unknown option 'prefx'"),
        ("sqlite://state/x.db", "names no absolute path"),
    ],
)
def test_a_datastore_that_can_never_be_opened_ends_the_agent_with_3(
    url: str, words: str, tmp_path: Path
) -> None:
    places = ["--state-dir", str(tmp_path / "state"), "--run-dir", str(tmp_path / "run")]
    argv = [sys.executable, "-m", "netloom", "agent", *places, "--datastore", url]
    # a namespace of its own: an agent that wrongly starts finds no kernel of the machine's to keep
    said = subprocess.run(
        ["unshare", "--net", *argv], capture_output=True, text=True, timeout=100, check=False
    )
    assert said.returncode == 3, said.stderr
    assert words in said.stderr
    assert list(tmp_path.iterdir()) == []
