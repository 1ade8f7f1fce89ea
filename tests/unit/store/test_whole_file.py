"""A file is replaced as a whole, or stays as it was."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from netloom.model.errors import InvalidConfig, NotPermitted
from netloom.store.whole_file import write_whole


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_it_is_made_with_its_folder_and_the_mode_whatever_the_umask(tmp_path: Path) -> None:
    path = tmp_path / "new" / "file"
    before = os.umask(0o077)
    try:
        write_whole(path, "one\r\n", 0o644)
    finally:
        os.umask(before)
    assert path.read_bytes() == b"one\r\n"
    assert mode(path) == 0o644
    assert os.listdir(path.parent) == ["file"]


def test_one_that_inherits_keeps_mode_and_owner_and_a_link_stays_one(tmp_path: Path) -> None:
    real, link = tmp_path / "real", tmp_path / "link"
    real.write_text("old")
    real.chmod(0o640)
    if os.geteuid() == 0:
        os.chown(real, 1234, 4321)
    link.symlink_to(real)
    write_whole(link, "new", inherit=True)
    assert link.is_symlink()
    assert (real.read_text(), mode(real)) == ("new", 0o640)
    if os.geteuid() == 0:
        assert (real.stat().st_uid, real.stat().st_gid) == (1234, 4321)


def test_what_cannot_be_written_is_told_and_leaves_nothing_behind(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    long = tmp_path / ("x" * 255)  # its neighbour's name would be too long
    with pytest.raises((InvalidConfig, NotPermitted), match="cannot be written") as caught:
        write_whole(long, "new")
    assert caught.value.hint
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["file"]
