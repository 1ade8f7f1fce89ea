"""The daemon that mixed clusters are tried with is flannel's, never ours under its name."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.scenes import flanneld

OURS = Path(sys.executable).with_name("flanneld")


@pytest.fixture(autouse=True)
def anew(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv("NETLOOM_FLANNELD", raising=False)
    monkeypatch.delenv("NETLOOM_BUILD_FLANNELD", raising=False)
    flanneld.find.cache_clear()
    yield
    flanneld.find.cache_clear()


def program(folder: Path, name: str) -> Path:
    """Return a program that has what is looked for, and does nothing."""
    folder.mkdir()
    path = folder / name
    path.write_bytes(b"\x7fELF..-subnet-lease-renew-margin..")
    path.chmod(0o755)
    return path


@pytest.mark.skipif(not OURS.exists(), reason="needs our flanneld beside the interpreter")
def test_ours_in_the_path_is_passed_by(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(OURS.parent))
    assert shutil.which("flanneld") == str(OURS)
    assert flanneld.find()[0] == ""
    flanneld.find.cache_clear()
    theirs = program(tmp_path / "go", "flanneld")
    monkeypatch.setenv("PATH", f"{OURS.parent}:{theirs.parent}")
    assert flanneld.find() == (str(theirs), "")


@pytest.mark.skipif(not OURS.exists(), reason="needs our flanneld beside the interpreter")
def test_ours_named_for_theirs_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NETLOOM_FLANNELD", str(OURS))
    found, why = flanneld.find()
    assert not found
    assert f"{OURS} is not flannel's daemon" in why


def test_as_go_installs_it_it_is_called_flannel(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    theirs = program(tmp_path / "go", "flannel")
    monkeypatch.setenv("PATH", str(theirs.parent))
    assert flanneld.find() == (str(theirs), "")
